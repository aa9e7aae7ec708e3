"""Read labelled rows: files (packed or not), installed packages, Hub datasets, databases.

In: a corpus of the recipe. Out: units of reading (a file, or a stretch of its lines) and, for each unit,
tables of corpus rows. A row that cannot be read is rejected with its file and line; a column that is not
there, or a label nobody mapped, stops the build with one line.
"""

import fnmatch
import glob
import gzip
import hashlib
import importlib.util
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.compute as pc

from zhiling.builders import databases, hub, tagged
from zhiling.builders.engines import Piece, Reject
from zhiling.builders.fit import fit_rows, lookup, read_schema
from zhiling.builders.plain import fit_many
from zhiling.builders.readers import MAX_LINE, Cells, Lines, read_arrow, read_csv, read_lines, read_parquet
from zhiling.builders.remote import is_remote, local_copies
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.sources import UNVERSIONED, CorpusSettings, Format, Row, SourceFile, Unit
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import ColumnType

CHUNK_BYTES = 8 * 2**20
BATCH_ROWS = 16_384
LOOKED_AT = 10_000  # lines, before a file counts as one that cannot be read
LINES: tuple[Format, ...] = ("jsonl", "tsv", "text")  # every line a row
MANY: tuple[Format, ...] = (*LINES, "parquet", "arrow")  # of which many rows are read at once
PACKED = (".gz", ".zst", ".zip")
ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".arrow": "arrow", ".txt": "text", ".conll": "conll", ".bio": "conll",
}


@dataclass(frozen=True)
class Source:
    """A source file as it is: its digest and the units that it is read in."""

    shown: str
    sha256: str
    bytes: int
    units: tuple[Unit, ...]


def plan_sources(
    corpus: CorpusSettings, columns: Mapping[str, ColumnType], labels: Mapping[str, tuple[str, ...]],
    language: str, base: Path, screen: ScreenSettings | None = None,
) -> list[Source]:
    """The sources of a corpus, digested and cut into units. Raises UserError on an absent file or column."""
    unit = Unit(corpus, columns, labels, language, screen or ScreenSettings(), None, "", None, {})
    _check_condition(unit)
    if corpus.hub is not None:
        shown = f"hub:{corpus.hub.name}"
        pinned, commit = hub.pin(corpus.hub, base)
        revision = pinned.revision if pinned.revision and corpus.revision == UNVERSIONED else corpus.revision
        corpus = corpus.model_copy(update={"hub": pinned, "revision": revision})
        return [Source(shown, commit, 0, (replace(unit, corpus=corpus, shown=shown),))]
    if corpus.sql is not None:
        place = databases.place(corpus.sql, base)
        unit = replace(unit, path=place, shown=f"sql:{corpus.sql.sqlite or corpus.sql.postgres}")
        _check_readable(unit.shown, [_first_complaint(unit)])
        return [Source(unit.shown, databases.digest_rows(corpus.sql, place, unit.shown), 0, (unit,))]
    sources: list[Source] = []
    complaints = []
    met: dict[tuple[Path, str | None], Unit] = {}
    for file in corpus.files:
        for name, path in resolve(file.path, base):
            named = replace(unit, path=path, shown=name, fixed=file.set, split=file.split)
            units = [each for each in _members(named, file) if _is_new(each, met)]
            for each in units:
                complaints.append(_first_complaint(each))
                _check_unpacks(each)
            if units:
                sources.append(_cut(units, path, name))
    _check_readable(sources[0].shown, complaints)
    return sources


def _is_new(unit: Unit, met: dict[tuple[Path, str | None], Unit]) -> bool:
    """Whether no entry of `files` led to this file yet. Raises UserError where one did and says other things of it."""
    assert unit.path is not None
    first = met.setdefault((unit.path.resolve(), unit.member), unit)
    if first is not unit and (first.fixed, first.split, first.format) != (unit.fixed, unit.split, unit.format):
        raise UserError(unit.shown, "two entries of `files` say different things of it", "let one of them leave it out")
    return first is unit


def resolve(path: str, base: Path) -> list[tuple[str, Path]]:
    """Where a recipe's path or pattern leads: (as shown, file), sorted. Raises UserError where nothing is there."""
    if is_remote(path):
        return local_copies(path)
    prefix, inner = "", path
    if path.startswith("package:"):
        package, _, inner = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(path, f"package '{one_line(package)}' is not installed", f"pip install {one_line(package)}")
        if ".." in Path(inner).parts or Path(inner).is_absolute():
            raise UserError(path, "leads out of the package", "name a file inside it")
        base, prefix = Path(next(iter(spec.submodule_search_locations))), f"package:{package}/"
    if (base / inner).is_file():  # whatever its name looks like
        return [(path, base / inner)]
    if not glob.has_magic(inner):
        saw, do = "no such file", "check the path (it is relative to the recipe)"
        if (base / inner).is_dir():
            saw, do = "a folder", f"say which files in it: `{path.rstrip('/')}/*.jsonl`"
        raise UserError(path, saw, do)
    found = sorted(glob.glob(inner, root_dir=base, recursive=True))  # noqa: PTH207 (absolute patterns too)
    files = [(prefix + Path(name).as_posix(), base / name) for name in found if (base / name).is_file()]
    if not files:
        raise UserError(path, "no file fits this pattern", "check it (it is relative to the recipe)")
    return files


def _members(unit: Unit, file: SourceFile) -> Iterator[Unit]:
    """The unit with its format; of a .zip one for each file in it that is asked for."""
    assert unit.path is not None
    if unit.path.suffix.lower() != ".zip":
        yield replace(unit, format=file.format or _format(unit.path, unit.shown))
        return
    try:
        with zipfile.ZipFile(unit.path) as archive:
            names = sorted(i.filename for i in archive.infolist() if not i.is_dir())
    except zipfile.BadZipFile as error:
        raise UserError(unit.shown, f"damaged archive ({one_line(str(error))})", "get the file anew") from None
    wanted = [name for name in names if fnmatch.fnmatchcase(name, file.inside)]
    if not wanted:
        raise UserError(unit.shown, f"no file in it fits '{file.inside}'", did_you_mean(file.inside, names))
    for name in wanted:
        shown = f"{unit.shown}!{name}"
        yield replace(unit, member=name, shown=shown, format=file.format or _format(Path(name), shown))


def _format(path: Path, shown: str) -> Format:
    endings = [e.lower() for e in path.suffixes if e.lower() not in (".gz", ".zst")]
    if not endings or endings[-1] not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise UserError(shown, "its ending tells no format", f"give `format:` or one of the endings {known}")
    return ENDINGS[endings[-1]]


def _cut(units: list[Unit], path: Path, shown: str) -> Source:
    """Digest a file and cut it at line ends, so that several workers can read it; what is no line a row stays whole."""
    whole = path.suffix.lower() in PACKED or units[0].format not in (*LINES, "people_daily")
    sha, parts, offset, line = hashlib.sha256(), [], 0, 1
    with path.open("rb") as f:
        while chunk := f.read(CHUNK_BYTES):
            chunk += f.readline(MAX_LINE)
            sha.update(chunk)
            if not whole:
                parts.append(replace(units[0], offset=offset, length=len(chunk), first_line=line))
            offset, line = offset + len(chunk), line + chunk.count(b"\n")
    return Source(shown, sha.hexdigest(), offset, tuple(units) if whole else tuple(parts))


def open_source(path: Path, member: str | None = None) -> IO[bytes]:
    """A file's bytes, unpacked where it ends in .gz, .zst or .zip (then those of one file in it)."""
    if member is not None:
        return zipfile.ZipFile(path).open(member)
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":  # Arrow says where a stream is cut short; zstandard's own reader just ends
        return io.BufferedReader(cast("io.RawIOBase", pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")), 1 << 17)
    return path.open("rb")


def _raw_rows(unit: Unit) -> Iterator[Row]:
    """(source, row) of a unit, rows with the source's own column names."""
    if unit.corpus.sql is not None:
        yield from databases.read(unit.corpus.sql, unit.path, unit.shown)
    elif unit.corpus.hub is not None:
        yield from hub.read(unit.corpus.hub, unit.shown)
    elif unit.format in MANY:
        for stretch in _stretches(unit, 1):
            yield from stretch.rows(unit)
    else:
        with _opened(unit) as f:
            if unit.format == "conll":
                yield from tagged.read_conll(f, unit)
            elif unit.format == "people_daily":
                yield from tagged.read_people_daily(f, unit)
            else:
                yield from read_csv(f, unit)


def _stretches(unit: Unit, at_once: int) -> Iterator[Lines | Cells]:
    """The rows of a unit of which many can be read at once."""
    with _opened(unit) as f:
        if unit.format == "parquet":
            yield from read_parquet(f, unit, at_once)
        elif unit.format == "arrow":
            yield from read_arrow(f, unit, at_once)
        else:
            assert unit.format is not None
            yield from read_lines(f, unit.format, unit, at_once)


@contextmanager
def _opened(unit: Unit) -> Iterator[IO[bytes]]:
    """The unit's bytes. Raises UserError where they cannot be unpacked."""
    assert unit.path is not None
    try:
        with open_source(unit.path, unit.member) as f:
            yield f if f.seekable() or unit.format not in ("parquet", "arrow") else io.BytesIO(f.read())
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
            raise
        raise UserError(unit.shown, f"damaged archive ({one_line(str(error))})", "get the file anew") from None


def _check_unpacks(unit: Unit) -> None:
    """Unpack a packed file to its end: one that was cut short is found before anything is built."""
    if unit.path is not None and unit.path.suffix.lower() in PACKED:
        with _opened(unit) as f:
            while f.read(CHUNK_BYTES):
                pass


def _check_readable(shown: str, complaints: Sequence[str | None]) -> None:
    """Raise UserError where none of a corpus's files begins with a row that can be read."""
    if None not in complaints:
        do = "see its format (JSON: an object a line) and encoding"
        raise UserError(shown, f"no row can be read ({complaints[0]})", do)


def _first_complaint(unit: Unit) -> str | None:
    """None where rows can be read and have the columns that the recipe asks for; else what the first line suffers from.

    Raises UserError where a column is in none of the rows that are looked at.
    """
    retrieve, named = unit.corpus.retrieve, unit.corpus.columns
    filled = {retrieve.into, retrieve.sources} - set(named) if retrieve else set()  # a source may leave these out
    wanted = [named.get(c, c) for c in unit.columns if c not in unit.fixed and c not in filled]
    wanted += [c for c in _named_beside(unit.corpus) if c not in unit.columns]
    complaint, first = "nothing in it", None
    for n, (source, row) in enumerate(islice(_raw_rows(unit), LOOKED_AT)):
        if isinstance(row, dict):
            first = first or (source, row)
            wanted = [c for c in wanted if lookup(row, c) is None and c not in row]
            if not wanted:
                return None
        elif n == 0:
            complaint = row.why
    if first is None:
        return complaint
    raise UserError(first[0], f"no column '{wanted[0]}'", did_you_mean(wanted[0], first[1]))


def _named_beside(corpus: CorpusSettings) -> list[str]:
    """Columns of the source that a recipe names for what is no column of the pack: ties, time, split."""
    ties = [corpus.together] if isinstance(corpus.together, str) else corpus.together or []
    return [*ties, *(column for column in (corpus.time, corpus.split_column) if column is not None)]


def read_unit(unit: Unit) -> Iterator[Piece]:
    """Corpus rows of one unit, in batches; rejects for those that do not fit."""
    pieces = (_where(unit, piece) for piece in _pieces(unit))
    yield next(pieces, Piece(read_schema(unit.columns).empty_table()))
    yield from pieces


def _pieces(unit: Unit) -> Iterator[Piece]:
    if unit.format in MANY:
        yield from (fit_many(unit, stretch) for stretch in _stretches(unit, BATCH_ROWS))
    else:
        rows = _raw_rows(unit)
        while batch := list(islice(rows, BATCH_ROWS)):
            yield fit_rows(unit, batch)


def _where(unit: Unit, piece: Piece) -> Piece:
    """The rows that the recipe's condition keeps, the others rejected."""
    if unit.corpus.where is None:
        return piece
    try:
        kept = pa.array(databases.fits(piece.table, unit.corpus.where), pa.bool_())
    except ValueError as error:  # a value that it cannot be asked of
        raise UserError(f"corpus '{unit.corpus.name}': where", str(error), "mend the condition (TRY_CAST?)") from None
    left_out = [
        Reject("screen", "where", "does not fit `where:`", r["source"], r["corpus"], {c: r[c] for c in unit.columns})
        for r in piece.table.filter(pc.invert(kept)).to_pylist()
    ]
    return Piece(piece.table.filter(kept), [*piece.rejects, *left_out])


def _check_condition(unit: Unit) -> None:
    """Try `where:` on a table without rows. Raises UserError with what the database says."""
    if unit.corpus.where is not None:
        try:
            databases.fits(read_schema(unit.columns).empty_table(), unit.corpus.where)
        except ValueError as error:
            do = f"a SQL condition on {', '.join(unit.columns)}"
            raise UserError(f"corpus '{unit.corpus.name}': where", str(error), do) from None
