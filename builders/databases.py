"""Rows by SQL: what a query gives, and which rows of a table a condition keeps.

SQLite and PostgreSQL are read through DuckDB and its scanner extensions; where there is none, Python's own driver reads
the file, psycopg the server. A recipe may come from a stranger: its query sees the one database that it names,
read-only, its condition sees one table, and neither can open a file, the network or another database.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.builders.sources import Row, SqlSource
from zhiling.errors import UserError, one_line
from zhiling.store import canonical_json

ALONE: dict[str, Any] = {
    "enable_external_access": "false", "python_enable_replacements": "false", "lock_configuration": "true",
}
BATCH = 4_096
PLACE = "place in the table"


def fits(table: pa.Table, condition: str) -> list[bool]:
    """Which rows of `table` a SQL condition keeps; null counts as no. Raises ValueError with what is wrong in it."""
    import duckdb

    with duckdb.connect(config=ALONE) as db:
        db.register("rows", table.append_column(PLACE, pa.array(range(len(table)), pa.int64())))
        try:
            kept = {place for (place,) in db.execute(f'SELECT "{PLACE}" FROM rows WHERE ({condition})').fetchall()}
        except duckdb.Error as error:
            raise ValueError(one_line(str(error), 160)) from None
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
        sha.update(canonical_json(row).encode("utf-8", "surrogatepass"))
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
            names = [column[0] for column in found.description or ()]
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
    """A value as JSON has it: a number of any precision as a number, a date and what else there is as text."""
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


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
            names = [column[0] for column in found.description or ()]
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
                names = [column.name for column in found.description or ()]
                for number, values in enumerate(found, 1):
                    yield f"{shown}:{number}", _row(names, values)
    except psycopg.Error as error:
        raise UserError(shown, _said(error, sql), "mend the query or the address") from None
