"""A release folder: its files, packs, recipe, rejects, card and manifest, appearing whole; and its verification."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhiling.builders.card import write_card
from zhiling.builders.croissant import croissant
from zhiling.builders.engines import Shard, copy_rejects, count_rows
from zhiling.builders.licenses import derived, obstacles
from zhiling.builders.notes import annotate_built
from zhiling.builders.pipeline import Built
from zhiling.builders.plan import versions
from zhiling.builders.recipe import Recipe
from zhiling.builders.release_files import facts_of
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.rows import SPLITS
from zhiling.store import atomic_folder, differences, write_json, write_manifest
from zhiling.templates.pack import Pack

LEDGER = (
    "rows_in_sources", "rows_read", "rows_screened", "rows_split", "rows_kept", "rows_filled", "rows_with_copies",
    "renderings_wanted", "renderings_made", "renderings_kept",
)


def write_release(
    built: Built, files: Mapping[str, Sequence[Shard]], leaked: Mapping[str, int], folder: Path
) -> None:
    """Gather the release, `files` by the folder that they belong in, and let it appear at `folder` by one rename."""
    known: dict[str, dict[str, Any]] = {}
    with atomic_folder(folder) as part, ThreadPoolExecutor(1) as aside:
        for place, shards in files.items():
            (part / place).mkdir(parents=True)
            for shard in shards:
                _lay(shard.job.target, part / place / shard.job.target.name)
                aside.submit(_settle, shard.job.target)  # takes as long as all that is made meanwhile
                known[f"{place}/{shard.job.target.name}"] = facts_of(shard.output)
        sizes: dict[str, int] = {split: count_rows((part / "data").glob(f"{split}-*.parquet")) for split in SPLITS}
        rejects = _write_rejects(built, part / "rejects.jsonl")
        if not any(sizes.values()):
            counted = sum((Counter(found) for found in rejects.values()), Counter[str]())
            most = ", ".join(f"{n:,} {reason}" for reason, n in counted.most_common(3))
            saw = f"not one example is left ({most or 'nothing was rendered'})"
            raise UserError(str(built.plan.document.path), saw, "see its `render:` and `mixture:`")
        for pack in built.plan.packs.values():
            for each in (pack, *bases(pack)):
                _copy_pack(each.folder, part / "packs" / each.name)
        shutil.copyfile(built.plan.document.path, part / "recipe.yaml")
        shutil.copytree(built.review, part / "review")
        about = _about(built, sizes, rejects, leaked)
        write_card(part, built.plan, about, [shard.output for shard in files["data"]])
        recipe = built.plan.recipe
        described = croissant(known, about, recipe.title, recipe.summary, about["license"]["derived"])
        write_json(part / "croissant.json", described)
        write_manifest(part, "release", about, known)
        if built.plan.previous is not None:
            annotate_built(built.plan.previous, part, built.plan.document.path)
    note(f"release written: {folder}")


def _settle(file: Path) -> None:
    """Force a finished file to the disk."""
    with file.open("rb") as f:
        os.fsync(f.fileno())


def _lay(file: Path, place: Path) -> None:
    """Let a finished file stand at `place` too: a killed build still finds it in its work folder."""
    try:
        os.link(file, place)
    except OSError:  # a file system without links
        shutil.copyfile(file, place)


def _write_rejects(built: Built, path: Path) -> dict[str, dict[str, int]]:
    """Write every rejected row with its reason; return counts by corpus and `step: reason`."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        counts = {name: copy_rejects(outputs, out) for name, outputs in built.rejecting.items()}
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


def _about(
    built: Built, sizes: Mapping[str, int], rejects: Mapping[str, Mapping[str, int]], leaked: Mapping[str, int]
) -> dict[str, Any]:
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
        "left_out": dict(plan.left_out),
        "ledger": {name: _ledger(counts, rejects[name]) for name, counts in built.counts.items()},
        "leak": {
            **asdict(built.leak), **leaked,
            "scores": dict(built.scores), "tied": any(c.together for c in plan.recipe.corpora),
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


def steps(ledger: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What a ledger of the manifest counts, from the sources on (JSON keeps keys in the order of letters).

    A release of an earlier zhiling may count less.
    """
    return [(step, ledger[step]) for step in LEDGER if step in ledger]


def verify(folder: Path) -> list[str]:
    """How a release's files differ from its manifest; empty where every byte is as it was written."""
    return differences(folder, "release")


