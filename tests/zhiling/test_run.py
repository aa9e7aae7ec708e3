"""`zhiling run`: models are trained, scored on public data and put on a board; a second time nothing is made."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RecipeMaker
from tests.eval_tasks.test_record import write_public
from tests.trainer.conftest import TINY
from zhiling.cli import run_args
from zhiling.eval_tasks.results import find_runs, read_run

MODELS = [
    {"name": "base", "stage": "pretrain"},
    {"name": "tuned", "stage": "instruct", "from": "base"},
]
EVAL = {
    "data": "data", "packs": ["fewclue/eprstmt"], "templates": ["cloze"], "shots": [0, 1], "limit": 6,
    "check_contamination": True, "prompts": False, "compress": True,
}


def test_models_are_trained_scored_and_marked(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus(reviews[:150] + reviews[-150:])
    write_public(make.folder / "data", reviews[160:200] + reviews[400:440], reviews[10:13] + reviews[300:310])
    recipe = str(make.recipe(train=TINY, models=MODELS, eval=EVAL))
    assert run_args(["run", recipe, "-o", str(tmp_path / "out"), "-w", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[-4:]] == ["release", "model", "model", "leaderboard"]
    runs = {run.model: run for run in map(read_run, find_runs(tmp_path / "out" / "tiny"))}
    assert runs.keys() == {"baseline:majority", "baseline:linear", "base", "tuned"}
    marks = [task["contamination"] for task in runs["tuned"].manifest["tasks"].values()]
    assert all(m["documents"] == 6 and m["contaminated"] > 0 for m in marks)  # texts 10 to 13 are in the corpus too
    assert "contamination" not in next(iter(runs["baseline:linear"].manifest["tasks"].values()))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    assert run_args(["run", recipe, "-o", str(tmp_path / "out"), "-w", "1"]) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")} == before
    assert "tuned: scored before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": MODELS}, "models: models without a `train` section; add `train:`"),
        ({"train": TINY, "models": [MODELS[1]]}, "models[0].from: no model 'base' before it"),
        ({"eval": {"pack": ["x"]}}, "eval.pack: unknown key; did you mean 'packs'?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(
    changes: dict[str, Any], message: str, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make.corpus(reviews[:20])
    assert run_args(["run", str(make.recipe(**changes)), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
