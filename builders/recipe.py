"""A recipe: what to build, as a person writes it in YAML.

The sections `train`, `sweep`, `models`, `eval` and `leaderboard` belong to later rooms: kept as written, checked there.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from zhiling.builders.augment import AugmentSettings
from zhiling.builders.clean import CleanSettings
from zhiling.builders.decontaminate import DecontaminateSettings
from zhiling.builders.leak import ReviewSettings
from zhiling.builders.mixture import MixtureSettings
from zhiling.builders.sources import CorpusSettings
from zhiling.builders.split import SplitSettings
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.settings import Document, Key, Settings, parse, read_yaml
from zhiling.templates.pack import Pack, load_pack


class RenderSettings(Settings):
    """How many renderings of a row, and with how many exemplars before it."""

    templates_per_row: int = Field(2, ge=1, description="renderings of each train row, templates by keyed draw")
    shots: dict[int, float] = Field({0: 1.0}, description="exemplars before a row -> share of train renderings")
    exemplar_characters: int = Field(200, ge=1, description="rows with longer texts are no exemplars")
    exemplar_pool: int = Field(512, ge=1, description="train rows (per label where balanced) to take exemplars from")
    exemplars: Literal["drawn", "nearest"] = Field("drawn", description="by keyed draw, or the most alike by BM25")
    balanced: bool | None = Field(None, description="labels in turn; by default where exemplars are drawn")
    exemplar_budget: int | None = Field(None, ge=1, description="characters that a row's exemplars may have together")

    @field_validator("shots")
    @classmethod
    def _shares(cls, shots: dict[int, float]) -> dict[int, float]:
        if not shots or min(shots) < 0 or min(shots.values()) < 0 or max(shots.values()) <= 0:
            raise ValueError("give shots >= 0 with shares >= 0, at least one above 0")
        return shots

    @property
    def balances(self) -> bool:
        """Whether a row's exemplars take their labels in turn."""
        return self.exemplars == "drawn" if self.balanced is None else self.balanced


class PublishSettings(Settings):
    """Where a finished release goes."""

    to: str


class Recipe(Settings):
    """All of a recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    version: str = Field(pattern=r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$")
    title: str
    summary: str
    seed: int = 0
    authors: list[str] = Field(["zhiling contributors"], min_length=1)
    share_anyway: str | None = Field(
        None, min_length=20, description="why the release may be shared though a source forbids it or states no licence"
    )
    corpora: list[CorpusSettings] = Field(min_length=1)
    strict: bool = Field(False, description="stop where a source is broken, rather than leave its corpus out")
    clean: CleanSettings = CleanSettings()
    split: SplitSettings = SplitSettings()
    decontaminate: DecontaminateSettings | None = None
    augment: AugmentSettings | None = None
    review: ReviewSettings = ReviewSettings()
    render: RenderSettings = RenderSettings()
    engine: Literal["local", "ray"] = Field("local", description="where the work is done; the bytes are the same")
    ray_address: str | None = Field(None, description="the Ray cluster; without it RAY_ADDRESS, or one started here")
    mixture: MixtureSettings | None = None
    publish: PublishSettings | None = None
    train: dict[str, Any] | None = None
    sweep: dict[str, Any] | None = None
    models: list[Any] | None = None
    eval: dict[str, Any] | None = None
    leaderboard: dict[str, Any] | None = None

    @field_validator("corpora")
    @classmethod
    def _distinct(cls, corpora: list[CorpusSettings]) -> list[CorpusSettings]:
        names = [c.name for c in corpora]
        if len(set(names)) != len(names):
            raise ValueError("two corpora have the same name; rename one")
        return corpora


def read_recipe(path: Path) -> tuple[Recipe, Document]:
    """Read and check a recipe; also its document, for line numbers in later complaints."""
    document = read_yaml(path)
    return parse(Recipe, document), document


def recipe_packs(
    recipe: Recipe, document: Document, packs_from: Mapping[str, Path], left_out: Collection[str] = ()
) -> dict[str, Pack]:
    """The packs that a recipe's corpora name, read and checked; templates and columns checked against them.

    A pack that `packs_from` names is read from that folder, none for a corpus that is `left_out`.
    """
    packs: dict[str, Pack] = {}
    for i, corpus in enumerate(recipe.corpora):
        if corpus.name in left_out:
            continue
        try:
            name = str(packs_from.get(corpus.pack, corpus.pack))
            pack = packs.setdefault(corpus.pack, load_pack(name, document.path.parent))
        except UserError as error:
            if error.where.startswith("pack '"):
                raise UserError(document.where(("corpora", i, "pack")), f"no pack '{corpus.pack}'", error.do) from None
            raise
        for n, name in enumerate(corpus.templates or []):
            try:
                pack.template(name)
            except UserError as error:
                raise UserError(document.where(("corpora", i, "templates", n)), error.saw, error.do) from None
        _check_columns(corpus, pack, document, i)
    _check_names(recipe, document, packs)
    return packs


def _check_names(recipe: Recipe, document: Document, packs: Mapping[str, Pack]) -> None:
    """Corpora and columns that the recipe's sections name are there."""
    known = [c.name for c in recipe.corpora]
    augment, guard = recipe.augment, recipe.decontaminate
    named: list[tuple[Key, str]] = [
        *((("mixture", "weights", name), name) for name in (recipe.mixture.weights if recipe.mixture else ())),
        *((("augment", "corpora", i), name) for i, name in enumerate(augment.corpora or [] if augment else [])),
        *((("decontaminate", "corpora", i), name) for i, name in enumerate(guard.corpora or [] if guard else [])),
        *((("decontaminate", "against", i, "held_out"), each.held_out)
          for i, each in enumerate(guard.against if guard else []) if each.held_out),
    ]
    for key, name in named:
        if name not in known:
            raise UserError(document.where(key), f"no corpus '{one_line(name)}'", did_you_mean(name, known))
    for i, name in enumerate(augment.columns or [] if augment else []):
        texts = {c for pack in packs.values() for c, kind in pack.settings.columns.items() if kind == "string"}
        if name not in texts:
            where = document.where(("augment", "columns", i))
            raise UserError(where, f"no text column '{one_line(name)}'", did_you_mean(name, texts))
    if recipe.split.time is not None and not any(c.time for c in recipe.corpora):
        raise UserError(document.where(("split", "time")), "no corpus names its time", "give a corpus `time: COLUMN`")


def _check_columns(corpus: CorpusSettings, pack: Pack, document: Document, i: int) -> None:
    declared = pack.settings.columns
    for name in [*corpus.columns, *corpus.casts, *(n for file in corpus.files for n in file.set)]:
        if name not in declared:
            section = next((s for s in ("columns", "casts") if name in getattr(corpus, s)), "files")
            known = ", ".join(declared)
            raise UserError(
                document.where(("corpora", i, section, name)),
                f"pack {pack.name} has no column '{name}'",
                f"its columns: {known}",
            )
    for setting, (name, kind) in corpus.retrieve.named.items() if corpus.retrieve else ():
        if declared.get(name) != kind:
            where = document.where(("corpora", i, "retrieve", setting))
            fitting = ", ".join(c for c, k in declared.items() if k == kind) or "none"
            raise UserError(where, f"pack {pack.name} has no {kind} column '{name}'", f"its {kind} columns: {fitting}")


def known_labels(pack: Pack) -> dict[str, tuple[str, ...]]:
    """The labels that each label column of a pack may hold."""
    labels = pack.settings.labels
    nested = any(isinstance(words, dict) for words in labels.values())
    return {column: tuple(labels[column] if nested else labels) for column in pack.label_columns}


def build_settings(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that a release's bytes depend on, as JSON."""
    changes_nothing = {"publish", "train", "sweep", "models", "eval", "leaderboard", "engine", "ray_address"}
    settings: dict[str, Any] = recipe.model_dump(mode="json", exclude=changes_nothing)
    return settings
