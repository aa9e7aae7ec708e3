"""What a release is made from: recipe, packs and sources, checked before anything is built; and its digest."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zhiling import __version__
from zhiling.builders.corpus import Source, plan_sources
from zhiling.builders.recipe import Recipe, build_settings, known_labels, read_recipe, recipe_packs
from zhiling.builders.sources import CorpusSettings
from zhiling.rows import Columns
from zhiling.settings import Document
from zhiling.store import digest
from zhiling.templates.pack import Pack


@dataclass(frozen=True)
class Plan:
    """All that a release is made from, checked, before anything is built."""

    recipe: Recipe
    document: Document
    packs: Mapping[str, Pack]             # by the name that the recipe gives
    sources: Mapping[str, list[Source]]   # by corpus

    @property
    def made_from(self) -> str:
        """Digest of settings, packs, inputs and versions: equal digests give equal releases."""
        return digest(
            {
                "settings": build_settings(self.recipe),
                "packs": {name: pack.digest for name, pack in self.packs.items()},
                "sources": {name: [(s.shown, s.sha256) for s in found] for name, found in self.sources.items()},
                "versions": versions(),
            }
        )

    def pack(self, corpus: CorpusSettings) -> Pack:
        """The pack of a corpus."""
        return self.packs[corpus.pack]

    def columns(self, corpus: CorpusSettings) -> Columns:
        """The columns of a corpus, as its pack declares them."""
        return self.pack(corpus).settings.columns


def versions() -> dict[str, str]:
    """Versions of what decides a release's bytes."""
    return {"zhiling": __version__, "pyarrow": pa.__version__, "python": ".".join(platform.python_version_tuple()[:2])}


def make_plan(recipe_path: Path) -> Plan:
    """Read and check a recipe, its packs and the heads of its sources. Raises UserError."""
    recipe, document = read_recipe(recipe_path)
    packs = recipe_packs(recipe, document)
    sources = {}
    for corpus in recipe.corpora:
        pack = packs[corpus.pack]
        columns = pack.settings.columns
        base = document.path.resolve().parent
        sources[corpus.name] = plan_sources(corpus, columns, known_labels(pack), pack.settings.language, base)
    return Plan(recipe, document, packs, sources)
