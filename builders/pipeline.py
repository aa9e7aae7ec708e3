"""The steps of a build, in order: read, compare, group, split, pool, render, write.

A killed build goes on where it was: each step's shards stand in a work folder named by the digest of
everything the release is made from, and a shard that is there is done. The release folder appears whole,
by one rename, or not at all.
"""

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling import __version__
from zhiling.builders.clean import KeyJob, make_keys
from zhiling.builders.corpus import Source, plan_sources, read_unit
from zhiling.builders.duplicates import Leak, group
from zhiling.builders.engines import Engine, LocalEngine, RowGroup, Shard, read_rejects, row_groups
from zhiling.builders.examples import RenderJob, make_examples
from zhiling.builders.exemplars import PoolJob, make_pool
from zhiling.builders.recipe import CorpusSettings, Recipe, build_settings, known_labels, read_recipe, recipe_packs
from zhiling.builders.split import SplitJob, split_rows
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.rows import Columns
from zhiling.settings import Document
from zhiling.store import digest, read_manifest
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


@dataclass(frozen=True)
class Built:
    """What the steps left in the work folder, for the writer of the release."""

    plan: Plan
    splits: Mapping[str, list[Path]]  # by corpus: split rows
    examples: list[Path]              # example rows of all corpora
    leak: Leak
    counts: Mapping[str, dict[str, int]]  # by corpus: rows after each step
    rejecting: Mapping[str, list[Path]]   # by corpus: shards whose rejects count, in order


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


def build(recipe_path: Path, out: Path, workers: int = 1) -> Path:
    """Build the recipe's release below `out` and return its folder; one that is up to date is kept.

    Raises UserError where the recipe or its sources are wrong, or the version exists from other settings.
    """
    from zhiling.builders.release import write_release

    plan = make_plan(recipe_path)
    home = out / plan.recipe.name
    folder = home / plan.recipe.version
    home.mkdir(parents=True, exist_ok=True)
    with locked(home):
        work = home / f".work-{plan.recipe.version}-{plan.made_from[:16]}"
        if is_current(folder, plan.made_from):
            note(f"{folder} is up to date")
        else:
            for stale in home.glob(f".work-{plan.recipe.version}-*"):
                if stale != work:
                    shutil.rmtree(stale)
            write_release(run_steps(plan, work, LocalEngine(workers)), work, folder)
        shutil.rmtree(work, ignore_errors=True)
    return folder


def is_current(folder: Path, made_from: str) -> bool:
    """Whether `folder` holds this very release. Raises UserError where it holds anything else."""
    if not folder.exists():
        return False
    found = read_manifest(folder, "release").get("made_from")
    if found != made_from:
        raise UserError(
            str(folder),
            f"this version exists, made from other settings or sources ({str(found)[:12]}, now {made_from[:12]})",
            "raise `version` in the recipe, or remove the folder",
        )
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone. Raises UserError where another build holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(str(folder), "another build is writing here", "wait for it to end") from None
    finally:
        os.close(handle)


def run_steps(plan: Plan, work: Path, engine: Engine) -> Built:
    """All steps but the last, over shards."""
    corpora = plan.recipe.corpora
    read = {c.name: _read(plan, c, work, engine) for c in corpora}
    parts = {c.name: row_groups(read[c.name]) for c in corpora}
    for i, corpus in enumerate(corpora):
        if not parts[corpus.name]:
            where = plan.document.where(("corpora", i))
            raise UserError(where, f"corpus '{corpus.name}' has no usable row", "see its sources, mapping and encoding")
    verdicts, leak = _group(plan, parts, work, engine)
    splits = _split(plan, parts, verdicts, work, engine)
    pools = {c.name: _pool(plan, c, splits[c.name], work, engine) for c in corpora}
    examples = {c.name: _render(plan, c, splits[c.name], pools[c.name], work, engine) for c in corpora}
    counts = {
        name: {"read": _rows(read[name]), "kept": _rows(splits[name]), "examples": _rows(examples[name])}
        for name in read
    }
    rejecting = {name: [*read[name], *splits[name], *examples[name]] for name in read}
    return Built(plan, splits, [p for name in examples for p in examples[name]], leak, counts, rejecting)


def _rows(files: Sequence[Path]) -> int:
    return sum(pq.read_metadata(p).num_rows for p in files)


def _read(plan: Plan, corpus: CorpusSettings, work: Path, engine: Engine) -> list[Path]:
    units = [unit for source in plan.sources[corpus.name] for unit in source.units]
    shards = [Shard(work / "read" / corpus.name / f"{i:05d}.parquet", unit) for i, unit in enumerate(units)]
    engine.map(read_unit, shards, f"read {corpus.name}")
    outputs = [s.output for s in shards]
    malformed = sum(1 for r in read_rejects(outputs) if _say(r))
    if malformed:
        note(f"{corpus.name}: {malformed:,} rows could not be read; they stand in rejects.jsonl")
    return outputs


def _say(reject: Mapping[str, Any], level: int = 2) -> bool:
    note(f"{reject['source']}: {reject['detail']}; row put in rejects.jsonl", level)
    return True


def _group(
    plan: Plan, parts: Mapping[str, list[RowGroup]], work: Path, engine: Engine
) -> tuple[Path, Leak]:
    shards = []
    for corpus in plan.recipe.corpora:
        for part in parts[corpus.name]:
            unit = len(shards)
            job = KeyJob(part, unit, plan.columns(corpus), plan.recipe.seed, plan.recipe.split.test)
            shards.append(Shard(work / "keys" / f"{unit:05d}.parquet", job))
    engine.map(make_keys, shards, "compare texts")
    verdicts = work / "verdicts.parquet"
    return verdicts, group([s.output for s in shards], verdicts)


def _split(
    plan: Plan, parts: Mapping[str, list[RowGroup]], verdicts: Path, work: Path, engine: Engine
) -> dict[str, list[Path]]:
    shards, by_corpus = [], {}
    for corpus in plan.recipe.corpora:
        outputs = []
        for part in parts[corpus.name]:
            unit = len(shards)
            job = SplitJob(part, unit, verdicts, plan.columns(corpus), plan.recipe.split, plan.recipe.seed)
            shards.append(Shard(work / "split" / corpus.name / f"{unit:05d}.parquet", job))
            outputs.append(shards[-1].output)
        by_corpus[corpus.name] = outputs
    engine.map(split_rows, shards, "clean and split")
    return by_corpus


def _pool(plan: Plan, corpus: CorpusSettings, splits: list[Path], work: Path, engine: Engine) -> Path:
    render = plan.recipe.render
    rows = tuple(row_groups(splits))
    job = PoolJob(rows, plan.columns(corpus), render.exemplar_pool, render.exemplar_characters, plan.recipe.seed)
    shard = Shard(work / "pool" / f"{corpus.name}.parquet", job)
    engine.map(make_pool, [shard], f"exemplars of {corpus.name}")
    return shard.output


def _render(
    plan: Plan, corpus: CorpusSettings, splits: list[Path], pool: Path, work: Path, engine: Engine
) -> list[Path]:
    pack = plan.pack(corpus)
    templates = tuple(t.name for t in pack.select(corpus.templates))
    shards = [
        Shard(
            work / "examples" / corpus.name / f"{i:05d}.parquet",
            RenderJob(part, pool, pack.folder, pack.digest, templates, plan.recipe.render, plan.recipe.seed),
        )
        for i, part in enumerate(row_groups(splits))
    ]
    engine.map(make_examples, shards, f"render {corpus.name}")
    return [s.output for s in shards]
