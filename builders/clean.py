"""Text as it is compared: width, case and white space folded. The text itself is never changed."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from zhiling.builders.engines import Piece, RowGroup
from zhiling.rows import ColumnType
from zhiling.seeds import uniform
from zhiling.store import canonical_json

KEY_SCHEMA = pa.schema(
    [
        ("unit", pa.int64()), ("row", pa.int64()), ("id", pa.string()), ("key", pa.string()),
        ("label", pa.string()), ("corpus", pa.string()), ("source", pa.string()), ("naive", pa.string()),
    ]
)


@dataclass(frozen=True)
class KeyJob:
    """Rows to make comparison keys for."""

    rows: RowGroup
    unit: int
    columns: Mapping[str, ColumnType]
    seed: int
    test_share: float


def fold(text: str) -> str:
    """`text` as compared: compatibility forms folded (full width to half), lower case, no white space."""
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def fold_key(fields: Sequence[str]) -> str:
    """A key that two rows share when their folded fields are equal."""
    text = "\x1f".join(map(fold, fields))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def make_keys(job: KeyJob) -> Iterator[Piece]:
    """One key row for each corpus row: what the global steps need, without the texts.

    `naive` is the side that a naive random split would have drawn for the row, for the leak report.
    """
    table = job.rows.read()
    texts = [c for c, kind in job.columns.items() if kind != "label"]
    labels = [c for c, kind in job.columns.items() if kind == "label"]
    values = {c: table[c].to_pylist() for c in [*texts, *labels]}
    sources, ids = table["source"].to_pylist(), table["id"].to_pylist()
    corpora = table["corpus"].to_pylist()
    compared = [_comparable(values[c]) for c in texts]
    columns = {
        "unit": [job.unit] * len(ids),
        "row": list(range(len(ids))),
        "id": ids,
        "key": [fold_key(fields) for fields in zip(*compared, strict=True)],
        "label": ["\x1f".join(values[c][i] for c in labels) for i in range(len(ids))],
        "corpus": corpora,
        "source": sources,
        "naive": [
            "test" if uniform(job.seed, "naive", f"{c}\x1f{s}") < job.test_share else "train"
            for c, s in zip(corpora, sources, strict=True)
        ],
    }
    yield Piece(pa.table(columns, schema=KEY_SCHEMA))


def _comparable(values: Sequence[object]) -> list[str]:
    return [v if isinstance(v, str) else canonical_json(v) for v in values]
