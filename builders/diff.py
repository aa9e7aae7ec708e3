"""What changed between two releases, row by row, and the version bump that it calls for.

In: two release folders. Out: rows added, removed, changed and moved between splits, by corpus and template, with
samples; columns that changed; files around the data that changed. Rows are matched by id. Where a row was read
from (`source`, `revision`) is not what it says: rows that differ in nothing else count as restated.

major: rows changed, moved or removed, or columns changed. minor: rows added. patch: anything else that differs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.errors import UserError, one_line
from zhiling.store import read_manifest

if TYPE_CHECKING:
    import duckdb

Bump = Literal["major", "minor", "patch", "none"]
Kind = Literal["added", "removed", "changed", "moved", "restated"]
PROVENANCE = ("source", "revision")
DERIVED = ("README.md", "CHANGELOG.md", "CITATION.cff", "croissant.json", "plots/")  # differ in every release
SAMPLES = 3
SIDE = "regexp_extract(filename, '([a-z]+)-[0-9]+-of-[0-9]+[.]parquet$', 1)"


@dataclass(frozen=True)
class Change:
    """How many rows of one table, corpus and template changed in one way."""

    table: str            # "examples", or "corpus-NAME"
    kind: Kind
    corpus: str | None
    pack: str | None      # None in the tables of corpora
    template: str | None
    rows: int


@dataclass(frozen=True)
class Sample:
    """One row that changed: its sides, and the columns that say something else (value before, after)."""

    table: str
    kind: Kind
    id: str
    before: str | None    # the side it stood on
    after: str | None
    columns: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Diff:
    """All that changed from release `a` to release `b`."""

    name: str
    before: str           # version of a
    after: str            # version of b
    changes: tuple[Change, ...] = ()
    samples: tuple[Sample, ...] = ()
    columns: tuple[str, ...] = ()   # "examples: + notes", "examples: answer int64 -> string"
    words: tuple[str, ...] = ()     # files around the data that differ
    packs: tuple[str, ...] = ()     # "zh/sentiment 1.0.0 -> 1.1.0"

    def rows(self, *kinds: Kind) -> int:
        """How many rows changed in one of these ways."""
        return sum(c.rows for c in self.changes if c.kind in kinds)

    @property
    def bump(self) -> Bump:
        """The smallest step of the version that tells readers the truth."""
        if self.columns or self.rows("changed", "moved", "removed"):
            return "major"
        if self.rows("added"):
            return "minor"
        return "patch" if self.changes or self.words or self.packs else "none"

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the bump it calls for."""
        return {**asdict(self), "bump": self.bump}


def diff(a: Path, b: Path) -> Diff:
    """Compare two release folders row by row. Raises UserError where one is not a release, or is damaged."""
    import duckdb

    before, after = (read_manifest(folder, "release", "name", "version", "files") for folder in (a, b))
    tables = {"examples": "data"}
    for about in (before, after):
        tables |= {f"corpus-{name}": f"corpus/{name}" for name in sorted(about.get("corpora", {}))}
    changes: list[Change] = []
    samples: list[Sample] = []
    columns: list[str] = []
    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        for table, place in tables.items():
            if _files(before, place) == _files(after, place):
                continue
            require(a, _files(before, place))
            require(b, _files(after, place))
            sides = (_schema(a / place), _schema(b / place))
            if not any(sides):
                continue
            if all(sides):  # a whole table that comes or goes is rows, not columns
                columns += [f"{table}: {line}" for line in _columns(*sides)]
            try:
                _match(db, a / place, b / place, sides)
            except duckdb.Error as error:
                saw = f"{place} cannot be compared ({one_line(str(error), 120)})"
                raise UserError(f"{a}, {b}", saw, "see which of them `zhiling verify` finds damaged") from None
            changes += _count(db, table)
            samples += _samples(db, table)
    return Diff(
        str(after["name"]), str(before["version"]), str(after["version"]),
        tuple(changes), tuple(samples), tuple(columns), _words(before, after), _packs(before, after),
    )


def require(folder: Path, names: Iterable[str]) -> None:
    """Raise UserError where a release lacks one of these files of its manifest."""
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        raise UserError(str(folder), f"{absent[0]}{more} of its manifest: no such file", "get the release whole")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in one line that a file of a release is damaged, where reading it inside the block fails."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(str(path), f"damaged ({one_line(str(error), 120)})", "get the release anew") from None


def changelog(found: Diff, because: str = "") -> str:
    """A section of CHANGELOG.md that says what `found` means for readers, and why it was done."""
    why = f" {one_line(because, 500)}" if because else ""
    lines = [f"## {found.after}", "", f"Compared with {found.before}: a {found.bump} change.{why}"]
    if found.bump == "none":
        return "\n".join([f"## {found.after}", "", f"The same as {found.before}."]) + "\n"
    for kind, words in (
        ("removed", "rows were removed"), ("changed", "rows say something else"),
        ("moved", "rows moved to another split"), ("added", "rows are new"),
        ("restated", "rows name another source or revision"),
    ):
        counts: Counter[str] = Counter()
        for change in found.changes:
            if change.kind == kind and change.table == "examples":
                counts[f"{change.corpus}, {change.pack} {change.template}"] += change.rows
        texts = sum(c.rows for c in found.changes if c.kind == kind and c.table != "examples")
        if counts or texts:
            lines += ["", f"### {sum(counts.values()):,} {words} ({texts:,} of the corpora)", ""]
            lines += [f"- {where}: {rows:,}" for where, rows in sorted(counts.items())]
    told = [name for name in found.words if found.bump == "patch" or not name.startswith(DERIVED)]
    for title, notes in (("Columns", found.columns), ("Packs", found.packs), ("Files around the data", told)):
        if notes:
            lines += ["", f"### {title}", "", *(f"- {one_line(note, 200)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _files(about: dict[str, Any], place: str) -> dict[str, Any]:
    return {name: entry for name, entry in about["files"].items() if name.startswith(f"{place}/")}


def _schema(folder: Path) -> dict[str, str]:
    """Column -> type of a table's shards; empty where it has none. Raises UserError where one is damaged."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.parquet")):
        with readable(path):
            found |= {field.name: str(field.type) for field in pq.read_schema(path)}
    return found


def _columns(before: dict[str, str], after: dict[str, str]) -> list[str]:
    lines = [f"- {name}" for name in before if name not in after]
    lines += [f"+ {name}" for name in after if name not in before]
    both = [name for name in before if name in after]
    return lines + [f"{n} {before[n]} -> {after[n]}" for n in both if before[n] != after[n]]


def _match(db: "duckdb.DuckDBPyConnection", a: Path, b: Path, sides: tuple[dict[str, str], dict[str, str]]) -> None:
    """Lay the two tables as views `a` and `b`, and all ids that differ as the table `found`."""
    shared = [n for n in sides[0] if sides[0][n] == sides[1].get(n)] or list(sides[0] or sides[1])
    said = ", ".join(_quoted(n) for n in shared if n not in PROVENANCE)
    whole = ", ".join(map(_quoted, shared))
    names = {n for side in sides for n in side}
    keys = ", ".join(f"min({n}) AS {n}" if n in names else f"NULL AS {n}" for n in ("corpus", "pack", "template"))
    for view, folder, columns in (("a", a, sides[0]), ("b", b, sides[1])):
        files = "'" + escape(str(folder)).replace("'", "''") + "/*.parquet'"
        rows = f"SELECT *, {SIDE} AS side FROM read_parquet({files}, filename = true, union_by_name = true)"
        nulls = ", ".join(f"NULL AS {_quoted(n)}" for n in sorted(names))
        empty = f"SELECT * FROM (SELECT NULL::VARCHAR AS side, {nulls}) LIMIT 0"
        db.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {rows if columns else empty}")
        db.execute(  # ids are unique; grouping keeps the books right where a stranger's are not
            f"CREATE OR REPLACE TEMP TABLE keys_{view} AS "
            f"SELECT id, string_agg(DISTINCT side, '+' ORDER BY side) AS side, sum(hash({said})::HUGEINT) AS said, "
            f"sum(hash({whole})::HUGEINT) AS whole, {keys} FROM {view} GROUP BY id"
        )
    db.execute(
        "CREATE OR REPLACE TEMP TABLE found AS SELECT id, a.side AS before, b.side AS after, "
        "coalesce(b.corpus, a.corpus) AS corpus, coalesce(b.pack, a.pack) AS pack, "
        "coalesce(b.template, a.template) AS template, CASE WHEN a.side IS NULL THEN 'added' "
        "WHEN b.side IS NULL THEN 'removed' WHEN a.side <> b.side THEN 'moved' "
        "WHEN a.said <> b.said THEN 'changed' ELSE 'restated' END AS kind "
        "FROM keys_a AS a FULL JOIN keys_b AS b USING (id) "
        "WHERE a.whole IS DISTINCT FROM b.whole OR a.side IS DISTINCT FROM b.side"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _count(db: "duckdb.DuckDBPyConnection", table: str) -> list[Change]:
    query = "SELECT kind, corpus, pack, template, count(*) FROM found GROUP BY ALL ORDER BY ALL"
    return [Change(table, *row) for row in db.execute(query).fetchall()]


def _samples(db: "duckdb.DuckDBPyConnection", table: str) -> list[Sample]:
    """The first rows of each kind by id, with the columns that say something else."""
    query = (
        "SELECT kind, id, before, after FROM found WHERE kind <> 'restated' "
        f"QUALIFY row_number() OVER (PARTITION BY kind ORDER BY id) <= {SAMPLES} ORDER BY kind, id"
    )
    found = db.execute(query).fetchall()
    ids = [row_id for _, row_id, _, _ in found]
    rows = {view: _rows(db, view, ids) for view in ("a", "b")}
    samples = []
    for kind, row_id, before, after in found:
        old, new = rows["a"].get(row_id, {}), rows["b"].get(row_id, {})
        names = [n for n in {**old, **new} if n not in (*PROVENANCE, "id", "side", "filename", "split")]
        differ = {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}
        samples.append(Sample(table, kind, row_id, before, after, differ))
    return samples


def _rows(db: "duckdb.DuckDBPyConnection", view: str, ids: list[str]) -> dict[str, dict[str, Any]]:
    found = db.execute(f"SELECT * FROM {view} WHERE id IN (SELECT unnest(?))", [ids])
    names = [column[0] for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {row["id"]: json.loads(json.dumps(row, default=str)) for row in rows}


def _words(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """Files that are no table and differ, come or go."""
    old, new = before["files"], after["files"]
    names = sorted(old.keys() | new.keys())
    return tuple(n for n in names if not n.startswith(("data/", "corpus/")) and old.get(n) != new.get(n))


def _packs(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    old, new = before.get("packs", {}), after.get("packs", {})
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            was, now = (found.get(name, {}).get("version", "-") for found in (old, new))
            lines.append(f"{name} {was} -> {now}")
    return tuple(lines)
