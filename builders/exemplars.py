"""Few-shot exemplars: drawn for each row from a pool of train rows, balanced over labels, by keyed draws.

The pool holds the rows with the smallest draws, so it hangs on content and stays small however large the
corpus is; rows too long to stand before another are left out. A row never sees itself or its own group.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
            heap = best[label_of(row, job.columns)]
            entry = (-draw(job.seed, "pool", row["id"]), row["id"], row)
            if len(heap) < job.size:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)
    rows = [row for label in sorted(best) for _, _, row in sorted(best[label], key=lambda e: (-e[0], e[1]))]
    yield Piece(pa.Table.from_pylist(rows, schema=split_schema(job.columns)))


def read_pool(table: pa.Table, columns: Columns) -> Pool:
    """The pool by label."""
    pool: dict[str, list[Exemplar]] = defaultdict(list)
    for i, row in enumerate(table.to_pylist()):
        pool[label_of(row, columns)].append(Exemplar(i, row["id"], row["group_id"]))
    return dict(pool)


def choose(pool: Pool, row_id: str, group_id: str, shots: int, seed: int) -> list[Exemplar]:
    """`shots` distinct exemplars for a row, labels in turn; fewer where the pool has no more."""
    labels = shuffled(sorted(pool), seed, "exemplar labels", row_id)
    order = [_ring(pool[label], f"{row_id}\x1f{label}", seed) for label in labels]
    chosen: list[Exemplar] = []
    while len(chosen) < shots and order:
        for ring in list(order):
            found = next((e for e in ring if e.group_id != group_id and e.id != row_id), None)
            if found is None:
                order.remove(ring)
            elif len(chosen) < shots:
                chosen.append(found)
    return shuffled(chosen, seed, "exemplar order", row_id)


def _ring(exemplars: Sequence[Exemplar], key: str, seed: int) -> Iterator[Exemplar]:
    """The exemplars of one label from a drawn start, once around."""
    start = draw(seed, "exemplar", key) % len(exemplars)
    for i in range(len(exemplars)):
        yield exemplars[(start + i) % len(exemplars)]
