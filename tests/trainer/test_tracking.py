"""Trackers: TensorBoard for real; a package that is not installed is one clear line; nothing leaves the machine."""

import sys
from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import UserError
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import instruct
from zhiling.trainer.tracking import trackers

from .conftest import TINY


def test_tensorboard_has_every_step_beside_the_model(release: Path, pretrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'zhiling[track]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = instruct(release, pretrained, TrainSettings.model_validate({**TINY, "log_to": ["tensorboard"]}),
                    tmp_path / "tracked")
    seen = EventAccumulator(str(tmp_path / "logs" / "tensorboard" / "tracked"))
    seen.Reload()
    assert {"loss", "lr", "tokens", "tokens_per_s", "validation_loss"} <= set(seen.Tags()["scalars"])
    assert [event.step for event in seen.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert '"batch_rows":8' in seen.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    untracked = instruct(release, pretrained, TrainSettings.model_validate(TINY), made)
    assert untracked == made  # where it is logged is no part of what a model is made from


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what an absent package is to `import`
    said = f"train.log_to: {name} is not installed; pip install {name}, or take it out"
    with pytest.raises(UserError) as caught, trackers([name], "run", {}, tmp_path):
        pass
    assert str(caught.value) == said and list(tmp_path.iterdir()) == []


def test_none_has_begun_where_one_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'zhiling[track]'")
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused = pytest.raises(UserError, match="wandb is not installed")
    with refused, trackers(["tensorboard", "wandb"], "run", {}, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ValueError, match="Input should be 'tensorboard', 'trackio' or 'wandb'"):
        TrainSettings.model_validate({"log_to": ["elsewhere"]})


def test_no_tracker_is_no_file(tmp_path: Path) -> None:
    found: list[Any]
    with trackers([], "run", {}, tmp_path) as found:
        assert found == [] and list(tmp_path.iterdir()) == []
