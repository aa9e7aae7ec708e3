"""Read labelled rows: files, installed packages, anything `datasets.load_dataset` opens.

In: a corpus of the recipe. Out: units of reading (a file, or a stretch of its lines) and, for each unit,
tables of corpus rows. A row that cannot be read is rejected with its file and line; a column that is not
there, or a label nobody mapped, stops the build with one line.
"""

import gzip
import hashlib
import importlib.util
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import zstandard

from zhiling.builders.engines import Piece, Reject
from zhiling.builders.readers import Malformed, read_hub, read_lines, read_parquet
from zhiling.builders.sources import SIDES, CorpusSettings, Format
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import ColumnType, Split, conform, corpus_schema
from zhiling.store import canonical_json

CHUNK_BYTES = 8 * 2**20
BATCH_ROWS = 16_384
ASIDE = [  # what a row brings along for the steps before the release, by name and type
    ("own", pa.string()),   # the side that its source gives it
    ("tie", pa.string()),   # a digest that rows which stay together share
    ("time", pa.string()),  # ISO 8601
]
ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".txt": "text",
}


@dataclass(frozen=True)
class Unit:
    """What one worker reads at a time: a file or a stretch of its lines."""

    corpus: CorpusSettings
    columns: Mapping[str, ColumnType]
    labels: Mapping[str, tuple[str, ...]]  # label column -> known labels
    language: str
    path: Path | None                       # None: the corpus's hub source
    shown: str                              # the path as the recipe writes it
    format: Format | None
    fixed: Mapping[str, str]
    offset: int = 0
    length: int | None = None               # bytes; None: to the end
    first_line: int = 1
    split: Split | None = None              # the side that the source gives all of it


@dataclass(frozen=True)
class Source:
    """A source file as it is: its digest and the units that it is read in."""

    shown: str
    sha256: str
    bytes: int
    units: tuple[Unit, ...]


def plan_sources(
    corpus: CorpusSettings, columns: Mapping[str, ColumnType], labels: Mapping[str, tuple[str, ...]],
    language: str, base: Path,
) -> list[Source]:
    """The sources of a corpus, digested and cut into units. Raises UserError on an absent file or column."""
    if corpus.hub is not None:
        unit = Unit(corpus, columns, labels, language, None, f"hub:{corpus.hub.name}", None, {})
        return [Source(unit.shown, f"revision {corpus.hub.revision or corpus.revision}", 0, (unit,))]
    sources = []
    for file in corpus.files:
        path = resolve(file.path, base)
        kind = file.format or _format(path)
        unit = Unit(corpus, columns, labels, language, path, file.path, kind, file.set, split=file.split)
        _check_first_row(unit)
        sources.append(_cut(unit, path))
    return sources


def resolve(path: str, base: Path) -> Path:
    """Where a recipe's path leads. Raises UserError where nothing is there."""
    if path.startswith("package:"):
        package, _, inner = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(path, f"package '{one_line(package)}' is not installed", f"pip install {one_line(package)}")
        found = Path(next(iter(spec.submodule_search_locations))) / inner
    else:
        found = base / path
    if not found.is_file():
        raise UserError(path, "no such file", "check the path (it is relative to the recipe)")
    return found


def _format(path: Path) -> Format:
    endings = [e.lower() for e in path.suffixes if e.lower() not in (".gz", ".zst")]
    if not endings or endings[-1] not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise UserError(str(path), "its ending tells no format", f"give `format:` or one of the endings {known}")
    return ENDINGS[endings[-1]]


def _cut(unit: Unit, path: Path) -> Source:
    """Digest a file and cut it at line ends, so that several workers can read it; CSV and packed files stay whole."""
    whole = unit.format in ("csv", "parquet") or path.suffix in (".gz", ".zst")
    sha, units, offset, line = hashlib.sha256(), [], 0, 1
    with path.open("rb") as f:
        while chunk := f.read(CHUNK_BYTES):
            chunk += f.readline()
            sha.update(chunk)
            if not whole:
                units.append(replace(unit, offset=offset, length=len(chunk), first_line=line))
            offset, line = offset + len(chunk), line + chunk.count(b"\n")
    return Source(unit.shown, sha.hexdigest(), offset, (unit,) if whole else tuple(units))


def open_source(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked where it ends in .gz or .zst."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        raw = path.open("rb")
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return path.open("rb")


def _raw_rows(unit: Unit) -> Iterator[tuple[str, dict[str, Any] | Malformed]]:
    """(source, row) of a unit, rows with the source's own column names."""
    if unit.path is None:
        assert unit.corpus.hub is not None
        yield from read_hub(unit.corpus.hub, unit.shown)
    elif unit.format == "parquet":
        yield from read_parquet(unit.path, unit.shown)
    else:
        assert unit.format is not None
        try:
            with open_source(unit.path) as f:
                yield from read_lines(f, unit.format, unit)
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise UserError(unit.shown, f"damaged archive ({one_line(str(error))})", "get the file anew") from None


def _check_first_row(unit: Unit) -> None:
    """The columns that the recipe asks for are in the file's first readable row."""
    wanted = [unit.corpus.columns.get(c, c) for c in unit.columns if c not in unit.fixed]
    for n, (source, row) in enumerate(_raw_rows(unit)):
        if isinstance(row, dict):
            for column in wanted:
                if column not in row:
                    raise UserError(source, f"no column '{column}'", did_you_mean(column, row))
            return
        if n == 100:
            return


def read_unit(unit: Unit) -> Iterator[Piece]:
    """Corpus rows of one unit, in batches; rejects for those that do not fit."""
    schema = read_schema(unit.columns)
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for source, raw in _raw_rows(unit):
        row = _corpus_row(unit, source, raw)
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            rows.append(row)
        if len(rows) + len(rejects) >= BATCH_ROWS:
            yield Piece(_table(rows, schema), rejects)
            rows, rejects = [], []
    yield Piece(_table(rows, schema), rejects)


def read_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """Schema of rows as read: corpus rows, and what each brings along."""
    return pa.schema([*corpus_schema(columns), *ASIDE])


def _table(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return conform(pa.Table.from_pylist(list(rows), schema=schema), schema)


def _corpus_row(unit: Unit, source: str, raw: dict[str, Any] | Malformed) -> dict[str, Any] | Reject:
    """One source row as a corpus row, or why it cannot be one."""
    def reject(reason: str, detail: str) -> Reject:
        shown = raw if isinstance(raw, dict) else {"raw": raw.text}
        return Reject("read", reason, detail, source, unit.corpus.name, json.loads(json.dumps(shown, default=str)))

    if isinstance(raw, Malformed):
        return reject(raw.reason, raw.why)
    fields: dict[str, Any] = {}
    for column, kind in unit.columns.items():
        name = unit.corpus.columns.get(column, column)
        value = unit.fixed[column] if column in unit.fixed else raw.get(name)
        if value is None:
            return reject("missing_column", f"no '{name}'")
        fitted = _fit(value, kind)
        if fitted is None:
            return reject("wrong_type", f"'{name}' is a {type(value).__name__}, not a {kind}")
        if kind == "label":
            fitted = unit.corpus.labels.get(fitted, fitted)
            known = unit.labels.get(column, ())
            if known and fitted not in known:
                if unit.corpus.unknown_labels == "stop":
                    do = f"{did_you_mean(fitted, known)} (map it under `labels:`, or set `unknown_labels: reject`)"
                    raise UserError(source, f"unknown label '{one_line(fitted, 40)}' in '{name}'", do)
                return reject("unknown_label", f"'{name}' is '{one_line(fitted, 40)}'")
        fields[column] = fitted
    if all(not fields[c].strip() for c, k in unit.columns.items() if k == "string"):
        return reject("empty", "no text in any column")
    try:
        identity = row_id(unit.corpus.name, fields)
    except ValueError as error:  # half a surrogate pair, or a number that JSON does not have
        return reject("malformed", one_line(str(error)))
    try:
        aside = _aside(unit, raw)
    except ValueError as error:
        return reject("unusable_value", str(error))
    return {
        "id": identity, "corpus": unit.corpus.name, "revision": unit.corpus.revision,
        "license": unit.corpus.license, "language": unit.language, "source": source, **fields, **aside,
    }


def _aside(unit: Unit, raw: Mapping[str, Any]) -> dict[str, str | None]:
    """The row's own side, tie and time. Raises ValueError where its source says something else there."""
    corpus, own, tie, time = unit.corpus, unit.split, None, None
    if corpus.split_column is not None:
        said = str(raw.get(corpus.split_column)).strip().lower()
        if said not in SIDES:
            raise ValueError(f"'{corpus.split_column}' is '{one_line(said, 40)}', not a split")
        own = SIDES[said]
    if corpus.together is not None:
        value = raw.get(corpus.together)
        if value is None:
            raise ValueError(f"no '{corpus.together}'")
        tie = _hashed(["tie", corpus.name, value])
    if corpus.time is not None:
        time = _moment(raw.get(corpus.time), corpus.time)
    return {"own": own, "tie": tie, "time": time}


def _moment(value: Any, column: str) -> str:
    """A time as ISO 8601, from ISO text, a date or seconds since 1970. Raises ValueError."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).replace(tzinfo=None).isoformat()
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"'{column}' is '{one_line(str(value), 40)}', not a time") from None


def _fit(value: Any, kind: ColumnType) -> Any:
    """`value` as a column of `kind` holds it; None where it cannot."""
    if kind in ("string", "label"):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        return value if isinstance(value, str) else str(value)
    if kind == "strings":
        good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return value if good else None
    if kind == "spans":
        good = isinstance(value, list) and all(isinstance(v, dict) and "text" in v for v in value)
        return [{"start": v.get("start"), "text": v["text"], "label": v.get("label")} for v in value] if good else None
    return canonical_json(value)


def row_id(corpus: str, fields: Mapping[str, Any]) -> str:
    """A row's id: a hash of its corpus's name and its content, so the same row has the same id in every release.

    Raises ValueError where the content is not text that UTF-8 can hold.
    """
    return _hashed([corpus, dict(fields)])


def _hashed(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=12).hexdigest()
