"""A dry run: the cost in numbers, and nothing written."""

from pathlib import Path

import pytest

from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import instruct

from .conftest import TINY


def test_a_dry_run_says_steps_and_tokens_and_writes_nothing(
    release: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instruct(release, pretrained, TrainSettings.model_validate(TINY), tmp_path / "model", dry=True)
    out = capsys.readouterr().out
    assert "instruct, not run" in out
    for what in ("parameters", "steps", "tokens per step", "memory mib", "seconds"):
        assert what in out
    assert list(tmp_path.iterdir()) == []
