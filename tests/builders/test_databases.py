"""Rows by SQL: from SQLite and PostgreSQL, read-only; conditions that see one table and nothing else."""

import getpass
import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from zhiling.builders import databases
from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.engines import Reject
from zhiling.builders.sources import CorpusSettings, SqlSource
from zhiling.errors import UserError
from zhiling.store import canonical_json

COLUMNS: Any = {"text": "string", "label": "label"}
ROWS = [("很好用", "positive", 5), ("太差了", "negative", 1), ("一般", "negative", 3)]
QUERY = "SELECT body AS text, mood AS label FROM reviews WHERE stars <> 3 ORDER BY stars"


def rows_of(folder: Path, sql: dict[str, str], **settings: Any) -> tuple[list[dict[str, Any]], list[Reject], str]:
    corpus = CorpusSettings.model_validate({"name": "c", "pack": "p", "license": "MIT", "sql": sql, **settings})
    [source] = plan_sources(corpus, COLUMNS, {"label": ("negative", "positive")}, "zh", folder)
    pieces = [piece for unit in source.units for piece in read_unit(unit)]
    found = [row for piece in pieces for row in piece.table.to_pylist()]
    return found, [r for piece in pieces for r in piece.rejects], source.sha256


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A SQLite file of three reviews."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db, db:
        db.execute("CREATE TABLE reviews (body TEXT, mood TEXT, stars INTEGER)")
        db.executemany("INSERT INTO reviews VALUES (?, ?, ?)", ROWS)
    return tmp_path


def test_a_query_of_a_sqlite_file(shop: Path) -> None:
    rows, rejects, digest = rows_of(shop, {"sqlite": "shop.db", "query": QUERY})
    assert [(r["text"], r["label"], r["source"]) for r in rows] == [
        ("太差了", "negative", "sql:shop.db:1"), ("很好用", "positive", "sql:shop.db:2"),
    ]
    assert rejects == []
    with closing(sqlite3.connect(shop / "shop.db")) as db, db:
        db.execute("DELETE FROM reviews WHERE stars = 5")
    assert rows_of(shop, {"sqlite": "shop.db", "query": QUERY})[2] != digest


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ({"sqlite": "none.db", "query": QUERY}, "none.db: no such file"),
        ({"sqlite": "shop.db", "query": "SELECT * FROM nothing"}, "nothing"),
        ({"sqlite": "shop.db", "query": "SELECT body FROM reviews"}, "no column 'text'"),
        ({"sqlite": "shop.db", "query": "SELECT 1 AS text, 2 AS text"}, "two columns are called 'text'"),
        ({"postgres": "NO_SUCH_DSN", "query": QUERY}, "NO_SUCH_DSN: no such environment variable"),
    ],
)
def test_what_is_not_there_is_one_line(shop: Path, sql: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError) as error:
        rows_of(shop, sql)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "query", ["DELETE FROM reviews", "ATTACH 'other.db' AS other", "DROP TABLE reviews", "CREATE TABLE x (y)"]
)
def test_a_query_cannot_change_anything_or_open_another_file(shop: Path, query: str) -> None:
    before = (shop / "shop.db").read_bytes()
    with pytest.raises(UserError):
        rows_of(shop, {"sqlite": "shop.db", "query": query})
    assert (shop / "shop.db").read_bytes() == before
    assert sorted(p.name for p in shop.iterdir()) == ["shop.db"]


def test_a_condition_leaves_rows_out_and_says_so(shop: Path) -> None:
    sql = {"sqlite": "shop.db", "query": "SELECT body AS text, mood AS label FROM reviews ORDER BY stars"}
    rows, rejects, _ = rows_of(shop, sql, where="length(text) > 2 AND label = 'negative'")
    assert [r["text"] for r in rows] == ["太差了"]
    assert [(r.step, r.reason, r.row["text"]) for r in rejects] == [
        ("screen", "where", "一般"), ("screen", "where", "很好用"),
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("stars > 3", 'Referenced column "stars" not found'),
        ("length(text", "syntax error"),
        ("text IN (SELECT content FROM read_text('/etc/passwd'))", "disabled"),
        ("true); COPY rows TO 'x.csv'; SELECT (true", ""),
    ],
)
def test_a_condition_that_is_wrong_or_reaches_out_stops_the_build(shop: Path, condition: str, expected: str) -> None:
    sql = {"sqlite": "shop.db", "query": QUERY}
    with pytest.raises(UserError, match="corpus 'c': where: ") as error:
        rows_of(shop, sql, where=condition)
    assert expected in str(error.value)
    assert not Path("x.csv").exists()


@pytest.mark.parametrize("condition", ["random() < 0.5", "text <> '' AND day > current_date", "NOW() > '2020-01-01'"])
def test_a_condition_that_chance_or_the_clock_decides_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="chance or the clock would keep other rows each time"):
        databases.fits(pa.table({"text": ["a"]}), condition)


def test_a_condition_sees_one_row_at_a_time_and_may_end_in_a_comment() -> None:
    table = pa.table({"text": ["a", "now()"]})
    assert databases.fits(table, "text = 'now()' -- only this") == [False, True]
    with pytest.raises(ValueError, match="Table with name rows does not exist"):
        databases.fits(table, "text IN (SELECT min(text) FROM rows)")


def test_a_condition_that_a_value_does_not_bear_stops_with_one_line(shop: Path) -> None:
    with pytest.raises(UserError, match=r"corpus 'c': where: Conversion Error.*TRY_CAST"):
        rows_of(shop, {"sqlite": "shop.db", "query": QUERY}, where="CAST(text AS INTEGER) > 3")


def test_what_json_cannot_say_is_no_text(shop: Path) -> None:
    more = "UNION ALL SELECT 9e999, 'positive' UNION ALL SELECT x'ff', ''"
    query = f"SELECT body AS text, mood AS label FROM reviews WHERE stars <> 3 {more}"
    rows, rejects, _ = rows_of(shop, {"sqlite": "shop.db", "query": query})
    assert len(rows) == 2
    assert [r.detail for r in rejects] == ["no 'text'", "'text' is a bytes, not a string"]


def test_null_is_no() -> None:
    assert databases.fits(pa.table({"text": ["a", None]}), "text = 'a'") == [True, False]


def test_passwords_do_not_stand_in_errors() -> None:
    said = databases._without_secrets("cannot connect with host=h password=hunter2 at postgresql://me:hunter2@h/db")
    assert "hunter2" not in said


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server that this test starts, on a socket in its own folder."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server is installed (initdb and pg_ctl are not on the path)")
    folder = tmp_path_factory.mktemp("pg")
    become = []
    if os.geteuid() == 0:  # the server refuses root
        if shutil.which("runuser") is None:
            pytest.skip("running as root without `runuser`: PostgreSQL refuses to start")
        become = ["runuser", "-u", "nobody", "--"]
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and len(parent.parts) > 2:
                parent.chmod(0o755)
        shutil.chown(folder, "nobody")
    user = "nobody" if become else getpass.getuser()
    run = {"check": True, "capture_output": True, "cwd": "/"}
    initdb = [*become, "initdb", "-D", str(folder / "data"), "-U", user, "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run(initdb, **run)
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    start = [*become, "pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        yield f"host={folder} user={user} dbname=postgres"
    finally:
        stop = [*become, "pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop"]
        subprocess.run(stop, capture_output=True, cwd="/")  # on a busy machine it may be late in saying so


@pytest.fixture(params=["duckdb", "psycopg"])
def way(request: pytest.FixtureRequest, postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways to a server with the three reviews; `SHOP_DSN` leads to it."""
    import duckdb

    if request.param == "duckdb":
        with duckdb.connect() as db:
            if not databases._load(db, "postgres"):
                pytest.skip("DuckDB's postgres extension is not installed (pip has none for each version of DuckDB)")
    else:
        pytest.importorskip("psycopg", reason="needs psycopg (pip install 'zhiling[postgres]')")
        monkeypatch.setattr(databases, "_load", lambda db, kind: False)
    values = ", ".join(f"('{body}', '{mood}', {stars}, '[\"{stars}\"]')" for body, mood, stars in ROWS)
    made = f"""DROP TABLE IF EXISTS reviews; CREATE TABLE reviews (body text, mood text, stars int, tags jsonb);
               INSERT INTO reviews VALUES {values}"""
    subprocess.run(["psql", postgres, "-q", "-c", made], check=True, capture_output=True)
    monkeypatch.setenv("SHOP_DSN", postgres)
    return str(request.param)


def test_a_query_of_a_real_postgresql_server(way: str, tmp_path: Path) -> None:
    rows, _, digest = rows_of(tmp_path, {"postgres": "SHOP_DSN", "query": QUERY})
    assert [(r["text"], r["label"], r["source"]) for r in rows] == [
        ("太差了", "negative", "sql:SHOP_DSN:1"), ("很好用", "positive", "sql:SHOP_DSN:2"),
    ]
    assert digest == hashlib.sha256(QUERY.encode() + b"".join(
        canonical_json({"text": text, "label": label}).encode() for text, label, stars in ROWS[1::-1]
    )).hexdigest()  # either way: the rows' own


def test_numbers_and_documents_of_a_server_come_either_way_alike(way: str, tmp_path: Path) -> None:
    query = """SELECT tags, stars / 4.0 AS share, 2.5::numeric(6, 2) AS price, date '2026-01-02' AS day, NULL AS none
               FROM reviews ORDER BY stars LIMIT 1"""
    source = SqlSource(postgres="SHOP_DSN", query=query)
    assert [row for _, row in databases.read(source, None, "shop")] == [
        {"tags": '["1"]', "share": 0.25, "price": 2.5, "day": "2026-01-02", "none": None}
    ]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM reviews",
        "CREATE TABLE other (x int)",
        "SELECT 1; COMMIT; DELETE FROM reviews",
        "SELECT content AS text, 'positive' AS label FROM read_text('/etc/passwd')",  # a function of DuckDB's
        "SELECT nothing FROM reviews",
    ],
)
def test_a_query_of_a_server_changes_nothing_and_runs_in_the_server_alone(
    way: str, query: str, postgres: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        rows_of(tmp_path, {"postgres": "SHOP_DSN", "query": query})
    assert "\n" not in str(error.value) and postgres not in str(error.value)
    count = ["psql", postgres, "-t", "-A", "-c", "SELECT count(*) FROM reviews"]
    assert subprocess.run(count, check=True, capture_output=True, text=True).stdout == "3\n"


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg (pip install 'zhiling[postgres]')")
    monkeypatch.setattr(databases, "_load", lambda db, kind: False)
    monkeypatch.setenv("SHOP_DSN", f"host={tmp_path} user=me password=hunter2 dbname=shop")
    with pytest.raises(UserError, match="sql:SHOP_DSN: connection") as error:
        rows_of(tmp_path, {"postgres": "SHOP_DSN", "query": QUERY})
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)
