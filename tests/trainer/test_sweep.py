"""A sweep: trials by number, whatever the workers; failures recorded; killed and gone on with; the best written out."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import UserError
from zhiling.settings import parse, read_yaml
from zhiling.store import locked, read_manifest
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import instruct
from zhiling.trainer.sweep import Job, run_trial, sweep
from zhiling.trainer.sweep_space import read_sweep, write_best

from .test_sweep_space import RATE, TRAIN, recipe


@pytest.fixture(scope="module")
def swept(release: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("sweep")
    document = recipe(folder)
    return folder, sweep(read_sweep(document), document.data["train"], release, pretrained, folder / "out")


def test_the_best_comes_first_and_a_failed_trial_says_why(swept: tuple[Path, list[Any]]) -> None:
    folder, rows = swept
    done = [row for row in rows if row["state"] == "complete"]
    failed = [row for row in rows if row["state"] == "failed"]
    assert len(done) + len(failed) == 4 and done and failed and rows[: len(done)] == done
    assert [row["value"] for row in done] == sorted(row["value"] for row in done)
    assert all(row["instruct.adapter.method"] == "prompt" and "no rows to train on" in row["reason"] for row in failed)
    assert all(1e-4 <= row[RATE] <= 0.1 for row in rows)
    lines = [json.loads(line) for line in (folder / "out" / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["trial"] for line in lines] == [0, 1, 2, 3]
    with (folder / "out" / "trials.csv").open(encoding="utf-8") as f:
        assert [row["state"] for row in csv.DictReader(f)] == [line["state"] for line in lines]
    for plot in ("history.png", "slices.png"):
        assert (folder / "out" / plot).read_bytes().startswith(b"\x89PNG")
    assert not list(folder.rglob("*.safetensors"))


def test_the_best_recipe_trains_the_best_trial_again(
    swept: tuple[Path, list[Any]], release: Path, pretrained: Path, tmp_path: Path
) -> None:
    folder, rows = swept
    document = read_yaml(folder / "recipe.yaml")
    path = write_best(document, read_sweep(document), rows[0])
    assert path == folder / "recipe.best.yaml" and "sweep" not in read_yaml(path).data
    settings = parse(TrainSettings, read_yaml(path), read_yaml(path).data["train"], ("train",))
    again = instruct(release, pretrained, settings, tmp_path / "again")
    assert read_manifest(again, "model")["training"]["validation_loss"] == rows[0]["value"]
    path.write_text("mine: true\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"recipe\.best\.yaml: exists and was not made by a sweep; move it away"):
        write_best(document, read_sweep(document), rows[0])


def test_a_finished_sweep_is_kept_and_another_is_not_mixed_in(
    swept: tuple[Path, list[Any]], release: Path, pretrained: Path, tmp_path: Path
) -> None:
    folder, rows = swept
    document = recipe(tmp_path)
    assert sweep(read_sweep(document), document.data["train"], release, pretrained, folder / "out") == rows
    other = read_sweep(recipe(tmp_path, sampler="random"))
    with pytest.raises(UserError, match=r"an unfinished run of other settings \(sweep\.sampler tpe → random\)"):
        sweep(other, document.data["train"], release, pretrained, folder / "out")


def test_what_no_trial_could_train_on_is_refused_before_there_is_one(
    release: Path, pretrained: Path, tmp_path: Path
) -> None:
    document = recipe(tmp_path)
    train, out = document.data["train"], tmp_path / "out"
    with pytest.raises(UserError, match=r"none: no config\.json in it; give the folder of a transformers model"):
        sweep(read_sweep(document), train, release, tmp_path / "none", out)
    with pytest.raises(UserError, match=r"none: no manifest\.json in it; give the folder of a release"):
        sweep(read_sweep(document), train, tmp_path / "none", pretrained, out)
    assert not out.exists()
    out.mkdir()
    refused = pytest.raises(UserError, match="out: another sweep is writing here; wait for it to end")
    with locked(out), refused:
        sweep(read_sweep(document), train, release, pretrained, out)


def test_a_hopeless_trial_is_ended_at_a_validation(
    swept: tuple[Path, list[Any]], release: Path, pretrained: Path, tmp_path: Path
) -> None:
    """Four trials that did better are in the study; the fifth is stopped by Optuna's median rule."""
    from zhiling.trainer.sweep import open_study

    document = recipe(tmp_path)
    settings = read_sweep(document)
    study, _ = open_study(tmp_path, settings)
    for _ in range(4):
        trial = study.ask()
        for number in range(1, 6):
            trial.report(0.1, number)
        study.tell(trial, 0.1)
    study.ask()
    params = {RATE: 1e-4, "instruct.adapter.method": "lora"}
    job = Job(4, params, document.data["train"], settings, release, pretrained, tmp_path)
    found = run_trial(job)
    assert found["state"] == "pruned" and found["value"] > 0.1
    assert run_trial(job) == found  # it is not run again
    steps = (job.home / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 < len(steps) < 12 and sorted(p.name for p in job.home.iterdir()) == ["metrics.jsonl", "result.json"]


@pytest.mark.long
def test_workers_and_kills_change_no_trial(release: Path, pretrained: Path, tmp_path: Path) -> None:
    """Two rounds of four, by one worker, by two, and killed twice on the way: the same trials with the same values."""
    document = recipe(tmp_path, {**TRAIN, "instruct": {**TRAIN["instruct"], "checkpoint_seconds": 0}}, trials=8)

    def command(out: str, workers: int) -> list[str]:
        where = ["--release", str(release), "--model", str(pretrained), "-o", str(tmp_path / out), "-w", str(workers)]
        return [sys.executable, "-m", "zhiling", "-q", "sweep", str(document.path), *where]

    def trials(out: str) -> str:
        return (tmp_path / out / "sweeps" / "recipe" / "trials.jsonl").read_text(encoding="utf-8")

    for out, workers in (("one", 1), ("two", 2)):
        subprocess.run(command(out, workers), check=True, capture_output=True)
    for done in (1, 5):
        process = subprocess.Popen(command("killed", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        home = tmp_path / "killed" / "sweeps" / "recipe" / "trials"
        while process.poll() is None and len(list(home.glob("*/result.json"))) < done:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command("killed", 2), check=True, capture_output=True)
    assert trials("one") == trials("two") == trials("killed")
