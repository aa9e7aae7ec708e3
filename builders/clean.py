"""What the global steps compare: a key for each row, the text behind it, and how a recipe wants rows cleaned.

Texts are compared with width, case and white space folded. The text itself is never changed by that.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zhiling.builders.columns import hashed, new_table, translated
from zhiling.builders.engines import Piece, RowGroup
from zhiling.builders.near_duplicates import NearSettings, sketch
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.split import SplitSettings, own_side, uniforms
from zhiling.rows import ColumnType
from zhiling.store import canonical_json

NAIVE_TEST_SHARE = 0.1  # of the split that the leak report compares with, where the recipe draws no test side
KEY_SCHEMA = pa.schema(
    [
        ("unit", pa.int64()), ("row", pa.int64()), ("id", pa.string()), ("key", pa.string()),
        ("label", pa.string()), ("corpus", pa.string()), ("source", pa.string()), ("naive", pa.string()),
        ("own", pa.string()),                 # the side that the source or the row's time gives it
        ("ties", pa.list_(pa.string())),      # rows of one tie (a user, a document) stay together
        ("language", pa.string()), ("text", pa.string()), ("bands", pa.list_(pa.uint64())),  # at a key's first row
    ]
)


class CleanSettings(ScreenSettings):
    """What every row is looked at for, and what becomes of duplicates and contradictions."""

    near_duplicates: NearSettings | None = NearSettings()
    label_conflicts: Literal["quarantine", "majority", "keep"] = "quarantine"
    conflicts_within: Literal["text", "group"] = "text"


@dataclass(frozen=True)
class KeyJob:
    """Rows to make comparison keys for."""

    rows: RowGroup
    unit: int
    columns: Mapping[str, ColumnType]
    language: str
    clean: CleanSettings
    split: SplitSettings
    seed: int


class _Folding(dict[int, str]):
    """What each character is compared as, worked out when it is first met."""

    def __missing__(self, point: int) -> str:
        letter = chr(point)
        form = unicodedata.normalize("NFKC", letter).lower()
        # characters that may join with a neighbour, and the one whose lower case hangs on its place
        joins = any("\u1100" <= c <= "\u11ff" or unicodedata.category(c).startswith("M") for c in letter + form)
        self[point] = JOINS if joins or letter == "Σ" else "".join(form.split())
        return self[point]


JOINS = "\uffff"
FIELDS = "\x1f"  # between the fields of a row; white space, so no folded text holds it
FOLDING = _Folding()
NEXT_ROW, NEXT_FIELD = "\ud800", "\ud801"  # no text holds half a surrogate pair
NOTHING = 0xFFFFFFFE
TABLE = cache(new_table)


def fold(text: str) -> str:
    """`text` as compared: compatibility forms folded (full width to half), lower case, no white space."""
    folded = text.translate(FOLDING)  # twice as fast as normalising, and the same where no characters join
    return "".join(unicodedata.normalize("NFKC", text).lower().split()) if JOINS in folded else folded


def fold_all(fields: Sequence[Sequence[str]]) -> list[bytes]:
    """What `fold` gives for columns of texts, each row's put together in UTF-8, from one array of code points."""
    rows = fields[0] if len(fields) == 1 else map(NEXT_FIELD.join, zip(*fields, strict=True))
    points = np.frombuffer(NEXT_ROW.join(rows).encode("utf-32-le", "surrogatepass"), np.uint32)
    folded = translated(points, TABLE(), _becomes)
    whole, joins = folded[folded != NOTHING].tobytes().decode("utf-32-le").encode(), JOINS.encode()
    texts = whole.split(b"\n") if len(fields[0]) else []
    for i in [i for i, text in enumerate(texts) if joins in text] if joins in whole else ():
        texts[i] = FIELDS.join(fold(field[i]) for field in fields).encode()
    return texts


def _becomes(point: int) -> int:
    """What a code point is folded to: one that stands for a row that is to be folded by itself where it is several."""
    if point in (ord(NEXT_ROW), ord(NEXT_FIELD)):
        return ord("\n" if point == ord(NEXT_ROW) else FIELDS)
    form = FOLDING[point]
    return ord(form) if len(form) == 1 else ord(JOINS) if form else NOTHING


def fold_key(fields: Sequence[str]) -> str:
    """A key that two rows share when their folded fields are equal."""
    key: str = hashed([FIELDS.join(map(fold, fields)).encode()])[0].as_py()
    return key


def make_keys(job: KeyJob) -> Iterator[Piece]:
    """One key row for each corpus row: what the global steps need of it.

    `naive` is the side that a naive random split would have drawn for the row, for the leak report.
    """
    table = job.rows.read([*job.columns, "id", "corpus", "source", "own", "time", "ties"]).combine_chunks()
    fields = [_comparable(table[c]) for c, kind in job.columns.items() if kind != "label"]
    labels = [table[c] for c, kind in job.columns.items() if kind == "label"]
    keys = hashed(fold_all([field.to_pylist() for field in fields]))
    columns = {
        "unit": pa.repeat(job.unit, len(table)),
        "row": pa.array(np.arange(len(table))),
        "id": table["id"],
        "key": keys,
        "label": pc.binary_join_element_wise(*labels, FIELDS) if labels else pa.repeat("", len(table)),
        "corpus": table["corpus"],
        "source": table["source"],
        "naive": _naive(job, table),
        "own": _own(job, table),
        "ties": table["ties"],
        **_texts(job, keys, pc.binary_join_element_wise(*fields, " ")),
    }
    yield Piece(pa.table(columns, schema=KEY_SCHEMA))


def _naive(job: KeyJob, table: pa.Table) -> pa.Array:
    places = pc.binary_join_element_wise(table["corpus"], table["source"], FIELDS).to_pylist()
    test = uniforms(job.seed, "naive", places) < (job.split.test or NAIVE_TEST_SHARE)
    return pc.if_else(pa.array(test), "test", "train")


def _own(job: KeyJob, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    if job.split.time is None:
        return table["own"]
    given = zip(table["own"].to_pylist(), table["time"].to_pylist(), strict=True)
    return pa.array([own_side(job.split, own, time) for own, time in given], pa.string())


def _comparable(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Texts as they are, else as canonical JSON."""
    return values if pa.types.is_string(values.type) else pa.array(map(canonical_json, values.to_pylist()), pa.string())


def first_of(keys: pa.StringArray) -> NDArray[np.bool_]:
    """Where each key stands for the first time."""
    codes = keys.dictionary_encode().indices.to_numpy()  # counted up as keys are met
    return np.diff(np.maximum.accumulate(codes), prepend=-1) > 0


def _texts(job: KeyJob, keys: pa.StringArray, texts: pa.ChunkedArray) -> dict[str, Any]:
    """The text of each key, and its bands, at the key's first row of the unit; null at the others."""
    first = first_of(keys)
    shown, near = pc.if_else(first, texts, None), job.clean.near_duplicates
    bands = pa.nulls(len(keys), KEY_SCHEMA.field("bands").type)
    if near is not None:
        sketches = sketch(shown.drop_null().to_pylist(), job.language, near)
        bands = sketches.take(pa.array(np.cumsum(first) - 1, mask=~first))
    return {"language": pa.repeat(job.language, len(keys)), "text": shown, "bands": bands}
