"""`zhiling train` at the command line: what it asks for is laid over the recipe, before anything is checked."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from zhiling.cli.train import _settings
from zhiling.errors import UserError


def recipe(folder: Path, **train: Any) -> Path:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({"train": train}), encoding="utf-8")
    return path


def test_all_texts_can_be_asked_for_where_the_recipe_has_a_few(tmp_path: Path) -> None:
    few = recipe(tmp_path, finetune={"shots_per_class": 16, "packs": ["a"]})
    assert _settings(few, "finetune", {"shots_per_class": None}).finetune.shots_per_class == 16
    own = _settings(few, "finetune", {"shots_per_class": "all", "packs": None}).finetune
    assert (own.shots_per_class, own.packs) == ("all", ["a"])


def test_a_head_named_at_the_command_line_may_have_tokens_hidden(tmp_path: Path) -> None:
    hides = recipe(tmp_path, finetune={"hide": 0.15})
    assert _settings(hides, "finetune", {"head": "sequence"}).finetune.hide == 0.15
    with pytest.raises(UserError, match="hide is for a head"):
        _settings(hides, "finetune", {"head": "lm"})


def test_a_checkpoint_brings_its_own_family(tmp_path: Path) -> None:
    masked = recipe(tmp_path, pretrain={"objective": "masked"})
    own = _settings(masked, "pretrain", {"from": "bert"}).pretrain
    assert (own.objective, own.start) == ("masked", Path("bert"))
    with pytest.raises(UserError, match="a decoder is pretrained with objective causal, an encoder with masked"):
        _settings(masked, "pretrain", {"from": None})


def test_without_a_recipe_there_are_defaults() -> None:
    assert _settings(None, "continual", {"method": "ewc"}).continual.method == "ewc"


def test_a_section_that_is_no_mapping_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"r\.yaml:2: train\.finetune: found 'x'"):
        _settings(recipe(tmp_path, finetune="x"), "finetune", {"head": "sequence"})
