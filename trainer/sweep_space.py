"""What a sweep may try: the recipe's `sweep` section, checked key by key, and recipes with some keys set.

In: a recipe. Out: the section as settings, `train` sections by trial, the best recipe as YAML. Refuses keys that are
unknown, have impossible values, belong to another stage, or change what the validation loss measures: such trials
could not be compared.
"""

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from zhiling.errors import UserError
from zhiling.settings import Document, Settings, parse
from zhiling.store import write_text
from zhiling.trainer.config import TrainSettings

MADE = "# made by zhiling sweep"
MEASURES = {  # keys of a stage on which the validation loss, or when it is taken, depends
    "objective", "mask", "average", "loss_on", "packs", "corpora", "templates", "shots", "head", "validation_rows",
    "validate_every", "context",
}
Stage = Literal["pretrain", "instruct", "finetune"]
Value = str | int | float | bool | None


class Values(Settings):
    """What one key may be: a range, or a list."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(False, description="drawn by its logarithm")
    choices: list[Value] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("give `low` and `high`, or `choices`")
        if self.choices is None and (self.low is None or self.high is None or not self.low < self.high):
            raise ValueError("give `low` below `high`")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("`log` needs a `low` above 0")
        return self

    @property
    def ends(self) -> list[Value]:
        """Values that stand for all: if these can train, others can."""
        if self.choices:
            return list(self.choices)
        assert self.low is not None and self.high is not None
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        between = [] if whole else [self.low + (self.high - self.low) / 3.77]  # no whole number but by chance
        return [self.low, self.high, *between]


class SweepSettings(Settings):
    """The recipe's `sweep` section."""

    stage: Stage = Field("instruct", description="the stage whose validation loss is to be low")
    search: dict[str, Values] = Field(min_length=1, description="`instruct.batch_rows: {choices: [16, 32]}` and so on")
    trials: int = Field(20, ge=1)
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median", description="what ends hopeless trials at a validation; with hyperband, workers change which"
    )
    together: int = Field(4, ge=1, description="trials of a round: proposed from the same results, run side by side")


def read_sweep(document: Document, trials: int | None = None) -> SweepSettings:
    """The `sweep` section. Raises UserError for keys that are unknown, cannot be compared or have impossible values."""
    if find_spec("optuna") is None:
        raise UserError("zhiling sweep", "optuna is not installed", "pip install 'zhiling[sweep]'")
    if not isinstance(document.data.get("sweep"), dict):
        raise UserError(str(document.path), "no `sweep` section in it", "add one")
    settings = parse(SweepSettings, document, document.data["sweep"], ("sweep",))
    for key, values in settings.search.items():
        where, parts = document.where(("sweep", "search", key)), key.split(".")
        if parts[0] != settings.stage and not (settings.stage == "pretrain" and parts[0] == "model"):
            raise UserError(where, f"not a key of the stage {settings.stage}", f"write {settings.stage}.KEY")
        if len(parts) > 1 and parts[1] in MEASURES:
            raise UserError(where, "changes what the validation loss measures", "compare models by `zhiling eval`")
        for value in values.ends:
            changed = with_params(document.data.get("train") or {}, {key: value})
            try:
                parse(TrainSettings, document, changed, ("train",))
            except UserError as error:
                raise UserError(where, f"{value}: {error.saw}", error.do) from None
    return settings.model_copy(update={"trials": trials}) if trials else settings


def with_params(train: Mapping[str, Any], params: Mapping[str, Value]) -> dict[str, Any]:
    """A `train` section with some keys set: `{"instruct.optimizer.learning_rate": 0.001}`."""
    changed = copy.deepcopy(dict(train))
    for key, value in params.items():
        at, *inner = changed, *key.split(".")
        for part in inner[:-1]:
            at[part] = dict(at.get(part) or {})
            at = at[part]
        at[inner[-1]] = value
    return changed


def write_best(document: Document, settings: SweepSettings, best: Mapping[str, Any]) -> Path:
    """The recipe with the best trial's settings, beside the recipe, so that its relative paths stay right."""
    path = document.path.with_name(f"{document.path.stem}.best.yaml")
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(MADE):
        raise UserError(str(path), "exists and was not made by a sweep", "move it away and run again")
    params = {key: best[key] for key in settings.search}
    recipe = {key: value for key, value in document.data.items() if key != "sweep"}
    recipe["train"] = with_params(document.data.get("train") or {}, params)
    text = yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False, width=120)
    write_text(path, f"{MADE}: trial {best['trial']}, validation loss {best['value']:.4f}\n{text}")
    return path
