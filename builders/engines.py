"""Run a step over shards: in this process, in a local pool of processes, or on Ray (`engines_ray.py`).

A unit of work is a shard: `work(shard)` yields pieces (a table and the rows it rejected), the engine
streams them into `<output>.part` and renames it. The output's folder is named by a digest of the step's
settings and inputs, so an existing output is this very work, done: it is kept, which is also the resume.
An output is Parquet, or (`.arrow`) an Arrow stream, which is written and mapped back without being encoded.
"""

import gc
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import IO, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.builders.workers import context, interrupt_held
from zhiling.console import progress
from zhiling.store import atomic

SHARD = {"compression": "lz4", "use_dictionary": False, "version": "2.6"}  # read once or twice, then thrown away
MOST_JOINED = 24 * 2**20  # bytes of several parts that are done at once
DETAIL = ', "detail": '  # stands in the line of a reject behind what it is counted by


@dataclass(frozen=True)
class Reject:
    """A row that a step could not use, and why."""

    step: str
    reason: str    # a fixed word for counting: `malformed`, `duplicate`, ...
    detail: str    # what was found
    source: str    # file and line
    corpus: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Part of a shard's output: rows that passed and rows that did not."""

    table: pa.Table
    rejects: Sequence[Reject] = ()


@dataclass(frozen=True)
class Shard:
    """One unit of work: where its output goes and what the step needs to know (picklable)."""

    output: Path
    job: Any


Work = Callable[[Any], Iterable[Piece]]


class Engine(Protocol):
    """Anything that can run `work` over shards and leave the same bytes behind."""

    def map(self, work: Work, shards: Sequence[Shard], label: str) -> None:
        """Run `work` on every shard whose output is not there yet."""

    def close(self) -> None:
        """Let the workers go."""


@dataclass
class LocalEngine:
    """`workers` processes on this machine, kept from step to step; one worker runs in this process."""

    workers: int = 1
    _pool: ProcessPoolExecutor | None = None

    def map(self, work: Work, shards: Sequence[Shard], label: str) -> None:
        """Run `work` on every shard whose output is not there yet."""
        todo = unfinished(shards)
        with progress(label, len(shards)) as bar:
            bar(len(shards) - len(todo))
            if self.workers == 1 or len(todo) < 2:
                for shard in todo:
                    run_shard(work, shard)
                    bar()
                return
            try:
                with interrupt_held():
                    running = [self._started().submit(run_shard, work, s) for s in todo]
                for done in as_completed(running):
                    done.result()
                    bar()
            except BaseException:
                self.close()
                raise

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, context(), _make_ready, (dict(os.environ),))
        return self._pool

    def close(self) -> None:
        """Let the workers go."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def make_engine(name: Literal["local", "ray"], workers: int, address: str | None = None) -> Engine:
    """The engine that a recipe names."""
    if name == "local":
        return LocalEngine(workers)
    from zhiling.builders.engines_ray import RayEngine

    return RayEngine(address)


def unfinished(shards: Sequence[Shard]) -> list[Shard]:
    """Shards whose output is not there yet."""
    return [shard for shard in shards if not shard.output.exists()]


def _make_ready(environment: dict[str, str]) -> None:
    """Give a worker the environment of its parent (the fork server may be older), and one thread: workers are many."""
    os.environ.clear()
    os.environ.update(environment)
    pa.set_cpu_count(1)
    gc.freeze()  # what was imported stays
    _leave_pandas_out()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone, killed or not: nobody would ever give it work again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


class _NoPandas:
    """Tells importers that pandas is not installed."""

    @staticmethod
    def find_spec(name: str, _path: Any = None, _target: Any = None) -> None:
        """Refuse pandas; leave all else to others."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _leave_pandas_out() -> None:
    """Let pyarrow look for pandas once and find nothing: it imports it at the first array, a quarter of a second."""
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        try:
            pa.array([""])
        finally:
            sys.meta_path.remove(_NoPandas)


def rejects_path(output: Path) -> Path:
    """Where the rejects of the shard at `output` stand."""
    return output.with_suffix(".rejects.jsonl")


def run_shard(work: Work, shard: Shard) -> None:
    """Do one shard's work; its output appears last, so that what exists is complete."""
    rejects_file = rejects_path(shard.output)
    with (
        atomic(shard.output, durable=False) as part,
        atomic(rejects_file, durable=False) as rejects_part,
        rejects_part.open("w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        for reject in _write_pieces(work(shard.job), part, shard.output.suffix):
            out.write(json.dumps(vars(reject), ensure_ascii=False) + "\n")


def _write_pieces(pieces: Iterable[Piece], part: Path, kind: str) -> Iterator[Reject]:
    """Write each piece's table as one row group or batch; yield the rejects."""
    writer: Any = None
    try:
        for piece in pieces:
            if writer is None:
                new: Callable[..., Any] = pa.ipc.new_stream if kind == ".arrow" else pq.ParquetWriter
                writer = new(part, piece.table.schema, **({} if kind == ".arrow" else SHARD))
            if len(piece.table):
                writer.write_table(piece.table.combine_chunks(), max(1, len(piece.table)))
            yield from piece.rejects
        if writer is None:
            raise ValueError("a step must yield at least one (possibly empty) table")
    finally:
        if writer is not None:
            writer.close()


def read_rejects(outputs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The rejects of finished shards, in shard order."""
    for output in outputs:
        with rejects_path(output).open(encoding="utf-8") as f:
            for line in f:
                yield json.loads(line)


def copy_rejects(outputs: Sequence[Path], out: IO[str]) -> Counter[str]:
    """Write the rejects of finished shards to `out` as they stand; count them by `step: reason`."""
    counts: Counter[str] = Counter()
    for output in outputs:
        with rejects_path(output).open(encoding="utf-8") as f:
            for line in f:
                out.write(line)
                counts[line.partition(DETAIL)[0]] += 1
    heads = ((json.loads(head + "}"), count) for head, count in counts.items())
    return Counter({f"{head['step']}: {head['reason']}": count for head, count in heads})


@dataclass(frozen=True)
class RowGroup:
    """Part `index` of an output: a row group or batch, which the next step reads as its unit."""

    path: Path
    index: int

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The rows of this part."""
        if self.path.suffix == ".arrow":
            found = pa.Table.from_batches(islice(batches(self.path), self.index, self.index + 1))
            return found.select(columns) if columns else found
        state = self.path.stat()
        with pq.ParquetFile(self.path, metadata=_footer(self.path, state.st_mtime_ns, state.st_size)) as file:
            return file.read_row_group(self.index, columns=columns)


@lru_cache(maxsize=2)
def _footer(path: Path, _changed: int, _size: int) -> pq.FileMetaData:
    """The footer of a file, read once by a worker: it is as long as the file has parts, and each part is asked for."""
    return pq.read_metadata(path)


def row_groups(paths: Sequence[Path]) -> list[RowGroup]:
    """All parts of the given outputs, in order."""
    return [RowGroup(path, i) for path in paths for i in range(_parts(path))]


def joined(parts: Sequence[RowGroup], several: int) -> Iterator[tuple[RowGroup, ...]]:
    """Neighbouring parts together, `several` of them, or fewer where they are large."""
    found: list[RowGroup] = []
    size = 0
    for part in parts:
        own = part.read().nbytes
        if found and (len(found) == several or size + own > MOST_JOINED):
            yield tuple(found)
            found, size = [], 0
        found.append(part)
        size += own
    if found:
        yield tuple(found)


def _parts(path: Path) -> int:
    if path.suffix == ".arrow":
        return sum(1 for _ in batches(path))
    return int(pq.read_metadata(path).num_row_groups)


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an `.arrow` output, mapped into memory: only what is looked at is read."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def read_output(path: Path, columns: list[str] | None = None) -> pa.Table:
    """All rows of an output."""
    if path.suffix != ".arrow":
        return pq.read_table(path, columns=columns)
    found = pa.Table.from_batches(batches(path), schema_of(path))
    return found.select(columns) if columns else found


def schema_of(path: Path) -> pa.Schema:
    """The schema of an `.arrow` output."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.schema


def count_rows(paths: Iterable[Path]) -> int:
    """Rows in the given outputs."""
    return sum(
        sum(len(batch) for batch in batches(path)) if path.suffix == ".arrow" else pq.read_metadata(path).num_rows
        for path in paths
    )
