"""What becomes of each row: which group it is in, whether it stays, and why not.

A global step: it runs in DuckDB over keys. Which row of several equal ones stays hangs on content, not on order:
one that the previous release holds, else the one with the smallest id.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zhiling.builders.clean import CleanSettings
from zhiling.builders.engines import SHARD, batches, read_output, schema_of
from zhiling.builders.groups import find_groups
from zhiling.builders.keys import COMPARED, keys_of, texts_of
from zhiling.builders.split import Group, SplitSettings, stratified
from zhiling.rows import Columns
from zhiling.store import atomic, read_json, write_json, write_jsonl

LISTED = 10_000  # conflicts and pairs that are written down for review
LOOKED_AT = [*(name for name, _ in COMPARED), "id", "corpus", "source", "_own", "_ties"]
TOLD = pa.schema([("key", pa.string()), ("side", pa.string())])
OLD = """
SELECT id, regexp_extract(filename, '(train|validation|test)-[0-9]+-of-[0-9]+', 1) AS side
FROM read_parquet($files, filename = true, union_by_name = true)
"""
GROUPED = """
CREATE TEMP VIEW grouped AS
SELECT k.*, o.side AS old, t.side AS told, coalesce(g.group_id, k.key) AS group_id, coalesce(g.tied, false) AS tied
FROM keys k LEFT JOIN groups g USING (key) LEFT JOIN old o USING (id) LEFT JOIN told t USING (key)
"""
CROWDED = """
CREATE TEMP TABLE crowded AS
SELECT * FROM grouped SEMI JOIN (
    SELECT group_id FROM grouped GROUP BY group_id HAVING count(*) > 1 OR bool_or(tied)
) USING (group_id)
"""
SIDES = """
CREATE TEMP TABLE sides AS
SELECT group_id,
       coalesce(min(old), min(told), arg_max(own, CASE own WHEN 'test' THEN 3 WHEN 'validation' THEN 2 ELSE 1 END))
           AS side
FROM grouped WHERE coalesce(old, told, own) IS NOT NULL GROUP BY group_id
"""
STRATA = """
SELECT group_id, arg_min(corpus || chr(31) || label, (-n, corpus, label)), sum(n)::BIGINT, any_value(side)
FROM (SELECT group_id, corpus, label, count(DISTINCT key) AS n FROM grouped GROUP BY ALL)
     LEFT JOIN sides USING (group_id)
GROUP BY group_id
"""
CONFLICTS = """
CREATE TEMP TABLE conflicts AS
WITH counted AS (SELECT {within} AS scope, corpus, label, count(*) AS votes FROM crowded GROUP BY ALL),
     topped AS (SELECT *, max(votes) OVER (PARTITION BY scope, corpus) AS top FROM counted)
SELECT scope, corpus, CASE WHEN count(*) FILTER (votes = top) = 1 THEN max(label) FILTER (votes = top) END AS winner
FROM topped GROUP BY scope, corpus HAVING count(*) > 1
"""
VERDICTS = """
WITH refused AS (
    SELECT g.*, s.side, c.winner,
           CASE WHEN g.tied THEN 'ties_two_sides'
                WHEN g.own <> s.side AND coalesce(g.old, g.told) IS NULL THEN 'stands_in_another_split'
                WHEN c.scope IS NULL OR $policy = 'keep' THEN NULL
                WHEN $policy = 'quarantine' OR c.winner IS NULL THEN 'label_conflict'
                WHEN g.label <> c.winner THEN 'label_outvoted' END AS refusal
    FROM crowded g LEFT JOIN sides s USING (group_id)
         LEFT JOIN conflicts c ON c.scope = g.{within} AND c.corpus = g.corpus
), placed AS (
    SELECT *, row_number() OVER text AS place, first_value(source) OVER text AS first_source,
           row_number() OVER "group" AS group_place, first_value(source) OVER "group" AS first_near
    FROM refused
    WINDOW text AS (PARTITION BY refusal, key, corpus, label ORDER BY old IS NULL, own IS NULL, id, unit, "row"),
           "group" AS (PARTITION BY refusal, group_id, corpus, label ORDER BY old IS NULL, own IS NULL, id, unit, "row")
)
SELECT unit, "row", group_id, side,
       CASE WHEN refusal IS NOT NULL THEN refusal WHEN place > 1 THEN 'duplicate'
            WHEN $keep = 'one' AND group_place > 1 THEN 'near_duplicate' ELSE 'keep' END AS verdict,
       CASE refusal WHEN 'ties_two_sides' THEN 'near to, or tied to, rows on two sides of the previous release'
            WHEN 'stands_in_another_split' THEN 'its text or a near duplicate' ||
                CASE WHEN len(ties) > 0 THEN ', or a row that it is together with,' ELSE '' END ||
                ' stands in the ' || side || ' split'
            WHEN 'label_conflict' THEN 'the same text{too} stands elsewhere with another label'
            WHEN 'label_outvoted' THEN 'most rows of this text{too} are labelled ' || replace(winner, chr(31), ', ')
            ELSE CASE WHEN place > 1 THEN 'same text as ' || first_source ELSE 'near duplicate of ' || first_near END
       END AS detail
FROM placed
UNION ALL
SELECT unit, "row", group_id, side, 'keep', NULL
FROM (FROM grouped ANTI JOIN crowded USING (group_id)) LEFT JOIN sides USING (group_id)
WHERE side IS DISTINCT FROM own OR group_id <> key
ORDER BY unit, "row"
"""
LEAK = """
WITH every AS (SELECT count(*) AS rows, count(*) FILTER (naive) AS tested FROM keys)
SELECT (SELECT rows FROM every) AS rows,
       (SELECT rows FROM every) - count(*) + count(DISTINCT key) AS unique_texts,
       (SELECT count(*) FROM (SELECT key FROM crowded GROUP BY key, corpus HAVING count(DISTINCT label) > 1))
           AS conflicting_texts,
       (SELECT count(*) FROM (SELECT group_id FROM crowded GROUP BY group_id HAVING count(DISTINCT key) > 1))
           AS near_groups,
       (SELECT coalesce(sum(n), 0)::BIGINT FROM
           (SELECT count(DISTINCT key) AS n FROM crowded GROUP BY group_id HAVING n > 1)) AS near_texts,
       (SELECT tested FROM every) AS naive_test_rows,
       count(*) FILTER (naive AND key IN (SELECT key FROM crowded WHERE NOT naive)) AS naive_leaked_rows,
       count(*) FILTER (naive AND group_id IN (SELECT group_id FROM crowded WHERE NOT naive)
                        AND key NOT IN (SELECT key FROM crowded WHERE NOT naive)) AS naive_near_leaked_rows
FROM crowded
"""
SHOW_CONFLICTS = f"""
SELECT g.corpus, list((label, source, unit, "row") ORDER BY unit, "row") AS rows
FROM crowded g JOIN conflicts c ON c.scope = g.{{within}} AND c.corpus = g.corpus
GROUP BY g.corpus, g.{{within}} ORDER BY g.{{within}}, g.corpus LIMIT {LISTED}
"""
SHOW_PAIRS = f"""
WITH ends AS (SELECT a AS key FROM pairs UNION SELECT b FROM pairs),
     texts AS (
         SELECT key, min(text) AS text, min(source) AS source FROM sketches SEMI JOIN ends USING (key) GROUP BY key
     )
SELECT similarity, x.source, x.text, y.source, y.text
FROM pairs JOIN texts x ON x.key = a JOIN texts y ON y.key = b ORDER BY similarity DESC, a, b LIMIT {LISTED}
"""


@dataclass(frozen=True)
class Compared:
    """What the global steps hold against each other."""

    rows: Sequence[Path]         # as read, by unit
    columns: Sequence[Columns]   # of the pack that each of them is for
    sketches: Sequence[Path]     # of their texts, where near duplicates are looked for


@dataclass(frozen=True)
class Leak:
    """What duplicates there are, and what a naive random split by rows would have leaked of its test side."""

    rows: int
    unique_texts: int
    conflicting_texts: int
    near_groups: int             # groups of several texts
    near_texts: int              # texts in them
    naive_test_rows: int
    naive_leaked_rows: int       # whose very text stands in the naive train side
    naive_near_leaked_rows: int  # of which only a near duplicate stands there

    @property
    def naive_leaked_share(self) -> float:
        """Share of the naive test rows whose text also stands in the naive train side."""
        return self.naive_leaked_rows / self.naive_test_rows if self.naive_test_rows else 0.0


def judge_rows(
    given: Compared, clean: CleanSettings, split: SplitSettings, seed: int, previous: Path | None, out: Path
) -> Leak:
    """Write the verdict on every row that is not simply kept to `out`, lists for a person beside it; return the leak.

    A row without a verdict stays: its group is its key, its side its own, if it has one.
    """
    import duckdb

    figures = out.with_suffix(".json")
    if figures.exists():
        return Leak(**read_json(figures))
    near = clean.near_duplicates
    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        db.execute("SET memory_limit = '1GB'")
        db.execute("SET temp_directory = ?", [str(out.parent / ".duckdb")])
        db.register("keys", _keys(given.rows))
        if near is not None:
            db.execute("CREATE TEMP VIEW sketches AS SELECT * FROM read_parquet(" + _list(given.sketches) + ")")
        _read_old(db, previous, given.columns)
        db.register("groups", find_groups(db, near, previous))
        within = {"text": "key", "group": "group_id"}[clean.conflicts_within]
        for statement in (GROUPED, CROWDED, SIDES, CONFLICTS.format(within=within)):
            db.execute(statement)
        if split.stratify:
            _stratify(db, split, seed)
        policy = {"policy": clean.label_conflicts, "keep": near.keep if near else "all"}
        with atomic(out) as part:
            too = " or a near duplicate" if within == "group_id" else ""
            _write(db.sql(VERDICTS.format(within=within, too=too), params=policy).to_arrow_reader(65_536), part)
        _write_lists(db, given, within, out.parent / "review")
        found = db.execute(LEAK).fetchone()
        assert found is not None
        leak = Leak(*found)
        write_json(figures, asdict(leak))  # last: what it stands beside is complete
        return leak


def _keys(files: Sequence[Path]) -> pa.Table:
    """What is compared of all rows, mapped into memory: only what is asked for is read."""
    schema = pa.schema([schema_of(files[0]).field(name) for name in LOOKED_AT])
    table = pa.Table.from_batches([b.select(LOOKED_AT) for path in files for b in batches(path)], schema)
    return table.rename_columns([name.removeprefix("_") for name in LOOKED_AT])


def _stratify(db: Any, settings: SplitSettings, seed: int) -> None:
    """Put a side for every group that has none into the table `sides`."""
    groups = (Group(*row) for row in db.execute(STRATA).fetchall())
    found = list(stratified(groups, settings, seed).items())
    if found:
        db.register("drawn", pa.table({"group_id": [g for g, _ in found], "side": [s for _, s in found]}))
        db.execute("INSERT INTO sides SELECT * FROM drawn")


def _read_old(db: Any, previous: Path | None, columns: Sequence[Columns]) -> None:
    """The tables `old` and `told`: the sides of the previous release's rows by id, and of their texts by key.

    A row whose label was mended has another id, and its text stays where it was.
    """
    db.execute("CREATE TEMP TABLE old (id VARCHAR, side VARCHAR)")
    db.execute("CREATE TEMP TABLE told (key VARCHAR, side VARCHAR)")
    if previous is None:
        return
    files = sorted(previous.glob("corpus/*/*.parquet"))
    db.execute("INSERT INTO old " + OLD, {"files": [str(path) for path in files]})
    of_packs = [each for n, each in enumerate(columns) if each not in columns[:n]]
    db.register("texts", pa.concat_tables([TOLD.empty_table(), *(t for path in files for t in _told(path, of_packs))]))
    db.execute("INSERT INTO told SELECT key, min(side) FROM texts GROUP BY key HAVING min(side) = max(side)")


def _told(path: Path, of_packs: Sequence[Columns]) -> Iterator[pa.Table]:
    """Keys of the rows in a file of a release, by the columns of each pack that are in it, and their side."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for columns in of_packs:
            if set(columns) <= set(file.schema_arrow.names):
                for batch in file.iter_batches(columns=list(columns)):
                    keys = keys_of(pa.Table.from_batches([batch]), columns)
                    yield pa.table([keys, pa.repeat(path.name.partition("-")[0], len(keys))], TOLD)


def _write_lists(db: Any, given: Compared, within: str, review: Path) -> None:
    conflicts = db.execute(SHOW_CONFLICTS.format(within=within)).fetchall()
    texts = _texts(given, [place for _, rows in conflicts for _, _, *place in rows])
    write_jsonl(review / "label_conflicts.jsonl", (
        {"corpus": corpus, "text": min(texts[unit, row] for _, _, unit, row in rows),
         "rows": [{"label": x, "source": y} for x, y, _, _ in rows]}
        for corpus, rows in conflicts
    ))
    names = ("similarity", "source", "text", "near_source", "near_text")
    pairs = db.execute(SHOW_PAIRS).fetchall() if given.sketches else []
    write_jsonl(review / "near_duplicates.jsonl", (dict(zip(names, pair, strict=True)) for pair in pairs))


def _texts(given: Compared, places: Sequence[Sequence[int]]) -> dict[tuple[int, int], str]:
    """The texts at these places (unit and row), as they are compared."""
    by_unit: dict[int, list[int]] = defaultdict(list)
    for unit, row in places:
        by_unit[unit].append(row)
    found: dict[tuple[int, int], str] = {}
    for unit, rows in by_unit.items():
        columns = given.columns[unit]
        held = read_output(given.rows[unit], [name for name, kind in columns.items() if kind != "label"])
        texts = texts_of(pa.concat_tables(held.slice(row, 1) for row in rows), columns)
        found |= {(unit, row): text for row, text in zip(rows, texts, strict=True)}
    return found


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + str(f).replace("'", "''") + "'" for f in files) + "]"


def _write(reader: Any, path: Path) -> None:
    """Stream verdicts to Parquet, a row group for each unit that has any.

    DuckDB's own writer does not promise equal bytes.
    """
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, reader.schema, **SHARD) as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in reader:
            units = np.from_dlpack(batch["unit"])  # as in `places_of`
            starts = [0, *(np.flatnonzero(np.diff(units)) + 1).tolist(), len(units)]
            for start, end in pairwise(starts):
                if waiting and waiting[0]["unit"][0].as_py() != units[start]:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
                waiting.append(batch.slice(start, end - start))
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
