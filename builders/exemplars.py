"""Few-shot exemplars for a row, from a pool of train rows: by keyed draws, labels in turn; or the most alike.

The pool holds the rows with the smallest draws, so it hangs on content and stays small however large the
corpus is; rows too long to stand before another are left out. A row never sees itself or its own group.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from zhiling.builders.engines import Piece, RowGroup
from zhiling.rows import Columns, split_schema
from zhiling.seeds import draw, shuffled


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
    """The pool of a corpus: for each label the `size` train rows with the smallest keyed draws."""
    best: dict[str, list[tuple[int, str, dict[str, object]]]] = defaultdict(list)
    for part in job.rows:
        for row in part.read().to_pylist():
            length = sum(len(row[c]) for c, kind in job.columns.items() if kind == "string")
            if row["split"] != "train" or length > job.characters:
                continue
            heap = best[label_of(row, job.columns) if job.balanced else ""]
            entry = (-draw(job.seed, "pool", row["id"]), row["id"], row)
            if len(heap) < job.size:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)
    rows = [row for label in sorted(best) for _, _, row in sorted(best[label], key=lambda e: (-e[0], e[1]))]
    yield Piece(pa.Table.from_pylist(rows, schema=split_schema(job.columns)))


def read_pool(table: pa.Table, columns: Columns, balanced: bool = True) -> Pool:
    """The pool by label; under one key where labels do not count."""
    pool: dict[str, list[Exemplar]] = defaultdict(list)
    for i, row in enumerate(table.to_pylist()):
        pool[label_of(row, columns) if balanced else ""].append(Exemplar(i, row["id"], row["group_id"]))
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
