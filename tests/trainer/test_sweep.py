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
import yaml

from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.settings import Document, parse, read_yaml
from zhiling.store import read_manifest
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import instruct
from zhiling.trainer.sweep import Job, read_sweep, run_trial, sweep, with_params, write_best

from .conftest import TINY

RATE = "instruct.optimizer.learning_rate"
TRAIN: dict[str, Any] = {
    **TINY,
    "instruct": {
        "epochs": 0.2, "batch_rows": 8, "micro_tokens": 1024, "validation_rows": 8, "validate_every": 0.05,
        "adapter": {"virtual_tokens": 300},  # more than the context holds: prompt tuning fails
    },
}
SWEEP = {
    "trials": 4, "seed": 5,
    "search": {
        RATE: {"low": "1e-4", "high": 0.1, "log": True}, "instruct.adapter.method": {"choices": ["lora", "prompt"]},
    },
}


def recipe(folder: Path, train: Any = TRAIN, **changes: Any) -> Document:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"train": train, "sweep": {**SWEEP, **changes}}), encoding="utf-8")
    return read_yaml(path)


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


@pytest.mark.parametrize(("changes", "said"), [
    ({"search": {}}, r"sweep\.search: found {}; Dictionary should have at least 1 item"),
    ({"search": {"instruct.optimizer.learning_rat": {"low": 1, "high": 2}}},
     r"recipe\.yaml:\d+: sweep\.search\.instruct\.optimizer\.learning_rat: 1: unknown key; did you mean 'learning_rat"),
    ({"search": {RATE: {"low": 0.5, "high": 3}}}, r"learning_rate: 3: found 3; Input should be less than"),
    ({"search": {RATE: {"low": 0.5, "high": 0.1}}}, r"give `low` below `high`"),
    ({"search": {RATE: {"low": 0, "high": 0.1, "log": True}}}, r"`log` needs a `low` above 0"),
    ({"search": {RATE: {"choices": [0.1], "low": 0.1}}}, r"give `low` and `high`, or `choices`"),
    ({"search": {"pretrain.epochs": {"choices": [1, 2]}}}, r"not a key of the stage instruct; write instruct\.KEY"),
    ({"search": {"instruct.average": {"choices": ["token", "example"]}}}, r"changes what the validation loss measures"),
])
def test_what_cannot_be_swept_is_refused_with_its_line(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_sweep(recipe(tmp_path, **changes))


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"zhiling sweep: optuna is not installed; pip install 'zhiling\[sweep\]'"):
        read_sweep(recipe(tmp_path))


def test_keys_are_set_without_touching_the_recipe() -> None:
    train: dict[str, Any] = {"instruct": {"adapter": None, "epochs": 1}}
    changed = with_params(train, {"instruct.adapter.rank": 4, "seed": 3})
    assert changed == {"instruct": {"adapter": {"rank": 4}, "epochs": 1}, "seed": 3}
    assert train == {"instruct": {"adapter": None, "epochs": 1}}


def test_a_recipe_without_the_section_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("train: {seed: 1}\n", encoding="utf-8")
    assert run_args(["sweep", str(tmp_path / "r.yaml")]) == 2
    assert "r.yaml: no `sweep` section in it; add one" in capsys.readouterr().err


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
