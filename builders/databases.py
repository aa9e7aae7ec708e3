"""Rows by SQL: what a query gives, and which rows of a table a condition keeps.

SQLite and PostgreSQL are read through DuckDB and its scanner extensions; where there is none, Python's own driver reads
the file, psycopg the server. A recipe may come from a stranger: its query sees the one database that it names,
read-only, its condition sees one row at a time, and neither can open a file, the network or another database.
"""

import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.builders.sources import Row, SqlSource, check_names, plain
from zhiling.errors import UserError, one_line
from zhiling.store import canonical_json

ALONE: dict[str, Any] = {
    "enable_external_access": "false", "python_enable_replacements": "false", "lock_configuration": "true",
}
BATCH = 4_096
PLACE, STRETCH = "place in the table", "stretch of a corpus"  # no condition names them: it sees a row at a time
QUOTED = re.compile(r"'[^']*'")
UNSTEADY = re.compile(
    r"\b(?:random|(?:gen_random_)?uuid(?:v[47])?|now|today|get_current_\w+)\s*\(|\bcurrent_(?:date|time|timestamp)\b",
    re.IGNORECASE,
)


def fits(table: pa.Table, condition: str) -> list[bool]:
    """Which rows of `table` a SQL condition keeps; null counts as no. Raises ValueError with what is wrong in it."""
    import duckdb

    if unsteady := UNSTEADY.search(QUOTED.sub("", condition)):
        raise ValueError(f"{unsteady.group().rstrip('( ')}: chance or the clock would keep other rows each time")
    with duckdb.connect(config=ALONE) as db:
        db.register(STRETCH, table.append_column(PLACE, pa.array(range(len(table)), pa.int64())))
        try:
            found = db.execute(f'SELECT "{PLACE}" FROM "{STRETCH}" WHERE ({condition}\n)').fetchall()
        except duckdb.Error as error:
            raise ValueError(one_line(str(error), 160)) from None
    kept = {place for (place,) in found}
    return [place in kept for place in range(len(table))]


def place(sql: SqlSource, base: Path) -> Path | None:
    """The SQLite file of a source. Raises UserError where it, or the variable with the address, is not there."""
    if sql.sqlite is not None:
        if not (base / sql.sqlite).is_file():
            raise UserError(sql.sqlite, "no such file", "check the path (it is relative to the recipe)")
        return base / sql.sqlite
    if not os.environ.get(str(sql.postgres)):
        do = f"export {sql.postgres}='host=... dbname=... user=...' (a libpq connection string)"
        raise UserError(f"sql: postgres: {sql.postgres}", "no such environment variable", do)
    return None


def digest_rows(sql: SqlSource, path: Path | None, shown: str) -> str:
    """sha256 of all that the query gives: a database has no revision of its own."""
    sha = hashlib.sha256(sql.query.encode())
    for _, row in read(sql, path, shown):
        assert isinstance(row, dict)
        said = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        sha.update(canonical_json(said).encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def read(sql: SqlSource, path: Path | None, shown: str) -> Iterator[Row]:
    """The rows of a query, numbered from 1. Raises UserError with what the database says."""
    import duckdb

    kind = "sqlite" if path is not None else "postgres"
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as db:
        if not _load(db, kind):
            yield from _read_sqlite(path, sql.query, shown) if path is not None else _read_postgres(sql, shown)
            return
        try:
            _attach(db, kind, str(path) if path is not None else os.environ[str(sql.postgres)])
            found = db.execute(_in_the_database(kind, sql.query))
            names = check_names([column[0] for column in found.description or ()], shown)
            number = 0
            while batch := found.fetchmany(BATCH):
                for values in batch:
                    number += 1
                    yield f"{shown}:{number}", _row(names, values)
        except duckdb.Error as error:
            raise UserError(shown, _said(error, sql), "mend the query or the address") from None


def _attach(db: Any, kind: str, address: str) -> None:
    quoted = address.replace("'", "''")
    db.execute(f"ATTACH '{quoted}' AS source (TYPE {kind}, READ_ONLY)")
    db.execute("USE source")
    if kind == "sqlite":  # PostgreSQL connects as it goes; its query runs in the server alone
        db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")


def _in_the_database(kind: str, query: str) -> str:
    """The query as DuckDB runs it: PostgreSQL's goes to the server as it is, out of reach of DuckDB's own functions."""
    quoted = query.replace("'", "''")
    return f"SELECT * FROM postgres_query('source', '{quoted}')" if kind == "postgres" else query


def _said(error: Exception, sql: SqlSource) -> str:
    """What a database complains of, on one line, without the address."""
    return one_line(_without_secrets(str(error).replace(os.environ.get(str(sql.postgres)) or "\0", "...")), 200)


def _without_secrets(text: str) -> str:
    """An error's text without the passwords of a connection string."""
    words = text.split(" ")
    return " ".join("password=..." if w.lower().startswith("password=") or "://" in w else w for w in words)


def _row(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _plain(value: Any) -> Any:
    """A value as JSON has it, what else there is as text; what is no finite number as nothing."""
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | list | dict | bytes | None) else str(value)


def _load(db: Any, kind: str) -> bool:
    """Load DuckDB's scanner for a kind of database: one that is installed, or one that pip installed.

    None is downloaded: what a file is read with must not hang on whether the network is there.
    """
    import duckdb

    version = db.execute("SELECT library_version FROM pragma_version()").fetchone()[0]
    spec = importlib.util.find_spec(f"duckdb_extension_{kind}_scanner")
    packaged = [p for place in (spec.submodule_search_locations or [] if spec else [])
                for p in sorted(Path(place).rglob(f"{version}/**/*.duckdb_extension"))]
    for statement in [f"LOAD {kind}", *(f"LOAD '{p}'" for p in packaged)]:
        try:
            db.execute(statement)
            return True
        except duckdb.Error:
            continue
    return False


def _read_sqlite(path: Path, query: str, shown: str) -> Iterator[Row]:
    import sqlite3

    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("PRAGMA query_only = true")
            db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            found = db.execute(query)
            names = check_names([column[0] for column in found.description or ()], shown)
            for number, values in enumerate(found, 1):
                yield f"{shown}:{number}", _row(names, values)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise UserError(shown, one_line(str(error), 200), "mend the query or the file") from None


def _read_postgres(sql: SqlSource, shown: str) -> Iterator[Row]:
    try:
        import psycopg
        from psycopg.types.string import TextLoader
    except ImportError:
        saw = "neither DuckDB's postgres extension nor psycopg is here"
        raise UserError(shown, saw, "pip install 'zhiling[postgres]'") from None
    try:
        with psycopg.connect(os.environ[str(sql.postgres)]) as db:
            db.read_only = True
            for kind in ("json", "jsonb"):
                db.adapters.register_loader(kind, TextLoader)  # as DuckDB gives them
            with db.cursor("rows") as found:  # the server keeps what the query gives; so many rows come at a time
                found.itersize = BATCH
                found.execute(sql.query.encode())
                names = check_names([column.name for column in found.description or ()], shown)
                for number, values in enumerate(found, 1):
                    yield f"{shown}:{number}", _row(names, values)
    except psycopg.Error as error:
        raise UserError(shown, _said(error, sql), "mend the query or the address") from None
