"""A release's Parquet files: rows of all units in order of their places, each file a stretch of places of one side.

In: `.arrow` outputs whose batches each are in order of the column `place` (see `places.py`). Out: a file for each
stretch, sorted in memory and written by whichever worker does it, and a table of what it holds. How many files a side
has hangs on how many rows it has; which row stands where, on places alone.
"""

import json
import mmap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhiling.builders.engines import Piece, RowGroup, Shard, batches, schema_of
from zhiling.builders.example_columns import CODED
from zhiling.builders.places import PLACE, Places, bounds, ids_of, place, places_of, sides_of
from zhiling.rows import SPLITS, Columns, split_schema
from zhiling.store import atomic, file_facts

FILE_ROWS = 250_000  # of a file, about
GROUP_ROWS = 16_384
FEW_WORDS, LOOKED_AT = 64, 4_096  # words of a column that are looked for in so many rows first
LARGE = 16 * 2**20  # bytes of a column
PARQUET: Mapping[str, Any] = {"compression": "zstd", "compression_level": 1, "version": "2.6", "store_schema": False}
TEMPLATE = "template"  # a column that examples have and corpora have not
FACTS = "facts"  # where a note tells size and digest of its file
REPEATED = ("completion", "answer", "shots")  # columns with few values that come as they are
KEPT_SCHEMA = pa.schema(
    [
        ("pack", pa.string()), ("template", pa.string()), ("shots", pa.int64()), ("rows", pa.int64()),
        ("characters", pa.int64()), ("prompt", pa.string()), ("completion", pa.string()),  # those of its first row
    ]
)


def placed_schema(schema: pa.Schema, shared: Collection[str]) -> pa.Schema:
    """`schema` as it is on the way: columns of `shared` words as numbers into a dictionary, and each row's place."""
    def field(of: pa.Field) -> pa.Field:
        if of.name not in shared:
            return of
        return of.with_type(pa.list_(CODED) if pa.types.is_list(of.type) else CODED)

    return pa.schema([*map(field, schema), (PLACE, pa.uint64())])


@dataclass(frozen=True)
class PlaceJob:
    """Split rows of one corpus to put in order of their places."""

    rows: RowGroup
    columns: Columns


def place_rows(job: PlaceJob) -> Iterator[Piece]:
    """The split rows of a unit in order of their places; a row's draw is its own id."""
    labels = {name for name, kind in job.columns.items() if kind == "label"}
    shared = {"corpus", "revision", "license", "language", "split", "augmentation"} | labels
    table = job.rows.read().combine_chunks()
    numbers = ids_of(table["id"].combine_chunks())[:, :8].copy().view(">u8").ravel().astype(np.uint64)
    places = place(sides_of(table["split"]), numbers)
    columns = {name: table[name].dictionary_encode() if name in shared else table[name] for name in table.column_names}
    schema = placed_schema(split_schema(job.columns), shared)
    placed = pa.table({**columns, PLACE: places}, schema=schema).combine_chunks()
    yield Piece(placed.take(pa.array(np.argsort(places, kind="stable"))))


@dataclass(frozen=True)
class FileJob:
    """A file of the release to write: which stretch of places of which outputs."""

    outputs: tuple[Path, ...]
    first: int
    end: int
    target: Path


def sizes(outputs: Sequence[Path]) -> list[int]:
    """How many rows stand on each side."""
    ends = np.array([bounds(side, 1) for side in range(len(SPLITS))], np.uint64)
    found = np.zeros(len(SPLITS), np.int64)
    for path in outputs:
        for batch in batches(path):
            found += np.diff(np.searchsorted(places_of(batch), ends), axis=1).ravel()
    return [int(n) for n in found]


def files_of(outputs: Sequence[Path], folder: Path, work: Path) -> list[Shard]:
    """The files that hold the rows of `outputs`, side by side, to be written into `folder`; notes go to `work`."""
    shards = []
    for side, (split, rows) in enumerate(zip(SPLITS, sizes(outputs), strict=True)):
        parts = -(-rows // FILE_ROWS)
        for n, (first, end) in enumerate(pairwise(bounds(side, parts) if parts else ())):
            name = f"{split}-{n:05d}-of-{parts:05d}.parquet"
            shards.append(Shard(work / name, FileJob(tuple(outputs), first, end, folder / name)))
    return shards


def write_file(job: FileJob) -> Iterator[Piece]:
    """Write one file of the release; what is handed on is what it holds, by template and number of shots.

    The file's digest is handed on as the metadata of that table: its bytes are still at hand.
    """
    table = _between(job)
    schema = pa.schema([field for field in table.schema if field.name != PLACE])
    settings = parquet_settings(schema)
    with atomic(job.target, durable=False) as part, pq.ParquetWriter(part, schema, **settings) as writer:
        for start in range(0, len(table), GROUP_ROWS):
            writer.write_table(table.slice(start, GROUP_ROWS).select(schema.names))
    kept = _kept(table) if TEMPLATE in schema.names else KEPT_SCHEMA.empty_table()
    yield Piece(kept.replace_schema_metadata({FACTS: json.dumps(file_facts(job.target))}))


def facts_of(note: Path) -> dict[str, Any]:
    """What a manifest says of the file that a note of `write_file` is about."""
    found: dict[str, Any] = json.loads(pq.read_schema(note).metadata[FACTS.encode()])
    return found


def parquet_settings(schema: pa.Schema) -> dict[str, Any]:
    """How a file of these columns is encoded: with a dictionary where words come again; readers see plain types."""
    coded = [f.name + ".list.element" * pa.types.is_list(f.type) for f in schema if _is_coded(f.type)]
    # a corpus lies in order of its ids: a reader that looks for one can pass over most of a file
    statistics = False if TEMPLATE in schema.names else ["id"]
    return {**PARQUET, "use_dictionary": [*coded, *REPEATED], "write_statistics": statistics}


def _is_coded(kind: pa.DataType) -> bool:
    return bool((kind.value_type if pa.types.is_list(kind) else kind) == CODED)


def _between(job: FileJob) -> pa.Table:
    """The rows of a stretch of places, in order.

    Every column is put together and sorted by itself, and pages of the files are let go again after a large one: what
    stays mapped of many outputs would fill memory.
    """
    ends = np.array([job.first, job.end], np.uint64)
    with ExitStack() as opened:
        maps = [opened.enter_context(_mapped(path)) for path in job.outputs]
        found = [part for each in maps for part in _stretch(each, ends)]
        order = pa.array(np.argsort(np.concatenate([places_of(part) for part in found]), kind="stable"))
        columns = {}
        for i, field in enumerate(found[0].schema):
            column = pa.concat_arrays([part.column(i) for part in found]).take(order)
            columns[field.name] = _in_order_of_use(column) if _is_coded(field.type) else column
            for each in maps if column.nbytes > LARGE else ():
                each.madvise(mmap.MADV_DONTNEED)
        del found
    return pa.table(columns, schema=schema_of(job.outputs[0]))


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """An output's bytes, mapped into memory; what was made of them has to be gone in the end."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    yield mapped


def _stretch(mapped: mmap.mmap, ends: Places) -> Iterator[pa.RecordBatch]:
    """The rows of one output between two places."""
    with pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))) as reader:
        for batch in reader:
            start, stop = np.searchsorted(places_of(batch), ends).tolist()
            if stop > start:
                yield batch.slice(start, stop - start)


def _in_order_of_use(column: pa.Array) -> pa.Array:
    """A coded column, or lists of such, with its words in the order in which they first stand in it.

    How rows came together, in which batches with which dictionaries, is not to be seen in a file.
    """
    if pa.types.is_list(column.type):
        inner = _in_order_of_use(column.flatten())
        ends = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, mask=column.is_null())
    count = len(column.dictionary)
    if not column.null_count and count <= FEW_WORDS:
        codes = column.indices.to_numpy()
        seen, first = np.unique(codes[:LOOKED_AT], return_index=True)
        if len(seen) == count:  # each of them stands among the first rows
            order = seen[np.argsort(first)]
            places = np.empty(count, np.int32)
            places[order] = np.arange(count)
            return pa.DictionaryArray.from_arrays(places[codes], column.dictionary.take(pa.array(order)))
    used = column.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def _kept(table: pa.Table) -> pa.Table:
    """Rows and characters by template and number of shots, with the texts of the first row of each."""
    words = {name: table[name].combine_chunks() for name in ("pack", "template")}
    packs, templates = (column.indices.to_numpy() for column in words.values())
    shots, lengths = table["shots"].to_numpy(), pc.utf8_length(table["prompt"]).to_numpy()
    which = (packs * len(words["template"].dictionary) + templates) * (shots.max() + 1) + shots
    rows = np.bincount(which)
    at = np.empty(len(rows), np.int64)
    at[which[::-1]] = np.arange(len(which))[::-1]  # the first row of each is written last
    at = at[rows > 0]
    first = table.select(["prompt", "completion"]).take(pa.array(at))
    named = {
        **{name: column.take(pa.array(at)).dictionary_decode() for name, column in words.items()}, "shots": shots[at],
        "rows": rows[rows > 0], "characters": np.bincount(which, lengths)[rows > 0].astype(np.int64),
        "prompt": first["prompt"], "completion": first["completion"],
    }
    return pa.table(named, schema=KEPT_SCHEMA)
