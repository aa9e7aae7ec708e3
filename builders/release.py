"""A release folder: shards, packs, recipe, rejects, card and manifest, written whole; and its verification."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.builders.card import write_card
from zhiling.builders.engines import read_rejects
from zhiling.builders.leak import measure
from zhiling.builders.licenses import derived, obstacles
from zhiling.builders.pipeline import Built
from zhiling.builders.plan import versions
from zhiling.builders.recipe import Recipe
from zhiling.console import note, progress
from zhiling.rows import EXAMPLE_SCHEMA, SPLITS, conform, split_schema
from zhiling.store import PARQUET, atomic_folder, differences, write_jsonl, write_manifest
from zhiling.templates.pack import Pack

SHARD_ROWS = 100_000
GROUP_ROWS = 4_096


def write_release(built: Built, work: Path, folder: Path) -> None:
    """Write the release and let it appear at `folder` by one rename."""
    recipe = built.plan.recipe
    with atomic_folder(folder) as part:
        with progress("write release", len(SPLITS) * (1 + len(recipe.corpora))) as bar:
            sizes: dict[str, int] = {}
            for split in SPLITS:
                sizes[split] = _write_split(built.examples, split, '"order", id', EXAMPLE_SCHEMA, part / "data", work)
                bar()
            for corpus in recipe.corpora:
                schema = split_schema(built.plan.columns(corpus))
                for split in SPLITS:
                    _write_split(built.splits[corpus.name], split, "id", schema, part / "corpus" / corpus.name, work)
                    bar()
        rejects = _write_rejects(built, part / "rejects.jsonl")
        for pack in built.plan.packs.values():
            for each in (pack, *bases(pack)):
                _copy_pack(each.folder, part / "packs" / each.name)
        shutil.copyfile(built.plan.document.path, part / "recipe.yaml")
        shutil.copytree(built.review, part / "review")
        about = _about(built, sizes, rejects)
        write_card(part, built.plan, about)
        write_manifest(part, "release", about)
    note(f"release written: {folder}")


def _write_split(
    files: Sequence[Path], split: str, order: str, schema: pa.Schema, folder: Path, work: Path
) -> int:
    """Write the rows of one side in order, `SHARD_ROWS` to a file; return how many. Sorted out of core."""
    total = sum(_count(path, split) for path in files)
    shards = -(-total // SHARD_ROWS)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _ordered(files, split, order, schema, work) if total else iter(())
    for number in range(shards):
        path = folder / f"{split}-{number:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(path, schema, **PARQUET) as writer:
            here = min(SHARD_ROWS, total - number * SHARD_ROWS)
            for _ in range(-(-here // GROUP_ROWS)):
                writer.write_table(next(rows))
    return total


def _count(path: Path, split: str) -> int:
    found: list[str] = pq.read_table(path, columns=["split"])["split"].to_pylist()
    return found.count(split)


def _ordered(
    files: Sequence[Path], split: str, order: str, schema: pa.Schema, work: Path
) -> Iterator[pa.Table]:
    """The rows of one side in order, in tables of `GROUP_ROWS`, cut where a file ends."""
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        db.execute("SET temp_directory = ?", [str(work / ".duckdb")])
        columns = ", ".join(f'"{name}"' for name in schema.names)
        query = f'SELECT {columns} FROM read_parquet($files) WHERE "split" = $split ORDER BY {order}'
        given = {"files": [str(f) for f in files], "split": split}
        reader = db.sql(query, params=given).to_arrow_reader(GROUP_ROWS)
        held, room = [], SHARD_ROWS
        for batch in reader:
            held.append(batch)
            rows = pa.Table.from_batches(held)
            while len(rows) >= min(GROUP_ROWS, room):
                size = min(GROUP_ROWS, room)
                yield conform(rows.slice(0, size), schema)
                rows, room = rows.slice(size), room - size or SHARD_ROWS
            held = rows.to_batches()
        rows = pa.Table.from_batches(held, reader.schema)
        if len(rows):
            yield conform(rows, schema)


def _write_rejects(built: Built, path: Path) -> dict[str, dict[str, int]]:
    """Write every rejected row with its reason; return counts by corpus and `step: reason`."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in built.rejecting}

    def rows() -> Iterator[Mapping[str, Any]]:
        for outputs in built.rejecting.values():
            for reject in read_rejects(outputs):
                counts[reject["corpus"]][f"{reject['step']}: {reject['reason']}"] += 1
                yield reject

    write_jsonl(path, rows())
    return {name: dict(sorted(found.items())) for name, found in counts.items()}


def bases(pack: Pack) -> Iterator[Pack]:
    """The packs that `pack` extends, nearest first."""
    while pack.base is not None:
        pack = pack.base
        yield pack


def _copy_pack(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("pack.yaml", "examples.jsonl"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _about(built: Built, sizes: Mapping[str, int], rejects: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What the manifest says beside the files' digests."""
    plan = built.plan
    return {
        "name": plan.recipe.name,
        "version": plan.recipe.version,
        "seed": plan.recipe.seed,
        "made_from": plan.made_from,
        "made_with": versions(),
        "license": _license(plan.recipe),
        "splits": {split: {"rows": rows} for split, rows in sizes.items()},
        "shots": sorted(plan.recipe.render.shots),
        "packs": {
            pack.name: {"version": pack.settings.version, "digest": pack.digest} for pack in plan.packs.values()
        },
        "corpora": {
            c.name: {
                "pack": plan.pack(c).name, "license": c.license, "revision": c.revision, "url": c.url,
                "sources": {s.shown: {"sha256": s.sha256, "bytes": s.bytes} for s in plan.sources[c.name]},
                **({"passages": plan.passages[c.name]} if c.name in plan.passages else {}),
            }
            for c in plan.recipe.corpora
        },
        "ledger": {name: _ledger(counts, rejects[name]) for name, counts in built.counts.items()},
        "leak": {
            **asdict(built.leak), **measure([p for files in built.splits.values() for p in files]),
            "scores": dict(built.scores),
        },
        "personal_data": dict(built.personal),
        "augmentation": dict(built.augmentation),
    }


def _license(recipe: Recipe) -> dict[str, Any]:
    """What the sources allow together, and what stands in the way of sharing."""
    stated = {c.name: c.license for c in recipe.corpora}
    return {
        "derived": derived(stated),
        "obstacles": [asdict(obstacle) for obstacle in obstacles(stated)],
        "share_anyway": recipe.share_anyway,
    }


def _ledger(counts: Mapping[str, int], rejects: Mapping[str, int]) -> dict[str, Any]:
    """Rows in and out of each step with the named rejects between. Raises AssertionError where it does not add up."""
    by_step = Counter[str]()
    for key, count in rejects.items():
        by_step[key.partition(":")[0]] += count
    assert counts["read"] == counts["split"] + by_step["clean"], "the ledger does not add up"
    assert counts["split"] == counts["kept"] + by_step["decontaminate"], "the ledger does not add up"
    assert counts["kept"] == counts["filled"] + by_step["retrieve"], "the ledger does not add up"
    return {
        "rows_in_sources": counts["read"] + by_step["screen"] + by_step["read"],
        "rows_read": counts["read"] + by_step["screen"],
        "rows_screened": counts["read"],
        "rows_split": counts["split"],
        "rows_kept": counts["kept"],
        "rows_filled": counts["filled"],
        "rows_with_copies": counts["grown"],
        "renderings_wanted": counts["examples"] + by_step["render"],
        "renderings_made": counts["examples"],
        "renderings_kept": counts["mixed"],
        "rejects": dict(rejects),
    }


def verify(folder: Path) -> list[str]:
    """How a release's files differ from its manifest; empty where every byte is as it was written."""
    return differences(folder, "release")


