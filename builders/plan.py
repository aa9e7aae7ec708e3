"""What a release is made from: recipe, packs and sources, checked before anything is built; and its digest."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from zhiling import __version__
from zhiling.builders.augment import models_digest
from zhiling.builders.bm25 import bm25_version
from zhiling.builders.corpus import Source, plan_sources
from zhiling.builders.decontaminate import inputs
from zhiling.builders.diff import require
from zhiling.builders.recipe import Recipe, build_settings, known_labels, read_recipe, recipe_packs
from zhiling.builders.retrieve import passages_digest
from zhiling.builders.sources import CorpusSettings
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.rows import Columns
from zhiling.settings import Document
from zhiling.store import MANIFEST, digest, file_digest, read_manifest
from zhiling.templates.pack import Pack


@dataclass(frozen=True)
class Plan:
    """All that a release is made from, checked, before anything is built."""

    recipe: Recipe
    document: Document
    packs: Mapping[str, Pack]             # by the name that the recipe gives
    sources: Mapping[str, list[Source]]   # by corpus
    base: Path                            # the folder that the recipe's paths start from
    previous: Path | None = None          # the release whose rows keep their side
    left_out: Mapping[str, str] = field(default_factory=dict)  # corpora whose sources are broken, and how

    @cached_property
    def made_from(self) -> str:
        """Digest of settings, packs, inputs and versions: equal digests give equal releases."""
        return digest(
            {
                "settings": build_settings(self.recipe),
                "packs": {name: pack.digest for name, pack in self.packs.items()},
                "sources": {name: [(s.shown, s.sha256) for s in found] for name, found in self.sources.items()},
                "previous": self.previous and file_digest(self.previous / MANIFEST),
                "evaluations": inputs(self.recipe.decontaminate, self.base) if self.recipe.decontaminate else [],
                "passages": self.passages,
                "models": models_digest(self.recipe.augment, self.base),
                "retriever": bm25_version() if self._searches else None,
                "versions": versions(),
            }
        )

    @property
    def _searches(self) -> bool:
        return self.recipe.render.exemplars == "nearest" or any(c.retrieve for c in self.recipe.corpora)

    @property
    def passages(self) -> dict[str, str]:
        """By corpus: digest of the file that its passages come from. Raises UserError where one is absent."""
        named = {c.name: c.retrieve.passages for c in self.recipe.corpora if c.retrieve and c.retrieve.passages}
        return {name: passages_digest(self.base / path, path) for name, path in named.items()}

    def where(self, corpus: CorpusSettings) -> str:
        """Where the recipe names a corpus."""
        names = [each.get("name") for each in self.document.data["corpora"]]
        return self.document.where(("corpora", names.index(corpus.name)))

    def pack(self, corpus: CorpusSettings) -> Pack:
        """The pack of a corpus."""
        return self.packs[corpus.pack]

    def columns(self, corpus: CorpusSettings) -> Columns:
        """The columns of a corpus, as its pack declares them."""
        return self.pack(corpus).settings.columns


def versions() -> dict[str, str]:
    """Versions of what decides a release's bytes."""
    return {
        "zhiling": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in ("pyarrow", "rensa", "scikit-learn")},
    }


def make_plan(
    recipe_path: Path, base: Path | None = None, packs_from: Mapping[str, Path] | None = None,
    commits: Mapping[str, str] | None = None, left_out: Mapping[str, str] | None = None,
) -> Plan:
    """Read and check a recipe, its packs and the heads of its sources. Raises UserError.

    Its paths are relative to `base`, by default the recipe's folder. A pack that `packs_from` names is read from
    that folder, a Hub dataset whose corpus `commits` names at that commit; corpora that were `left_out` are again.
    """
    recipe, document = read_recipe(recipe_path)
    recipe = recipe.model_copy(update={"corpora": [_at_commit(c, (commits or {}).get(c.name)) for c in recipe.corpora]})
    packs = recipe_packs(recipe, document, packs_from or {}, (left_out or {}).keys())
    base = base or document.path.resolve().parent
    sources, left_out = _sources(recipe, packs, base, left_out or {})
    for name, error in left_out.items():
        note(f"corpus '{name}' is left out: {error} (`strict: true` would stop here)")
    read = [_as_read(c, sources[c.name]) for c in recipe.corpora if c.name in sources]
    recipe = recipe.model_copy(update={"corpora": read})
    packs = {name: pack for name, pack in packs.items() if name in {c.pack for c in recipe.corpora}}
    return Plan(recipe, document, packs, sources, base, _previous(recipe, document, base), left_out)


def _at_commit(corpus: CorpusSettings, commit: str | None) -> CorpusSettings:
    if corpus.hub is None or commit is None:
        return corpus
    return corpus.model_copy(update={"hub": corpus.hub.model_copy(update={"revision": commit})})


def _as_read(corpus: CorpusSettings, sources: Sequence[Source]) -> CorpusSettings:
    """The corpus with the revision that its rows bear."""
    revision = next((unit.corpus.revision for source in sources for unit in source.units), corpus.revision)
    return corpus.model_copy(update={"revision": revision})


def _sources(
    recipe: Recipe, packs: Mapping[str, Pack], base: Path, left_out: Mapping[str, str]
) -> tuple[dict[str, list[Source]], dict[str, str]]:
    """By corpus: its sources, or what is, or was, broken about them.

    Raises UserError where all are, or one in a strict recipe.
    """
    found, broken, first = {}, dict[str, str](), None
    for corpus in recipe.corpora:
        if corpus.name in left_out:
            broken[corpus.name] = left_out[corpus.name]
            continue
        pack = packs[corpus.pack]
        columns, language = pack.settings.columns, pack.settings.language
        try:
            found[corpus.name] = plan_sources(corpus, columns, known_labels(pack), language, base, recipe.clean)
        except UserError as error:
            if recipe.strict:
                raise
            broken[corpus.name], first = str(error), first or error
    if not found:
        raise first or UserError("corpora", "all are left out", "get the release anew")
    return found, broken


def _previous(recipe: Recipe, document: Document, base: Path) -> Path | None:
    """The release that `split: previous:` names. Raises UserError where none stands there whole."""
    if recipe.split.previous is None:
        return None
    folder = base / recipe.split.previous
    try:
        require(folder, read_manifest(folder, "release", "name", "version", "files")["files"])
    except UserError as error:
        raise UserError(document.where(("split", "previous")), f"{error.where}: {error.saw}", error.do) from None
    return folder
