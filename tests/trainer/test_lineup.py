"""A recipe's models: each from the one it names, in its place by what it was made from; what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.conftest import TINY
from zhiling.errors import UserError
from zhiling.settings import Document, read_yaml
from zhiling.store import read_manifest
from zhiling.trainer.lineup import Planned, plan, train

MODELS = [
    {"name": "base", "stage": "pretrain"},
    {"name": "tuned", "stage": "instruct", "from": "base"},
    {"name": "few", "stage": "instruct", "from": "base", "train": {"instruct": {"shots_per_class": 2, "max_steps": 2}}},
]


def document(folder: Path, models: Any, settings: Any = TINY) -> Document:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"train": settings, "models": models}), encoding="utf-8")
    return read_yaml(path)


def planned(folder: Path, models: Any, settings: Any = TINY) -> dict[str, Planned]:
    read = document(folder, models, settings)
    return {p.entry.name: p for p in plan(read, read.data["train"], read.data["models"])}


def test_each_model_is_trained_from_the_one_it_names(release: Path, tmp_path: Path) -> None:
    models = planned(tmp_path, MODELS)
    folders = train(release, list(models.values()), tmp_path / "models")
    assert [f.name for f in folders] == ["base", "tuned", "few"]
    about = {f.name: read_manifest(f, "model") for f in folders}
    assert {name: [step["stage"] for step in m["lineage"]] for name, m in about.items()} == {
        "base": ["pretrain"], "tuned": ["pretrain", "instruct"], "few": ["pretrain", "instruct"],
    }
    assert about["few"]["parent"] == about["tuned"]["parent"]
    assert about["few"]["rows"]["train"]["rows"] < about["tuned"]["rows"]["train"]["rows"]


def test_a_changed_entry_moves_itself_and_those_made_from_it(tmp_path: Path) -> None:
    before = planned(tmp_path, MODELS)
    few = planned(tmp_path, [*MODELS[:2], MODELS[2] | {"train": {"instruct": {"shots_per_class": 4}}}])
    assert [few[n].place == before[n].place for n in before] == [True, True, False]
    base = planned(tmp_path, [MODELS[0] | {"train": {"pretrain": {"max_steps": 9}}}, *MODELS[1:]])
    assert not any(base[n].place == before[n].place for n in before)
    assert base["base"].settings.pretrain.batch_tokens == 1024  # what the entry leaves out stays as the section says


def test_without_models_one_is_pretrained_and_instructed(tmp_path: Path) -> None:
    assert [(p.entry.name, p.entry.start) for p in planned(tmp_path, None).values()] == [
        ("pretrained", None), ("instructed", "pretrained")
    ]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([MODELS[1]], r"recipe.yaml:\d+: models\[0\].from: no model 'base' before it"),
        ([MODELS[0], MODELS[1] | {"from": "bas"}], "no model 'bas' before it; did you mean 'base'?"),
        ([MODELS[0], MODELS[0]], r"models\[1\].name: a second model 'base'; rename one"),
        ([{"name": "x", "stage": "instruct"}], "`instruct` and `finetune` say `from:` which model"),
        ([MODELS[0] | {"from": "x"}], "`pretrain` starts from scratch"),
        ([{"name": "x", "stage": "tune", "from": "y"}], r"models\[0\].stage: found 'tune'"),
        ([MODELS[0] | {"train": {"pretrain": {"epoch": 2}}}], "unknown key; did you mean 'epochs'?"),
        ([MODELS[0] | {"name": "../x"}], r"models\[0\].name: found '../x'"),
        ([], r"models: found \[\]"),
    ],
)
def test_what_cannot_be_trained_is_one_line(models: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        planned(tmp_path, models)
