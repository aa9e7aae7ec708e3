"""The recipe's `train` section: defaults for every key, unknown ones refused with their line."""

from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.settings import parse, read_yaml
from zhiling.trainer.config import TrainSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_recipe_has_a_train_section_that_reads(path: Path) -> None:
    document = read_yaml(path)
    if "train" in document.data:
        parse(TrainSettings, document, document.data["train"], ("train",))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("train:\n  instruct: {epoch: 3}\n", r"r\.yaml:2: train\.instruct\.epoch: unknown key; did you mean 'epochs'"),
        ("train:\n  pretrain: {micro_tokens: 100}\n", r"pretrain\.micro_tokens 100 cannot hold a row of 512"),
        ("train:\n  finetune: {hide: 0.1}\n", "hide is for a head; a model that answers in words has all of them"),
        ("train:\n  instruct: {optimizer: {clip: .inf}}\n", "found inf; Input should be a finite number"),
        ("train:\n  instruct: {validate_every: .inf}\n", "found inf; Input should be a finite number"),
        ("train:\n  instruct: {templates: []}\n", r"instruct\.templates: found \[\]; List should have at least 1"),
        ("train:\n  instruct: {shots_per_class: -1}\n", r"instruct\.shots_per_class: found -1; Input should be great"),
        ("train:\n  seed: 18446744073709551616\n", r"train\.seed: found 18446744073709551616; Input should be less"),
        ("train:\n  model: {family: encoder}\n", "an encoder with masked"),
        ("train:\n  pretrain:\n    epochs: 0\n", r"r\.yaml:3: train\.pretrain\.epochs: found 0; Input should be"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    document = read_yaml(tmp_path / "r.yaml")
    with pytest.raises(UserError, match=error):
        parse(TrainSettings, document, document.data["train"], ("train",))
