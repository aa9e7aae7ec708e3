"""What the global steps compare: a key for each row, made as it is read, and sketches of texts for near duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zhiling.builders.clean import FIELDS, fold_all
from zhiling.builders.columns import hashed
from zhiling.builders.corpus import read_unit
from zhiling.builders.engines import Piece, RowGroup
from zhiling.builders.near_duplicates import NearSettings, sketch
from zhiling.builders.places import GOLDEN, scrambled
from zhiling.builders.sources import Unit
from zhiling.builders.split import SplitSettings, own_side
from zhiling.rows import Columns
from zhiling.seeds import draw
from zhiling.store import canonical_json

NAIVE_TEST_SHARE = 0.1  # of the split that the leak report compares with, where the recipe draws no test side
COMPARED = [  # what a row brings along for the global steps
    ("_unit", pa.int64()), ("_row", pa.int64()),  # the unit that it was read in, and its place there
    ("_key", pa.string()), ("_label", pa.string()),
    ("_naive", pa.bool_()),  # whether a naive random split would have put it on its test side, for the leak report
]
SKETCH_SCHEMA = pa.schema(
    [
        ("key", pa.string()), ("id", pa.string()), ("source", pa.string()), ("language", pa.string()),
        ("text", pa.string()), ("bands", pa.list_(pa.uint64())),
    ]
)


@dataclass(frozen=True)
class ReadJob:
    """Rows to read and to make comparison keys for: the unit, and its number among all of them."""

    unit: Unit
    number: int
    split: SplitSettings
    seed: int


@dataclass(frozen=True)
class SketchJob:
    """Rows whose texts may have near duplicates."""

    rows: RowGroup
    columns: Columns
    language: str
    near: NearSettings


def read_rows(job: ReadJob) -> Iterator[Piece]:
    """The corpus rows of a unit, each with what the global steps compare."""
    first = 0
    for piece in read_unit(job.unit):
        yield Piece(_keyed(job, piece.table, first), piece.rejects)
        first += len(piece.table)


def _keyed(job: ReadJob, table: pa.Table, first: int) -> pa.Table:
    labels = [table[c] for c, kind in job.unit.columns.items() if kind == "label"]
    columns = {
        "_unit": pa.repeat(job.number, len(table)),
        "_row": pa.array(np.arange(first, first + len(table))),
        "_key": keys_of(table, job.unit.columns),
        "_label": pc.binary_join_element_wise(*labels, FIELDS) if labels else pa.repeat("", len(table)),
        "_naive": pa.array(_naive(job, np.arange(first, first + len(table)))),
    }
    if job.split.time is not None:
        given = zip(table["_own"].to_pylist(), table["_time"].to_pylist(), strict=True)
        own = pa.array([own_side(job.split, own, time) for own, time in given], pa.string())
        table = table.set_column(table.column_names.index("_own"), "_own", own)
    return pa.table([*table.columns, *columns.values()], pa.schema([*table.schema, *COMPARED]))


def _naive(job: ReadJob, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A keyed draw for each place that a row was read at: rows of the same text may stand on both sides."""
    unit = job.unit
    start = draw(job.seed, "naive", f"{unit.corpus.name}\x1f{unit.shown}\x1f{unit.offset}")
    drawn = scrambled(np.uint64(start) + rows.astype(np.uint64) * GOLDEN)
    return drawn < np.uint64((job.split.test or NAIVE_TEST_SHARE) * 2**64)


def keys_of(table: pa.Table, columns: Columns) -> pa.StringArray:
    """The key of each row: a hash of all its fields but labels, folded."""
    return hashed(fold_all([_comparable(table[c]) for c, kind in columns.items() if kind != "label"]))


def _comparable(values: pa.ChunkedArray) -> list[str]:
    """Texts as they are, else as canonical JSON."""
    found: list[str] = values.to_pylist()
    return found if pa.types.is_string(values.type) else list(map(canonical_json, found))


def texts_of(table: pa.Table, columns: Columns) -> list[str]:
    """The text of each row that is held against others: its texts and lists.

    Beside spans or JSON, which say what is asked of a text and found in it, its texts alone: words such as `start`, and
    the same ten types in every row, would make short texts look alike, and one text that is asked twice look like two.
    """
    kinds = set(columns.values())
    compared = {"string"} if "string" in kinds and kinds & {"spans", "json"} else kinds - {"label"}
    fields = [_comparable(table[c]) for c, kind in columns.items() if kind in compared]
    return list(map(" ".join, zip(*fields, strict=True)))


def first_of(keys: pa.StringArray) -> NDArray[np.bool_]:
    """Where each key stands for the first time."""
    codes = keys.dictionary_encode().indices.to_numpy()  # counted up as keys are met
    return np.diff(np.maximum.accumulate(codes), prepend=-1) > 0


def sketch_rows(job: SketchJob) -> Iterator[Piece]:
    """Text and bands of each key at its first row here."""
    table = job.rows.read().combine_chunks()
    table = table.filter(pa.array(first_of(table["_key"].combine_chunks()))).combine_chunks()
    texts = texts_of(table, job.columns)
    columns = {
        "key": table["_key"], **{name: table[name] for name in ("id", "source", "language")},
        "text": texts, "bands": sketch(texts, job.language, job.near),
    }
    yield Piece(pa.table(columns, schema=SKETCH_SCHEMA))
