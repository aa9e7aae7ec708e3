"""Split rows to example rows: which templates, how many shots, rendered, with exemplars before them.

Everything is done by columns: a template is rendered for all rows that want it, what a row brings along is taken
from the split table by place, draws and ids are hashed many at a time. No row is ever a dict of its own.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.builders.bm25 import Index, make_index, score
from zhiling.builders.engines import Piece, Reject, RowGroup
from zhiling.builders.exemplars import Exemplar, Pool, Room, choose, choose_nearest, read_pool
from zhiling.builders.recipe import RenderSettings
from zhiling.rows import BETWEEN_SHOTS, EXAMPLE_SCHEMA
from zhiling.seeds import draws
from zhiling.templates.pack import Pack, read_pack
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

ORDERED_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("split", pa.string())).append(pa.field("order", pa.uint64()))
TAKEN = ("language", "corpus", "revision", "license", "source", "group_id", "augmentation", "split")


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
class Batch:
    """The split rows of a job, as columns."""

    table: pa.Table
    ids: Sequence[str]
    groups: Sequence[str]
    sides: Sequence[str]
    fields: dict[str, list[Any]]  # the pack's declared columns


@dataclass(frozen=True)
class Wishes:
    """Renderings that one template is asked for: which rows, each with how many shots."""

    places: Sequence[int]
    shots: Sequence[int]


def make_examples(job: RenderJob) -> Iterator[Piece]:
    """Example rows of one unit, a piece for each template, with the side and place that each will have."""
    pack, table = _pack(job.pack_folder, job.pack_digest), job.rows.read()
    ids, groups, sides = (table[name].to_pylist() for name in ("id", "group_id", "split"))
    batch = Batch(table, ids, groups, sides, {name: table[name].to_pylist() for name in pack.settings.columns})
    yield Piece(ORDERED_SCHEMA.empty_table())
    train = [i for i, side in enumerate(sides) if side == "train"]
    held_out = [i for i, side in enumerate(sides) if side != "train"]
    for name, places in zip(job.templates, _chosen(job, ids, train), strict=True):
        wishes = _wishes(job, name, ids, places, held_out)
        if wishes.places:
            yield _render(job, pack, name, batch, wishes)


def _chosen(job: RenderJob, ids: Sequence[str], train: Sequence[int]) -> list[list[int]]:
    """For each template the train rows that drew it: each row draws a few."""
    count, few = len(job.templates), job.settings.templates_per_row
    if few >= count:
        return [list(train)] * count
    chosen: list[list[int]] = [[] for _ in job.templates]
    drawn = [draws(job.seed, "templates", [f"{ids[i]}\x1f{t}" for i in train]) for t in range(count)]
    for i, row in zip(train, zip(*drawn, strict=True), strict=True):
        for t in sorted(range(count), key=row.__getitem__)[:few]:
            chosen[t].append(i)
    return chosen


def _wishes(
    job: RenderJob, name: str, ids: Sequence[str], places: Sequence[int], held_out: Sequence[int]
) -> Wishes:
    """Train rows with a drawn number of shots; held-out rows with every number."""
    shots = sorted(job.settings.shots)
    every = [i for i in held_out for _ in shots]
    return Wishes([*places, *every], [*_draw_shots(job, name, [ids[i] for i in places]), *shots * len(held_out)])


def _draw_shots(job: RenderJob, name: str, ids: Sequence[str]) -> list[int]:
    """A number of shots for each train row, in the shares that the recipe asks for."""
    shares = sorted(job.settings.shots.items())
    if len(shares) == 1:
        return [shares[0][0]] * len(ids)
    cuts = list(accumulate(share for _, share in shares))
    drawn = draws(job.seed, "shots", [f"{i}\x1f{name}" for i in ids])
    return [shares[bisect(cuts, (d >> 11) / 2**53 * cuts[-1])][0] for d in drawn]


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
def _pool(path: Path, folder: Path, digest: str, balanced: bool) -> tuple[Pool, pa.Table]:
    table = pq.read_table(path)
    return read_pool(table, _pack(folder, digest).settings.columns, balanced), table


@lru_cache(maxsize=512)
def _rendered_pool(path: Path, folder: Path, digest: str, balanced: bool, name: str, seed: int) -> Rendered:
    """Every exemplar of the pool in one template's words."""
    compiled, table = _compiled(folder, digest, name), _pool(path, folder, digest, balanced)[1]
    columns = {c: table[c].to_pylist() for c in compiled.pack.settings.columns}
    return render_batch(compiled, columns, table["id"].to_pylist(), seed)


@lru_cache(maxsize=64)
def _index(path: Path, folder: Path, digest: str, balanced: bool, name: str, seed: int) -> Index:
    """The prompts of the pool in one template's words: a row is looked for by what its own prompt shows."""
    language = _pack(folder, digest).settings.language
    return make_index(_rendered_pool(path, folder, digest, balanced, name, seed).prompts, language)


def _render(job: RenderJob, pack: Pack, name: str, batch: Batch, wishes: Wishes) -> Piece:
    """Render one template for all rows that want it; put exemplars before those that want shots."""
    places = wishes.places
    columns = {c: [values[i] for i in places] for c, values in batch.fields.items()}
    compiled = _compiled(job.pack_folder, job.pack_digest, name)
    rendered = render_batch(compiled, columns, [batch.ids[i] for i in places], job.seed)
    exemplars = _exemplars(job, name, batch, wishes, rendered)
    kept: list[int] = []
    rejects: list[Reject] = []
    budget = job.settings.exemplar_budget
    for n, refusal in enumerate(rendered.refusals):
        reason = "refused"
        if rendered.skipped[n]:
            refusal, reason = "not for this row", "skipped"
        elif refusal is None and len(exemplars.get(n, ())) < wishes.shots[n]:
            refusal = f"{len(exemplars[n])} exemplars where {wishes.shots[n]} are asked for"
            if budget is not None:
                refusal, reason = f"{refusal} in {budget:,} characters", "over_budget"
        if refusal is None:
            kept.append(n)
        else:
            row = batch.table.slice(places[n], 1).select([*batch.fields, "source", "corpus"]).to_pylist()[0]
            source, corpus = row.pop("source"), row.pop("corpus")
            rejects.append(Reject("render", reason, f"{pack.name}/{name}: {refusal}", source, corpus, row))
    return Piece(_examples(job, pack, name, batch, wishes, rendered, exemplars, kept), rejects)


def _exemplars(
    job: RenderJob, name: str, batch: Batch, wishes: Wishes, rendered: Rendered
) -> dict[int, list[tuple[Exemplar, str]]]:
    """By wish: exemplars and their text in this template; those that the template refuses are passed over."""
    found: dict[int, list[tuple[Exemplar, str]]] = {}
    if not any(wishes.shots):
        return found
    place = (job.pool, job.pack_folder, job.pack_digest, job.settings.balances)
    shown = _rendered_pool(*place, name, job.seed)
    asking = [n for n, shots in enumerate(wishes.shots) if shots and rendered.prompts[n]]
    for n, chosen in zip(asking, _choices(job, name, batch, wishes, rendered, asking), strict=True):
        texts = ((e, shown.prompts[e.index] + shown.completions[e.index]) for e in chosen)
        found[n] = [(e, text) for e, text in texts if shown.prompts[e.index]]
    return found


def _choices(
    job: RenderJob, name: str, batch: Batch, wishes: Wishes, rendered: Rendered, asking: Sequence[int]
) -> Iterator[list[Exemplar]]:
    """The exemplars of each wish that asks for some, as the recipe chooses them."""
    settings, seed = job.settings, job.seed
    place = (job.pool, job.pack_folder, job.pack_digest, settings.balances)
    pool, shown = _pool(*place)[0], _rendered_pool(*place, name, seed)
    rows = [(batch.ids[wishes.places[n]], batch.groups[wishes.places[n]], wishes.shots[n], seed) for n in asking]
    nearest, room = settings.exemplars == "nearest", None
    if nearest or settings.exemplar_budget is not None:
        lengths = [len(p) and len(p) + len(c) for p, c in zip(shown.prompts, shown.completions, strict=True)]
        room = Room(lengths, settings.exemplar_budget)
    if nearest:
        scores = score(_index(*place, name, seed), [rendered.prompts[n] for n in asking])
        return (choose_nearest(pool, s.tolist(), *row, room) for s, row in zip(scores, rows, strict=True))
    return (choose(pool, *row, room) for row in rows)


def _examples(
    job: RenderJob, pack: Pack, name: str, batch: Batch, wishes: Wishes, rendered: Rendered,
    exemplars: dict[int, list[tuple[Exemplar, str]]], kept: Sequence[int],
) -> pa.Table:
    """The kept wishes as a table."""
    def some(values: Sequence[Any]) -> Sequence[Any]:
        return values if len(kept) == len(values) else [values[n] for n in kept]

    places, shots, prompts = some(wishes.places), some(wishes.shots), some(rendered.prompts)
    messages, before = some(rendered.messages), [exemplars.get(n, ()) for n in kept] if exemplars else []
    if exemplars:
        prompts = [
            BETWEEN_SHOTS.join([*(text for _, text in shown), prompt]) if shown else prompt
            for shown, prompt in zip(before, prompts, strict=True)
        ]
        messages = [None if shown else m for shown, m in zip(before, messages, strict=True)]
    rows = batch.table.select([*TAKEN, "id"]).take(pa.array(places, pa.int64()))
    source_ids = [batch.ids[i] for i in places]
    ids = _ids([f"{source}\x1f{pack.name}\x1f{name}\x1f{s}" for source, s in zip(source_ids, shots, strict=True)])
    # held-out rows are ordered by source row, so that the first N documents are the same for every template
    keys = [ids[n] if batch.sides[i] == "train" else batch.ids[i] for n, i in enumerate(places)]
    columns = {
        **{column: rows[column] for column in TAKEN},
        "id": ids,
        "prompt": prompts,
        "completion": some(rendered.completions),
        "choices": _lists(some(rendered.choices)),
        "answer": some(rendered.answers),
        "messages": messages if any(messages) else pa.nulls(len(places), EXAMPLE_SCHEMA.field("messages").type),
        "task": pa.repeat(pack.settings.task, len(places)),
        "pack": pa.repeat(pack.name, len(places)),
        "template": pa.repeat(name, len(places)),
        "source_id": rows["id"],
        "shots": shots,
        "exemplar_ids": [[e.id for e, _ in shown] for shown in before] if exemplars else _lists([[]] * len(places)),
        "order": draws(job.seed, "order", keys),
    }
    return pa.table({field.name: columns[field.name] for field in ORDERED_SCHEMA}, schema=ORDERED_SCHEMA)


def _ids(identities: Sequence[str]) -> list[str]:
    return [blake2b(identity.encode(), digest_size=12).hexdigest() for identity in identities]


def _lists(values: Sequence[Sequence[str] | None]) -> pa.Array:
    """Lists of texts, of which most rows share a few: each is turned into Arrow once."""
    places: dict[int, int] = {}
    distinct: list[Sequence[str] | None] = []
    for value in values:
        if id(value) not in places:
            places[id(value)] = len(distinct)
            distinct.append(value)
    at = pa.array([places[id(value)] for value in values], pa.int64())
    return pa.array(distinct, pa.list_(pa.string())).take(at)
