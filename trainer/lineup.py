"""Several models from one release: a recipe's `models` section, each model a stage from scratch or from one before it.

In: the entries, the recipe's `train` section. Out: a folder for each, in order. A model's place hangs on everything
that it was made from, so that changing one entry trains that model again, and those made from it, and no other.
Refused: a name that stands twice, a model made from one that does not come before it, settings that cannot train.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from zhiling.errors import UserError, did_you_mean
from zhiling.settings import Document, Settings, parse
from zhiling.store import digest
from zhiling.trainer import stages
from zhiling.trainer.config import TrainSettings

OWN_PART = {  # of the `train` section: what a stage hangs on
    "pretrain": ("seed", "tokenizer", "model", "pretrain", "precision"),
    "instruct": ("seed", "instruct", "precision"),
    "finetune": ("seed", "finetune", "precision"),
}
USUAL = (
    {"name": "pretrained", "stage": "pretrain"}, {"name": "instructed", "stage": "instruct", "from": "pretrained"}
)


class ModelEntry(Settings):
    """One model of a recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)
    stage: Literal["pretrain", "instruct", "finetune"]
    start: str | None = Field(None, alias="from", description="the model before it; none for `pretrain`")
    train: dict[str, Any] = Field({}, description="what it has otherwise than the recipe's `train` section")

    @model_validator(mode="after")
    def _from(self) -> Self:
        if (self.stage == "pretrain") != (self.start is None):
            raise ValueError("`pretrain` starts from scratch; `instruct` and `finetune` say `from:` which model")
        return self


class _Section(Settings):
    models: list[ModelEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Planned:
    """A model with its settings and its place below the models' folder."""

    entry: ModelEntry
    settings: TrainSettings
    place: Path


def plan(document: Document, train: Mapping[str, Any], models: Sequence[Any] | None) -> list[Planned]:
    """The models of a recipe, checked; without a `models` section one is pretrained and then instructed."""
    parse(TrainSettings, document, train, ("train",))
    entries = parse(_Section, document, {"models": USUAL if models is None else models}).models
    planned: dict[str, Planned] = {}
    for i, entry in enumerate(entries):
        where = ("models", i)
        if entry.name in planned:
            raise UserError(document.where((*where, "name")), f"a second model '{entry.name}'", "rename one")
        if entry.start is not None and entry.start not in planned:
            raise UserError(document.where((*where, "from")), f"no model '{entry.start}' before it",
                            did_you_mean(entry.start, planned))
        settings = parse(TrainSettings, document, _over(train, entry.train), (*where, "train"))
        before = planned[entry.start].place if entry.start else settings.pretrain.start
        own = settings.model_dump(mode="json", include=set(OWN_PART[entry.stage]))
        place = Path(digest([entry.stage, own, str(before)])[:8], entry.name)
        planned[entry.name] = Planned(entry, settings, place)
    return list(planned.values())


def train(release: Path, planned: Sequence[Planned], home: Path) -> list[Path]:
    """Train what is not there yet; return every model's folder, in order."""
    made: dict[str, Path] = {}
    for model in planned:
        folder = home / model.place
        if model.entry.start is None:
            made[model.entry.name] = stages.pretrain(release, model.settings, folder)
            continue
        stage: Callable[..., Path] = getattr(stages, model.entry.stage)
        made[model.entry.name] = stage(release, made[model.entry.start], model.settings, folder)
    return list(made.values())


def _over(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `other` laid over it, section by section."""
    merged = dict(base)
    for key, value in other.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
