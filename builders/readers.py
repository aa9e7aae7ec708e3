"""The file formats: bytes to rows with their source's own column names, and where each row stood."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import pyarrow as pa

from zhiling.builders.sources import Format, Malformed, Row, Unit, check_names, plain
from zhiling.errors import UserError, one_line

MAX_LINE = 16 * 2**20   # bytes; a longer line is read in pieces, each of them malformed
MAX_BYTES = 32 * 2**20  # of lines at once
UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Lines:
    """Neighbouring lines of a file, the number of the first of them, and the columns of a table."""

    raw: list[bytes]
    first: int
    kind: Format
    header: list[str] | None = None

    def part(self, start: int, end: int) -> "Lines":
        """Some of the lines."""
        return replace(self, raw=self.raw[start:end], first=self.first + start)

    def rows(self, unit: Unit) -> Iterator[Row]:
        """Where each line stands, and its row."""
        for number, raw in enumerate(self.raw, self.first):
            yield f"{unit.shown}:{number}", _line(raw, self.kind, self.header, unit.corpus.encoding)


@dataclass(frozen=True)
class Cells:
    """Neighbouring rows of a file that is a table, and the number of the first of them."""

    table: pa.Table
    first: int

    def part(self, start: int, end: int) -> "Cells":
        """Some of the rows."""
        return Cells(self.table.slice(start, end - start), self.first + start)

    def rows(self, unit: Unit) -> Iterator[Row]:
        """Where each row stands, and its values."""
        schema = pa.schema([field.with_type(_in_microseconds(field.type)) for field in self.table.schema])
        for number, row in enumerate(self.table.cast(schema, safe=False).to_pylist(), self.first):
            yield f"{unit.shown}:{number}", plain(row)


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    """A type without nanoseconds, which Python's own times do not have (pandas's do, where it is loaded)."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_microseconds(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_microseconds(kind.value_type)))
    if getattr(kind, "unit", None) != "ns":
        return kind
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time(kind) else pa.duration("us")


def read_lines(file: IO[bytes], kind: Format, unit: Unit, at_once: int) -> Iterator[Lines]:
    """A JSONL, TSV or plain text file, or the stretch of it that `unit` names, so many lines at once."""
    header, number, offset, at = unit.corpus.header, unit.first_line, unit.offset, 0
    if kind == "tsv" and header is None:
        first = file.readline(MAX_LINE)
        header, at = _header(first, unit), len(first)
        if offset == 0:
            offset, number = at, 2
    if offset != at:
        file.seek(offset)
    if unit.length is not None:  # a stretch fits in memory
        lines = io.BytesIO(file.read(unit.offset + unit.length - offset)).readlines()
        for start in range(0, len(lines), at_once):
            yield Lines(lines[start : start + at_once], number + start, kind, header)
        return
    raw: list[bytes] = []
    size = 0
    while line := file.readline(MAX_LINE):
        raw.append(line)
        size += len(line)
        if len(raw) == at_once or size >= MAX_BYTES or not line.endswith(b"\n"):  # the last may be half a line
            yield Lines(raw, number, kind, header)
            number += len(raw) - (not line.endswith(b"\n"))
            raw, size = [], 0
    if raw:
        yield Lines(raw, number, kind, header)


def _header(line: bytes, unit: Unit) -> list[str]:
    try:
        return check_names(_decode(line, unit.corpus.encoding).rstrip("\r\n").split("\t"), f"{unit.shown}:1")
    except UnicodeDecodeError as error:
        saw = f"not {unit.corpus.encoding.upper()} (byte {error.start} of the line)"
        raise UserError(f"{unit.shown}:1", saw, "give the corpus its `encoding:`") from None


def _line(raw: bytes, kind: Format, header: list[str] | None, encoding: str) -> dict[str, Any] | Malformed:
    try:
        text = _decode(raw, encoding).rstrip("\r\n")
    except UnicodeDecodeError as error:
        shown = one_line(raw[:200].decode(encoding, "replace"), 200)
        return Malformed(shown, f"not {encoding.upper()} (byte {error.start} of the line)")
    if not text.strip():
        return Malformed("", "nothing on the line", "blank")
    if kind == "text":
        return {"line": text}
    if kind == "jsonl":
        return _json(text)
    assert header is not None
    return _cells(text.split("\t"), header, "\t")


def _json(text: str) -> dict[str, Any] | Malformed:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Malformed(one_line(text, 200), f"not valid JSON ({error})")
    return row if isinstance(row, dict) else Malformed(one_line(text, 200), f"a {type(row).__name__}, not an object")


def _decode(raw: bytes, encoding: str) -> str:
    return raw.decode(encoding).removeprefix("\ufeff")


def read_csv(file: IO[bytes], unit: Unit) -> Iterator[Row]:
    """CSV with quotes and line breaks in cells; a file in another encoding stops at the row that shows it."""
    csv.field_size_limit(MAX_LINE)
    pieces = iter(lambda: file.readline(MAX_LINE), b"")
    lines = (raw.decode(unit.corpus.encoding, "surrogateescape") for raw in pieces)
    reader = csv.reader(_without_mark(lines), strict=True)
    header = unit.corpus.header
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines_lost = f"; lines {start} to {reader.line_num} are lost" if reader.line_num > start else ""
            yield f"{unit.shown}:{start}", Malformed("", f"not valid CSV ({error}){lines_lost}")
            continue
        if header is None:
            header = check_names(cells, f"{unit.shown}:{start}")
        elif cells:
            yield f"{unit.shown}:{start}", _cells(cells, header)


def _cells(cells: list[str], header: list[str], between: str = ",") -> dict[str, Any] | Malformed:
    if len(cells) != len(header):
        return Malformed(one_line(between.join(cells), 200), f"{len(cells)} cells where the header has {len(header)}")
    if any(map(UNDECODED.search, cells)):
        shown = between.join(cells).encode("utf-8", "replace").decode()
        return Malformed(one_line(shown, 200), "bytes that are not in the recipe's encoding")
    return dict(zip(header, cells, strict=True))


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    for n, line in enumerate(lines):
        yield line.removeprefix("\ufeff") if n == 0 else line


def read_parquet(file: IO[bytes], unit: Unit, at_once: int) -> Iterator[Cells]:
    """Rows of a Parquet file, so many at once."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            yield from _regrouped(parquet.iter_batches(4096), at_once)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(unit.shown, f"not a readable Parquet file ({one_line(str(error))})", "mend the file") from None


def read_arrow(file: IO[bytes], unit: Unit, at_once: int) -> Iterator[Cells]:
    """Rows of an Arrow file or stream (what `datasets` keeps in its cache), so many at once."""
    try:
        magic = file.read(6)
        file.seek(0)
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(file)
            yield from _regrouped((reader.get_batch(i) for i in range(reader.num_record_batches)), at_once)
        else:
            yield from _regrouped(pa.ipc.open_stream(file), at_once)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(unit.shown, f"not a readable Arrow file ({one_line(str(error))})", "mend the file") from None


def _regrouped(batches: Iterable[pa.RecordBatch], at_once: int) -> Iterator[Cells]:
    waiting: list[pa.RecordBatch] = []
    count, number = 0, 1
    for batch in batches:
        while len(batch):
            part = batch.slice(0, at_once - count)
            waiting.append(part)
            count, batch = count + len(part), batch.slice(len(part))
            if count == at_once or sum(b.nbytes for b in waiting) >= MAX_BYTES:
                yield Cells(pa.Table.from_batches(waiting), number)
                waiting, count, number = [], 0, number + count
    if waiting:
        yield Cells(pa.Table.from_batches(waiting), number)
