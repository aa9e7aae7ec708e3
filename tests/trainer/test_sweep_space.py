"""What a sweep may try, and what is refused with its line."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.settings import Document, read_yaml
from zhiling.trainer.sweep_space import read_sweep, with_params

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


@pytest.mark.parametrize(("changes", "said"), [
    ({"search": {}}, r"sweep\.search: found {}; Dictionary should have at least 1 item"),
    ({"search": {"instruct.optimizer.learning_rat": {"low": 1, "high": 2}}},
     r"recipe\.yaml:\d+: sweep\.search\.instruct\.optimizer\.learning_rat: 1: unknown key; did you mean 'learning_rat"),
    ({"search": {RATE: {"low": 0.5, "high": 3}}}, r"learning_rate: 3: found 3; Input should be less than"),
    ({"search": {"instruct.batch_rows": {"low": 1.0, "high": 8.0}}}, r"batch_rows: 2\.8\d+: found 2\.8"),
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
