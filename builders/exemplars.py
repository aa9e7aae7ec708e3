"""Few-shot exemplars for a row, from a pool of train rows: by keyed draws, labels in turn; or the most alike.

The pool holds the rows with the smallest draws, so it hangs on content and stays small however large the
corpus is; rows too long to stand before another are left out. A row never sees itself or its own group.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from zhiling.builders.engines import Piece, RowGroup
from zhiling.rows import Columns, split_schema
from zhiling.seeds import draw, draws, shuffled


@dataclass(frozen=True)
class PoolJob:
    """Split rows to draw a corpus's pool from."""

    rows: tuple[RowGroup, ...]
    columns: Columns
    size: int        # rows per label
    characters: int  # longest text of an exemplar
    seed: int
    balanced: bool = True


@dataclass(frozen=True)
class Room:
    """How long exemplars may be: the length of each in one template's words, and what a row has room for."""

    lengths: Sequence[int]  # by place in the pool; 0 where the template refuses it
    budget: int | None

    def takes(self, index: int, left: int, open_: int) -> bool:
        """Whether this exemplar takes no more than its part of what is `left` for `open_` more."""
        length = self.lengths[index]
        return length > 0 and (self.budget is None or length * open_ <= left)


@dataclass(frozen=True)
class Exemplar:
    """A pool row as the draw sees it: its place in the pool, its id and its group."""

    index: int
    id: str
    group_id: str


Pool = Mapping[str, Sequence[Exemplar]]  # label -> exemplars


def label_of(row: Mapping[str, object], columns: Columns) -> str:
    """The row's label or labels as one key; empty where its pack has none."""
    return "\x1f".join(str(row[c]) for c, kind in columns.items() if kind == "label")


def make_pool(job: PoolJob) -> Iterator[Piece]:
    """The pool of some rows: for each label the `size` train rows with the smallest keyed draws; bounded at any time.

    The pools of parts, put together, give the pool of the whole.
    """
    best = split_schema(job.columns).empty_table()
    for part in job.rows:
        best = _best(job, pa.concat_tables([best, _usable(job, part.read())]))
    yield Piece(best)


def _usable(job: PoolJob, rows: pa.Table) -> pa.Table:
    """Train rows that are short enough: their texts together, and each text of a list, such as a passage."""
    rows = rows.filter(pc.equal(rows["split"], "train"))
    lengths = [pc.utf8_length(rows[c]) for c, kind in job.columns.items() if kind == "string"]
    lengths = [reduce(pc.add, lengths)] if lengths else []
    for name in (c for c, kind in job.columns.items() if kind == "strings"):
        lengths.append(pa.array([max(map(len, texts), default=0) for texts in rows[name].to_pylist()], pa.int64()))
    short = [pc.less_equal(each, job.characters) for each in lengths]
    return rows.filter(reduce(pc.and_, short)) if short else rows


def _best(job: PoolJob, rows: pa.Table) -> pa.Table:
    """Label by label, the rows with the smallest draws in order of them."""
    ids, labels = rows["id"].to_pylist(), _labels(rows, job.columns) if job.balanced else [""] * len(rows)
    by_label: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for n, (label, number, row_id) in enumerate(zip(labels, draws(job.seed, "pool", ids), ids, strict=True)):
        by_label[label].append((number, row_id, n))
    places = [n for label in sorted(by_label) for _, _, n in heapq.nsmallest(job.size, by_label[label])]
    return rows.take(pa.array(places, pa.int64()))


def _labels(rows: pa.Table, columns: Columns) -> list[str]:
    """`label_of` each row."""
    labels = rows.select([c for c, kind in columns.items() if kind == "label"])
    return [label_of(row, columns) for row in labels.to_pylist()] if labels.num_columns else [""] * len(rows)


def read_pool(table: pa.Table, columns: Columns, balanced: bool = True) -> Pool:
    """The pool by label; under one key where labels do not count."""
    pool: dict[str, list[Exemplar]] = defaultdict(list)
    labels = _labels(table, columns) if balanced else [""] * len(table)
    rows = zip(labels, table["id"].to_pylist(), table["group_id"].to_pylist(), strict=True)
    for i, (label, row_id, group_id) in enumerate(rows):
        pool[label].append(Exemplar(i, row_id, group_id))
    return dict(pool)


def choose(
    pool: Pool, row_id: str, group_id: str, shots: int, seed: int, room: Room | None = None
) -> list[Exemplar]:
    """`shots` distinct exemplars for a row, by keyed draw, labels in turn; fewer where the pool has no more."""
    labels = shuffled(sorted(pool), seed, "exemplar labels", row_id)
    rings = [_ring(pool[label], f"{row_id}\x1f{label}", seed) for label in labels]
    chosen = _in_turn(rings, shots, room, lambda e: e.group_id != group_id and e.id != row_id)
    return shuffled(chosen, seed, "exemplar order", row_id)


def choose_nearest(
    pool: Pool, scores: Sequence[float], row_id: str, group_id: str, shots: int, seed: int, room: Room | None = None
) -> list[Exemplar]:
    """The `shots` exemplars with the best scores, labels in turn, each of its own group; the best stands last."""
    seen = {group_id}

    def is_new(exemplar: Exemplar) -> bool:
        if exemplar.group_id in seen or exemplar.id == row_id:
            return False
        seen.add(exemplar.group_id)
        return True

    labels = shuffled(sorted(pool), seed, "exemplar labels", row_id)
    rings = [iter(sorted(pool[label], key=lambda e: (-scores[e.index], e.id))) for label in labels]
    chosen = _in_turn(rings, shots, room, is_new)
    return sorted(chosen, key=lambda e: (scores[e.index], e.id))


def _in_turn(
    rings: list[Iterator[Exemplar]], shots: int, room: Room | None, fits: Callable[[Exemplar], bool]
) -> list[Exemplar]:
    """The first of each ring that fits, over and over, until there are `shots` or no more."""
    chosen: list[Exemplar] = []
    left = (room.budget if room else None) or 0

    def usable(exemplar: Exemplar) -> bool:
        return (room is None or room.takes(exemplar.index, left, shots - len(chosen))) and fits(exemplar)

    while len(chosen) < shots and rings:
        for ring in list(rings):
            if len(chosen) == shots:
                break
            found = next(filter(usable if room else fits, ring), None)
            if found is None:
                rings.remove(ring)
            else:
                chosen.append(found)
                left -= room.lengths[found.index] if room else 0
    return chosen


def _ring(exemplars: Sequence[Exemplar], key: str, seed: int) -> Iterator[Exemplar]:
    """The exemplars of one label from a drawn start, once around."""
    start = draw(seed, "exemplar", key) % len(exemplars)
    for i in range(len(exemplars)):
        yield exemplars[(start + i) % len(exemplars)]
