"""Duplicates to group ids: rows whose folded fields are equal share a group; one of them is kept.

A global step: it sees keys only, never texts, and runs in DuckDB. Which row of a group is kept hangs on
content, not on order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.store import PARQUET, atomic

VERDICTS = """
WITH groups AS (
    SELECT key, corpus, count(DISTINCT label) AS labels, min(id) AS first_id,
           arg_min(source, (id, unit, "row")) AS first_source, min((id, unit, "row")) AS first
    FROM keys GROUP BY key, corpus
)
SELECT k.unit, k."row", k.key AS group_id,
       CASE WHEN g.labels > 1 THEN 'label_conflict'
            WHEN (k.id, k.unit, k."row") = g.first THEN 'keep' ELSE 'duplicate' END AS verdict,
       CASE WHEN g.labels > 1 THEN 'the same text stands elsewhere with another label'
            ELSE 'same text as ' || g.first_source END AS detail
FROM keys k JOIN groups g USING (key, corpus)
ORDER BY k.unit, k."row"
"""

LEAK = """
SELECT count(*) AS rows,
       count(DISTINCT key) AS unique_texts,
       (SELECT count(*) FROM (SELECT key FROM keys GROUP BY key, corpus HAVING count(DISTINCT label) > 1))
           AS conflicting_texts,
       count(*) FILTER (WHERE naive = 'test') AS naive_test_rows,
       count(*) FILTER (WHERE naive = 'test'
           AND key IN (SELECT key FROM keys WHERE naive = 'train')) AS naive_leaked_rows
FROM keys
"""


@dataclass(frozen=True)
class Leak:
    """What duplicates there are, and what a naive random split by rows would have leaked of its test side."""

    rows: int
    unique_texts: int
    conflicting_texts: int
    naive_test_rows: int
    naive_leaked_rows: int

    @property
    def naive_leaked_share(self) -> float:
        """Share of the naive test rows whose text also stands in the naive train side."""
        return self.naive_leaked_rows / self.naive_test_rows if self.naive_test_rows else 0.0


def group(keys: Sequence[Path], out: Path) -> Leak:
    """Write the verdict on every row (keep, duplicate, label_conflict) to `out`; return the leak figures."""
    import duckdb

    with duckdb.connect() as db:
        spill = out.parent / ".duckdb"
        db.execute("SET threads = 2")
        db.execute("SET temp_directory = ?", [str(spill)])
        files: list[Any] = [str(p) for p in keys]
        db.execute("CREATE TEMP VIEW keys AS SELECT * FROM read_parquet(" + _list(files) + ")")
        if not out.exists():
            with atomic(out) as part:
                reader = db.sql(VERDICTS).to_arrow_reader(65_536)
                _write(reader, part)
        figures = db.execute(LEAK).fetchone()
        assert figures is not None
        return Leak(*figures)


def _list(files: Sequence[str]) -> str:
    return "[" + ", ".join("'" + f.replace("'", "''") + "'" for f in files) + "]"


def _write(reader: Any, path: Path) -> None:
    """Stream record batches to Parquet; DuckDB's own writer does not promise equal bytes."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, reader.schema, **PARQUET) as writer:
        for batch in reader:
            writer.write_batch(batch)
