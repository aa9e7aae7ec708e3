"""Split rows to example rows: which templates, how many shots, rendered, with exemplars before them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.builders.engines import Piece, Reject, RowGroup
from zhiling.builders.exemplars import Exemplar, Pool, choose, read_pool
from zhiling.builders.recipe import RenderSettings
from zhiling.rows import BETWEEN_SHOTS, EXAMPLE_SCHEMA
from zhiling.seeds import draw, shuffled, uniform
from zhiling.templates.pack import Pack, read_pack
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

ORDERED_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("split", pa.string())).append(pa.field("order", pa.uint64()))


@dataclass(frozen=True)
class RenderJob:
    """Split rows of one corpus to render."""

    rows: RowGroup
    pool: Path
    pack_folder: Path
    pack_digest: str
    templates: tuple[str, ...]
    settings: RenderSettings
    seed: int


@dataclass(frozen=True)
class Wish:
    """A rendering that is asked for: which row, how many shots."""

    row: dict[str, Any]
    shots: int


def make_examples(job: RenderJob) -> Iterator[Piece]:
    """Example rows of one unit, a piece for each template, with the side and place that each will have."""
    rows = job.rows.read().to_pylist()
    pack = _pack(job.pack_folder, job.pack_digest)
    wishes: dict[str, list[Wish]] = {name: [] for name in job.templates}
    for row in rows:
        for name, shots in _wishes(job, row):
            wishes[name].append(Wish(row, shots))
    yield Piece(ORDERED_SCHEMA.empty_table())
    for name in job.templates:
        if wishes[name]:
            yield _render(job, pack, name, wishes[name])


def _wishes(job: RenderJob, row: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Train rows: a few templates, each with a drawn number of shots. Held-out rows: every template and shots."""
    if row["split"] != "train":
        for name in job.templates:
            for shots in sorted(job.settings.shots):
                yield name, shots
        return
    for name in shuffled(job.templates, job.seed, "templates", row["id"])[: job.settings.templates_per_row]:
        yield name, _draw_shots(job.settings.shots, job.seed, f"{row['id']}\x1f{name}")


def _draw_shots(shares: dict[int, float], seed: int, key: str) -> int:
    at = uniform(seed, "shots", key) * sum(shares.values())
    for shots, share in sorted(shares.items()):
        at -= share
        if at < 0:
            return shots
    return max(shares)


@lru_cache(maxsize=64)
def _pack(folder: Path, digest: str) -> Pack:
    pack = read_pack(folder)
    if pack.digest != digest:
        raise RuntimeError(f"{folder} changed while it was being used")
    return pack


@lru_cache(maxsize=512)
def _compiled(folder: Path, digest: str, name: str) -> Compiled:
    return compile_template(_pack(folder, digest), name)


@lru_cache(maxsize=64)
def _pool(path: Path, folder: Path, digest: str) -> tuple[Pool, list[dict[str, Any]]]:
    table = pq.read_table(path)
    return read_pool(table, _pack(folder, digest).settings.columns), table.to_pylist()


@lru_cache(maxsize=512)
def _rendered_pool(path: Path, folder: Path, digest: str, name: str, seed: int) -> Rendered:
    """Every exemplar of the pool in one template's words."""
    return _render_rows(_compiled(folder, digest, name), _pool(path, folder, digest)[1], seed)


def _render_rows(compiled: Compiled, rows: Sequence[dict[str, Any]], seed: int) -> Rendered:
    columns = {c: [row[c] for row in rows] for c in compiled.pack.settings.columns}
    return render_batch(compiled, columns, [row["id"] for row in rows], seed)


def _render(job: RenderJob, pack: Pack, name: str, wishes: list[Wish]) -> Piece:
    """Render one template for all rows that want it; put exemplars before those that want shots."""
    rendered = _render_rows(_compiled(job.pack_folder, job.pack_digest, name), [w.row for w in wishes], job.seed)
    examples: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for i, wish in enumerate(wishes):
        refusal, reason = rendered.refusals[i], "refused"
        if rendered.skipped[i]:
            refusal, reason = "not for this row", "skipped"
        exemplars = _exemplars(job, name, wish) if wish.shots and refusal is None else []
        if refusal is None and len(exemplars) < wish.shots:
            refusal = f"{len(exemplars)} exemplars where {wish.shots} are asked for"
        if refusal is not None:
            row = {c: wish.row[c] for c in pack.settings.columns}
            detail = f"{pack.name}/{name}: {refusal}"
            rejects.append(Reject("render", reason, detail, wish.row["source"], wish.row["corpus"], row))
            continue
        examples.append(_example(job, pack, name, wish, rendered, i, exemplars))
    return Piece(pa.Table.from_pylist(examples, schema=ORDERED_SCHEMA), rejects)


def _exemplars(job: RenderJob, name: str, wish: Wish) -> list[tuple[Exemplar, str]]:
    """The row's exemplars and their text in this template; those that the template refuses are passed over."""
    place = (job.pool, job.pack_folder, job.pack_digest)
    pool, _ = _pool(*place)
    rendered = _rendered_pool(*place, name, job.seed)
    chosen = choose(pool, wish.row["id"], wish.row["group_id"], wish.shots, job.seed)
    return [
        (e, rendered.prompts[e.index] + rendered.completions[e.index])
        for e in chosen
        if rendered.prompts[e.index]
    ]


def _example(
    job: RenderJob, pack: Pack, name: str, wish: Wish, rendered: Rendered, i: int,
    exemplars: list[tuple[Exemplar, str]],
) -> dict[str, Any]:
    row = wish.row
    identity = f"{row['id']}\x1f{pack.name}\x1f{name}\x1f{wish.shots}"
    example_id = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    # held-out rows are ordered by source row, so that the first N documents are the same for every template
    order_key = example_id if row["split"] == "train" else row["id"]
    return {
        "id": example_id,
        "prompt": BETWEEN_SHOTS.join([*(text for _, text in exemplars), rendered.prompts[i]]),
        "completion": rendered.completions[i],
        "choices": rendered.choices[i],
        "answer": rendered.answers[i],
        "messages": rendered.messages[i] if not exemplars else None,
        "task": pack.settings.task,
        "language": row["language"],
        "pack": pack.name,
        "template": name,
        "corpus": row["corpus"],
        "revision": row["revision"],
        "license": row["license"],
        "source": row["source"],
        "source_id": row["id"],
        "group_id": row["group_id"],
        "shots": wish.shots,
        "exemplar_ids": [e.id for e, _ in exemplars],
        "augmentation": row["augmentation"],
        "split": row["split"],
        "order": draw(job.seed, "order", order_key),
    }
