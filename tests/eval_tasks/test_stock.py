"""Stock `lm_eval --include_path` on six exported public tasks gives the scores of `zhiling eval`, number by number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zhiling.cli import run_args
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.results import read_run
from zhiling.eval_tasks.run import score

TASKS = ["fewclue/eprstmt", "fewclue/tnews", "fewclue/ocnli", "fewclue/bustm", "thucnews", "sst2"]


@pytest.mark.long
def test_stock_lm_eval_scores_six_public_tasks_alike(model: Path, shared_data: Path, tmp_path: Path) -> None:
    settings = EvalSettings(data=str(shared_data), packs=TASKS, templates=["question"], shots=[1], limit=20)
    ours = read_run(score(str(model), settings, tmp_path / "results"))
    told = ["--tasks", ",".join(TASKS), "--data", str(shared_data), "--templates", "question", "--shots", "1"]
    assert run_args(["tasks", "export", *told, "--limit", "20", "-o", str(tmp_path / "tasks")]) == 0
    names = sorted(ours.results["results"])
    assert len(names) == 6
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
        "--include_path", str(tmp_path / "tasks"), "--tasks", ",".join(names), "--device", "cpu", "--batch_size", "4",
        "--output_path", str(tmp_path / "stock"), "--log_samples",
    ]
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = {p.parent for p in (tmp_path / "stock").rglob("results_*.json")}
    stock = read_run(folder)
    for name in names:
        for metric in ("acc,none", "acc_norm,none"):
            assert stock.results["results"][name][metric] == ours.results["results"][name][metric]
    mine = {(s.task, s.source_id): s for s in ours.samples}
    assert {(s.task, s.source_id) for s in stock.samples} == mine.keys()
    for sample in stock.samples:
        own = mine[sample.task, sample.source_id]
        assert (sample.prompt, sample.prediction) == (own.prompt, own.prediction)
        assert sample.logprobs == pytest.approx(own.logprobs, abs=1e-4)
