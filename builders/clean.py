"""What the global steps compare: a key for each row, the text behind it, and how a recipe wants rows cleaned.

Texts are compared with width, case and white space folded. The text itself is never changed by that.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from zhiling.builders.engines import Piece, RowGroup
from zhiling.builders.near_duplicates import NearSettings, sketch
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.split import SplitSettings, own_side
from zhiling.rows import ColumnType
from zhiling.seeds import uniform
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
        joins = 0x1100 <= point <= 0x11FF or any(unicodedata.category(c).startswith("M") for c in letter + form)
        self[point] = JOINS if joins or letter == "Σ" else "".join(form.split())
        return self[point]


JOINS = "\uffff"
FOLDING = _Folding()


def fold(text: str) -> str:
    """`text` as compared: compatibility forms folded (full width to half), lower case, no white space."""
    folded = text.translate(FOLDING)  # twice as fast as normalising, and the same where no characters join
    return "".join(unicodedata.normalize("NFKC", text).lower().split()) if JOINS in folded else folded


def fold_key(fields: Sequence[str]) -> str:
    """A key that two rows share when their folded fields are equal."""
    text = "\x1f".join(map(fold, fields))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def make_keys(job: KeyJob) -> Iterator[Piece]:
    """One key row for each corpus row: what the global steps need of it.

    `naive` is the side that a naive random split would have drawn for the row, for the leak report.
    """
    table = job.rows.read()
    texts = [c for c, kind in job.columns.items() if kind != "label"]
    labels = [c for c, kind in job.columns.items() if kind == "label"]
    values = {c: table[c].to_pylist() for c in [*texts, *labels]}
    compared = list(zip(*(_comparable(values[c]) for c in texts), strict=True))
    keys = [fold_key(fields) for fields in compared]
    corpora, sources = table["corpus"].to_pylist(), table["source"].to_pylist()
    share = job.split.test or NAIVE_TEST_SHARE
    naive = (uniform(job.seed, "naive", f"{c}\x1f{s}") < share for c, s in zip(corpora, sources, strict=True))
    asides = (table[name].to_pylist() for name in ("own", "time"))
    columns = {
        "unit": [job.unit] * len(keys),
        "row": list(range(len(keys))),
        "id": table["id"],
        "key": keys,
        "label": ["\x1f".join(values[c][i] for c in labels) for i in range(len(keys))],
        "corpus": corpora,
        "source": sources,
        "naive": ["test" if drawn else "train" for drawn in naive],
        "own": [own_side(job.split, own, time) for own, time in zip(*asides, strict=True)],
        "ties": table["ties"],
        **_texts(job, keys, [" ".join(fields) for fields in compared]),
    }
    yield Piece(pa.table(columns, schema=KEY_SCHEMA))


def _comparable(values: Sequence[object]) -> list[str]:
    return [v if isinstance(v, str) else canonical_json(v) for v in values]


def _texts(job: KeyJob, keys: Sequence[str], texts: Sequence[str]) -> dict[str, pa.Array]:
    """The text of each key, and its bands, at the key's first row of the unit; null at the others."""
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    shown = [texts[i] for i in first.values()]
    near = job.clean.near_duplicates
    bands = sketch(shown, job.language, near) if near else pa.nulls(len(shown), KEY_SCHEMA.field("bands").type)
    places: list[int | None] = [None] * len(keys)
    for n, i in enumerate(first.values()):
        places[i] = n
    at = pa.array(places, pa.int64())
    language = pa.repeat(job.language, len(keys))
    return {"language": language, "text": pa.array(shown, pa.string()).take(at), "bands": bands.take(at)}
