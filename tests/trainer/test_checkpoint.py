"""Checkpoints: whole or absent, the newest two kept, a damaged one passed over."""

from pathlib import Path

import pytest
import torch

from zhiling.errors import UserError
from zhiling.trainer.checkpoint import Checkpoints, State, changes, claim, read_state, write_tensors


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


def test_a_run_may_go_on_with_smaller_micro_batches(tmp_path: Path) -> None:
    """What is told to do when memory runs out must not be refused then."""
    claim(tmp_path, {"instruct": {"micro_tokens": 8192, "checkpoint_seconds": 60.0, "batch_rows": 8}})
    claim(tmp_path, {"instruct": {"micro_tokens": 4096, "checkpoint_seconds": 10.0, "batch_rows": 8}})
    with pytest.raises(UserError, match=r"of other settings \(instruct.batch_rows 8 → 4\)"):
        claim(tmp_path, {"instruct": {"micro_tokens": 4096, "batch_rows": 4}})


def test_a_run_that_never_began_gives_way(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 1}, begun="log")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "tokens.bin").write_bytes(b"of other rows")
    claim(tmp_path, {"seed": 2}, begun="log")
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]
    (tmp_path / "log").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"of other settings \(seed 2 → 3\)"):
        claim(tmp_path, {"seed": 3}, begun="log")


def test_best_weights_that_no_checkpoint_names_any_more_are_removed(tmp_path: Path) -> None:
    best = tmp_path / "best"
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in range(1, 7):
            if step % 2:
                write_tensors(best / f"step-{step:08d}", {}, {"w": torch.ones(1)})
            checkpoints.save(State(step=step, best_step=step - 1 + step % 2))
            checkpoints.wait()
    assert sorted(p.name for p in best.iterdir()) == ["step-00000005"]
    write_tensors(best / "step-00000008", {}, {"w": torch.ones(1)})  # found while the next checkpoint was being written
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(State(step=7, best_step=5))
    assert sorted(p.name for p in best.iterdir()) == ["step-00000005", "step-00000008"]
