"""A dry run: the cost of each stage in numbers, and nothing written."""

from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import UserError
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import finetune, instruct, pretrain

from .conftest import TINY


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """The numbers of a plan that was printed."""
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    return {line[1].strip(): int(line[2].replace(",", "")) for line in lines}


@pytest.mark.parametrize("stage", ["pretrain", "instruct", "finetune"])
def test_a_dry_run_says_what_a_stage_costs_and_writes_nothing(
    release: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    settings = TrainSettings.model_validate({**TINY, "finetune": {**TINY["instruct"], "adapter": {"rank": 2}}})
    if stage == "pretrain":
        pretrain(release, settings, tmp_path / "model", dry=True)
    else:
        (instruct if stage == "instruct" else finetune)(release, pretrained, settings, tmp_path / "model", dry=True)
    cost = said(capsys)
    assert list(cost) == [
        "parameters", "trained", "steps", "tokens per step", "tokens", "memory mib", "seconds",
    ]
    assert cost["steps"] == 6 and cost["tokens"] == 6 * cost["tokens per step"] > 6 * 500
    assert cost["memory mib"] > 100 and cost["seconds"] > 0
    if stage == "finetune":
        assert 0 < cost["trained"] < cost["parameters"] / 2
    else:
        assert cost["trained"] == cost["parameters"]
    assert list(tmp_path.iterdir()) == []


def test_under_torchrun_it_is_refused(
    release: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="instruct --dry-run: started 2 times by torchrun; start it once, without"):
        instruct(release, pretrained, TrainSettings.model_validate(TINY), tmp_path / "model", dry=True)


def test_nothing_to_train_is_said_too(
    release: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none: dict[str, Any] = {**TINY, "finetune": {**TINY["instruct"], "shots_per_class": 0}}
    finetune(release, pretrained, TrainSettings.model_validate(none), tmp_path / "model", dry=True)
    assert "finetune, not run: no rows to learn from; the model would be scored as it is" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
