"""Tasks scored by several processes give what one process gives."""

import os
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.run import PARTS, evaluate

SETTINGS = EvalSettings(templates=["cloze", "either_or"], shots=[0], limit=6)


def written(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.startswith(("results_", "samples_"))}


def dies(*_: object) -> None:
    os._exit(9)


def test_two_processes_write_what_one_writes(model: Path, release: Path, tmp_path: Path) -> None:
    one = evaluate(str(model), release, SETTINGS, tmp_path / "one")
    two = evaluate(str(model), release, SETTINGS.model_copy(update={"processes": 2}), tmp_path / "two")
    assert len(written(one)) == 3
    assert written(two) == written(one)
    assert len(list((tmp_path / "two" / model.name / PARTS).iterdir())) == 2


@pytest.mark.long
def test_a_process_that_is_gone_is_said_in_one_line(
    model: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhiling.eval_tasks.processes._ask_here", dies)
    with pytest.raises(UserError, match="--processes 2: one of the processes ended before its time"):
        evaluate(str(model), release, SETTINGS.model_copy(update={"processes": 2}), tmp_path)
