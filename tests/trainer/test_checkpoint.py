"""Checkpoints: whole or absent, the newest two kept, a damaged one passed over."""

from pathlib import Path

import pytest
import torch

from zhiling.errors import UserError
from zhiling.trainer.checkpoint import Checkpoints, State, changes, claim, read_state


def saved(folder: Path, steps: int) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(State(step=step, tokens=10 * step, tensors={"w": torch.full((3,), float(step))}))


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    state = Checkpoints(tmp_path).newest()
    assert state is not None and (state.step, state.tokens, state.tensors["w"].tolist()) == (4, 40, [4.0] * 3)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    saved(tmp_path, 2)
    (tmp_path / "step-00000002" / file).write_bytes(b"{")
    state = Checkpoints(tmp_path).newest()
    assert state is not None and state.step == 1
    assert "checkpoint step-00000002 is damaged (" in capsys.readouterr().err


def test_all_damaged_is_none(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "step-00000001" / "state.json").unlink()
    assert Checkpoints(tmp_path).newest() is None and read_state(tmp_path / "none") is None


def test_tensors_are_copied_when_saved(tmp_path: Path) -> None:
    weight = torch.ones(3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(State(step=1, tensors={"w": weight}))
        weight.zero_()
    state = Checkpoints(tmp_path).newest()
    assert state is not None and state.tensors["w"].tolist() == [1.0] * 3


def test_settings_that_differ_are_named_field_by_field(tmp_path: Path) -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert changes(old, new) == ["a.c 2 → 4", "d 3 → None", "e None → 5"]
    claim(tmp_path, {"seed": 1})
    claim(tmp_path, {"seed": 1})
    with pytest.raises(UserError, match=r"unfinished run of other settings \(seed 1 → 2\); finish it with its own"):
        claim(tmp_path, {"seed": 2})
