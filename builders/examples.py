"""Split rows to example rows: which templates, how many shots, rendered, with exemplars before them.

Everything is done by columns: a template is rendered for all rows that want it, in order of their places in the
release; what a row brings along is taken from the split table; ids and draws are made many at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhiling.builders.bm25 import Index, make_index, score
from zhiling.builders.engines import Piece, Reject, RowGroup
from zhiling.builders.example_columns import chosen_from, coded, conversations, lists_of, repeated, word_lists
from zhiling.builders.exemplars import Exemplar, Pool, Room, choose, choose_nearest, read_pool
from zhiling.builders.places import Ids, Places, example_ids, ids_of, mixed, place, shown_ids, sides_of
from zhiling.builders.recipe import RenderSettings
from zhiling.builders.release_files import placed_schema
from zhiling.builders.split import uniforms
from zhiling.rows import BETWEEN_SHOTS, EXAMPLE_SCHEMA, SPLITS
from zhiling.seeds import draw_array, draws
from zhiling.templates.arrays import Columns, Printed, render_arrays
from zhiling.templates.pack import Pack, read_pack
from zhiling.templates.reading import taken
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

SHARED = ("language", "corpus", "revision", "license", "augmentation")  # mostly the same in all rows of a corpus
PLACED_SCHEMA = placed_schema(
    EXAMPLE_SCHEMA, {*SHARED, "task", "pack", "template", "choices", "exemplar_ids"}
)
TRAIN = SPLITS.index("train")
Numbers = NDArray[np.int64]
Shown = dict[int, list[tuple[Exemplar, str]]]  # by wish: exemplars, with their text in one template


@dataclass(frozen=True)
class RenderJob:
    """Split rows of one corpus to render."""

    rows: tuple[RowGroup, ...]
    pool: Path | None  # None where no row has exemplars
    pack_folder: Path
    pack_digest: str
    templates: tuple[str, ...]
    settings: RenderSettings
    seed: int


@dataclass(frozen=True)
class Batch:
    """The split rows of a job, as columns."""

    table: pa.Table   # what an example brings along
    columns: Columns  # the pack's
    hashes: Ids
    sides: Numbers
    numbers: Places   # draws of the held-out rows

    @property
    def ids(self) -> Sequence[str]:
        """The rows' ids."""
        return self.columns.ids

    @cached_property
    def groups(self) -> Sequence[str]:
        """The group of each row."""
        return list(self.table["group_id"].to_pylist())

    @cached_property
    def fields(self) -> dict[str, list[Any]]:
        """The pack's columns as Python's values."""
        return {name: values.to_pylist() for name, values in self.columns.values.items()}


@dataclass(frozen=True)
class Wishes:
    """Renderings that one template is asked for, in order of their places: which rows, each with how many shots."""

    rows: Numbers
    shots: Numbers
    ids: Ids
    places: Places

    def some(self, kept: Sequence[int] | Numbers) -> "Wishes":
        """Those wishes that are kept."""
        if len(kept) == len(self.rows):
            return self
        return Wishes(self.rows[kept], self.shots[kept], self.ids[kept], self.places[kept])


def make_examples(job: RenderJob) -> Iterator[Piece]:
    """Example rows of one unit, a piece for each template, in order of the place that each will have."""
    pack = _pack(job.pack_folder, job.pack_digest)
    batch = _batch(job, pack)
    yield Piece(PLACED_SCHEMA.empty_table())
    train = np.flatnonzero(batch.sides == TRAIN)
    for name, rows in zip(job.templates, _chosen(job, batch.ids, train), strict=True):
        wishes = _wishes(job, pack, name, batch, rows)
        plain = np.flatnonzero(wishes.shots == 0)
        printed = render_arrays(_compiled(job, name), batch.columns, wishes.rows[plain], job.seed)
        if printed is not None:
            plain = plain[printed.rows]
            yield Piece(_printed(pack, name, batch, wishes.some(plain), printed))
            wishes = wishes.some(np.delete(np.arange(len(wishes.rows)), plain))
        if len(wishes.rows):
            yield _render(job, pack, name, batch, wishes)


def _batch(job: RenderJob, pack: Pack) -> Batch:
    table = pa.concat_tables(part.read() for part in job.rows).combine_chunks()
    ids = table["id"].to_pylist()
    sides = sides_of(table["split"])
    brought = {name: table[name].dictionary_encode() for name in SHARED}
    brought |= {"source": table["source"], "source_id": table["id"], "group_id": table["group_id"]}
    held_out, numbers = np.flatnonzero(sides != TRAIN), np.zeros(len(ids), np.uint64)
    # held-out rows are ordered by source row, so that the first N documents are the same for every template
    numbers[held_out] = draw_array(job.seed, "order", [ids[i] for i in held_out.tolist()])
    columns = Columns(pack, {name: table[name].combine_chunks() for name in pack.settings.columns}, ids)
    return Batch(pa.table(brought).combine_chunks(), columns, ids_of(table["id"].combine_chunks()), sides, numbers)


def _chosen(job: RenderJob, ids: Sequence[str], train: Numbers) -> list[Numbers]:
    """For each template the train rows that drew it: each row draws a few."""
    count, few = len(job.templates), job.settings.templates_per_row
    if few >= count:
        return [train] * count
    keys = [ids[i] for i in train.tolist()]
    found = [draws(job.seed, "templates", [f"{key}\x1f{t}" for key in keys]) for t in range(count)]
    order = np.argsort(np.array(found, np.uint64).reshape(count, len(keys)), axis=0, kind="stable")[:few]
    return [train[(order == t).any(axis=0)] for t in range(count)]


def _wishes(job: RenderJob, pack: Pack, name: str, batch: Batch, train: Numbers) -> Wishes:
    """Train rows with a drawn number of shots; held-out rows with every number."""
    counts = np.array(sorted(job.settings.shots))
    held_out = np.flatnonzero(batch.sides != TRAIN)
    rows = np.concatenate([train, np.repeat(held_out, len(counts))])
    shots = np.concatenate([_draw_shots(job, name, batch.ids, train), np.tile(counts, len(held_out))])
    ids, sides = example_ids(batch.hashes[rows], pack.name, name, shots), batch.sides[rows]
    places = place(sides, np.where(sides == TRAIN, mixed(ids, job.seed, "order"), batch.numbers[rows]))
    order = np.argsort(places, kind="stable")
    return Wishes(rows[order], shots[order], ids[order], places[order])


def _draw_shots(job: RenderJob, name: str, ids: Sequence[str], train: Numbers) -> Numbers:
    """A number of shots for each train row, in the shares that the recipe asks for."""
    shares = sorted(job.settings.shots.items())
    counts = np.array([count for count, _ in shares])
    if len(shares) == 1:
        return np.repeat(counts, len(train))
    cuts = list(accumulate(share for _, share in shares))
    at = uniforms(job.seed, "shots", [f"{ids[i]}\x1f{name}" for i in train.tolist()])
    return counts[np.searchsorted(cuts, at * cuts[-1], side="right")]


@lru_cache(maxsize=64)
def _pack(folder: Path, digest: str) -> Pack:
    pack = read_pack(folder)
    if pack.digest != digest:
        raise RuntimeError(f"{folder} changed while it was being used")
    return pack


def _compiled(job: RenderJob, name: str) -> Compiled:
    return _compiled_of(job.pack_folder, job.pack_digest, name)


@lru_cache(maxsize=512)
def _compiled_of(folder: Path, digest: str, name: str) -> Compiled:
    return compile_template(_pack(folder, digest), name)


@lru_cache(maxsize=64)
def _pool(path: Path, folder: Path, digest: str, balanced: bool) -> tuple[Pool, pa.Table]:
    table = pq.read_table(path)
    return read_pool(table, _pack(folder, digest).settings.columns, balanced), table


@lru_cache(maxsize=512)
def _rendered_pool(path: Path, folder: Path, digest: str, balanced: bool, name: str, seed: int) -> Rendered:
    """Every exemplar of the pool in one template's words."""
    compiled, table = _compiled_of(folder, digest, name), _pool(path, folder, digest, balanced)[1]
    columns = {c: table[c].to_pylist() for c in compiled.pack.settings.columns}
    return render_batch(compiled, columns, table["id"].to_pylist(), seed)


@lru_cache(maxsize=64)
def _index(path: Path, folder: Path, digest: str, balanced: bool, name: str, seed: int) -> Index:
    """The prompts of the pool in one template's words: a row is looked for by what its own prompt shows."""
    language = _pack(folder, digest).settings.language
    return make_index(_rendered_pool(path, folder, digest, balanced, name, seed).prompts, language)


def _pooled(job: RenderJob) -> tuple[Path, Path, str, bool]:
    """Which pool, and how it is to be read."""
    assert job.pool is not None, "some rows ask for shots"
    return job.pool, job.pack_folder, job.pack_digest, job.settings.balances


def _render(job: RenderJob, pack: Pack, name: str, batch: Batch, wishes: Wishes) -> Piece:
    """Render one template for all rows that want it; put exemplars before those that want shots."""
    rows = wishes.rows.tolist()
    columns = {c: taken(values, rows) for c, values in batch.fields.items()}
    rendered = render_batch(_compiled(job, name), columns, taken(batch.ids, rows), job.seed)
    exemplars = _exemplars(job, name, batch, wishes, rendered)
    rejects: dict[int, Reject] = {}
    for n in _doubtful(rendered, exemplars):
        problem = _problem(job, rendered, n, len(exemplars.get(n, ())), int(wishes.shots[n]))
        if problem is not None:
            reason, detail = problem
            row = {c: values[rows[n]] for c, values in batch.fields.items()}
            source, corpus = (batch.table[c][rows[n]].as_py() for c in ("source", "corpus"))
            rejects[n] = Reject("render", reason, f"{pack.name}/{name}: {detail}", source, corpus, row)
    kept = [n for n in range(len(rows)) if n not in rejects] if rejects else range(len(rows))
    return Piece(_examples(pack, name, batch, wishes, rendered, exemplars, kept), list(rejects.values()))


def _doubtful(rendered: Rendered, exemplars: Shown) -> Sequence[int]:
    """Wishes that may have come to nothing; none where all went well."""
    if exemplars or any(rendered.skipped) or any(rendered.refusals):
        return range(len(rendered.prompts))
    return ()


def _problem(job: RenderJob, rendered: Rendered, n: int, have: int, wanted: int) -> tuple[str, str] | None:
    """Why a wish came to nothing: a fixed word and what was found."""
    if rendered.skipped[n]:
        return "skipped", "not for this row"
    if (refusal := rendered.refusals[n]) is not None:
        return "refused", refusal
    if have >= wanted:
        return None
    detail, budget = f"{have} exemplars where {wanted} are asked for", job.settings.exemplar_budget
    return ("refused", detail) if budget is None else ("over_budget", f"{detail} in {budget:,} characters")


def _exemplars(
    job: RenderJob, name: str, batch: Batch, wishes: Wishes, rendered: Rendered
) -> Shown:
    """By wish: exemplars and their text in this template; those that the template refuses are passed over."""
    found: Shown = {}
    if not wishes.shots.any():
        return found
    shown = _rendered_pool(*_pooled(job), name, job.seed)
    asking = [n for n in np.flatnonzero(wishes.shots).tolist() if rendered.prompts[n]]
    for n, chosen in zip(asking, _choices(job, name, batch, wishes, rendered, asking), strict=True):
        texts = ((e, shown.prompts[e.index] + shown.completions[e.index]) for e in chosen)
        found[n] = [(e, text) for e, text in texts if shown.prompts[e.index]]
    return found


def _choices(
    job: RenderJob, name: str, batch: Batch, wishes: Wishes, rendered: Rendered, asking: Sequence[int]
) -> Iterator[list[Exemplar]]:
    """The exemplars of each wish that asks for some, as the recipe chooses them."""
    settings, seed = job.settings, job.seed
    pool, shown = _pool(*_pooled(job))[0], _rendered_pool(*_pooled(job), name, seed)
    wanted = [(batch.ids[row], batch.groups[row], count, seed) for row, count in _listed(wishes, asking)]
    nearest, room = settings.exemplars == "nearest", None
    if nearest or settings.exemplar_budget is not None:
        lengths = [len(p) and len(p) + len(c) for p, c in zip(shown.prompts, shown.completions, strict=True)]
        room = Room(lengths, settings.exemplar_budget)
    if nearest:
        scores = score(_index(*_pooled(job), name, seed), [rendered.prompts[n] for n in asking])
        return (choose_nearest(pool, s.tolist(), *row, room) for s, row in zip(scores, wanted, strict=True))
    return (choose(pool, *row, room) for row in wanted)


def _listed(wishes: Wishes, asking: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Row and number of shots of some wishes."""
    return zip(wishes.rows[asking].tolist(), wishes.shots[asking].tolist(), strict=True)


def _examples(
    pack: Pack, name: str, batch: Batch, wishes: Wishes, rendered: Rendered, exemplars: Shown, kept: Sequence[int],
) -> pa.Table:
    """The kept wishes as a table."""
    def some(values: Sequence[Any]) -> Sequence[Any]:
        return values if len(kept) == len(values) else [values[n] for n in kept]

    wishes, prompts, messages = wishes.some(kept), some(rendered.prompts), some(rendered.messages)
    before: Sequence[Sequence[tuple[Exemplar, str]]] = [exemplars.get(n, ()) for n in kept] if exemplars else []
    if exemplars:
        prompts = [
            BETWEEN_SHOTS.join([*(text for _, text in shown), prompt]) if shown else prompt
            for shown, prompt in zip(before, prompts, strict=True)
        ]
        messages = [None if shown else m for shown, m in zip(before, messages, strict=True)]
    said = {
        "prompt": prompts, "completion": some(rendered.completions), "choices": word_lists(some(rendered.choices)),
        "answer": some(rendered.answers), "messages": conversations(messages),
    }
    return _table(pack, name, batch, wishes, said, before)


def _printed(pack: Pack, name: str, batch: Batch, wishes: Wishes, printed: Printed) -> pa.Table:
    """Wishes that were rendered as arrays as a table."""
    said = {
        "prompt": printed.prompts, "completion": printed.completions, "answer": printed.answers,
        "choices": chosen_from(printed.words, printed.orders, len(wishes.rows)),
        "messages": conversations([None] * len(wishes.rows)),
    }
    return _table(pack, name, batch, wishes, said, ())


def _table(
    pack: Pack, name: str, batch: Batch, wishes: Wishes, said: Mapping[str, Any],
    before: Sequence[Sequence[tuple[Exemplar, str]]],
) -> pa.Table:
    """What was said of wishes, with all else that an example has."""
    count = len(wishes.rows)
    brought = batch.table.take(pa.array(wishes.rows))
    columns = {
        **{column: brought[column] for column in brought.column_names},
        **said,
        "id": shown_ids(wishes.ids),
        "task": repeated(pack.settings.task, count),
        "pack": repeated(pack.name, count),
        "template": repeated(name, count),
        "shots": wishes.shots,
        "exemplar_ids": _names(before, count),
        "place": wishes.places,
    }
    return pa.table({field.name: columns[field.name] for field in PLACED_SCHEMA}, schema=PLACED_SCHEMA)


def _names(before: Sequence[Sequence[tuple[Exemplar, str]]], count: int) -> pa.Array:
    """The ids of each example's exemplars."""
    if not before:
        return lists_of([()], coded([])).take(pa.repeat(0, count))
    return lists_of(before, coded([exemplar.id for shown in before for exemplar, _ in shown]))
