"""A finished shard is kept, an unfinished one is never seen, rejects stand beside their shard."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders import engines
from zhiling.builders.engines import (
    LocalEngine,
    Piece,
    Reject,
    RowGroup,
    Shard,
    _footer,
    batches,
    copy_rejects,
    count_rows,
    joined,
    read_rejects,
    row_groups,
    run_shard,
    schema_of,
)
from zhiling.errors import UserError


def count_up(job: int) -> Iterator[Piece]:
    """Two pieces and a reject; job 13 fails half-way."""
    yield Piece(pa.table({"n": [job]}), [Reject("step", "odd", "because", "f:1", "c", {"n": job, "bad": "\ud800"})])
    if job == 13:
        raise RuntimeError("stop")
    yield Piece(pa.table({"n": [job + 1, job + 2]}))


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_and_their_rejects_are_written(tmp_path: Path, workers: int) -> None:
    shards = [Shard(tmp_path / f"{i}.parquet", i) for i in range(4)]
    with closing(LocalEngine(workers)) as engine:
        engine.map(count_up, shards, "count")
    groups = row_groups([s.output for s in shards])
    assert [g.read()["n"].to_pylist() for g in groups[:2]] == [[0], [1, 2]]
    assert [r["row"]["n"] for r in read_rejects([s.output for s in shards])] == [0, 1, 2, 3]


def test_rejects_are_copied_as_they_stand_and_counted(tmp_path: Path) -> None:
    shards = [Shard(tmp_path / f"{i}.parquet", i) for i in range(4)]
    LocalEngine().map(count_up, shards, "count")
    with (tmp_path / "all.jsonl").open("w") as out:
        assert copy_rejects([s.output for s in shards], out) == {"step: odd": 4}
    copied = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert copied == list(read_rejects([s.output for s in shards]))


def test_an_arrow_output_has_a_batch_for_each_piece(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "a.arrow", 1)
    LocalEngine().map(count_up, [shard], "count")
    assert [batch["n"].to_pylist() for batch in batches(shard.output)] == [[1], [2, 3]]
    assert count_rows([shard.output]) == 3
    assert schema_of(shard.output) == pa.schema([("n", pa.int64())])


def surroundings(job: str) -> Iterator[Piece]:
    found = {"value": os.environ.get(job), "folder": str(Path.cwd()), "pandas": "pandas" in sys.modules}
    yield Piece(pa.Table.from_pylist([found]))


def test_workers_have_the_environment_and_folder_of_their_parent_and_do_without_pandas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("first", "second", None):  # the process that they are forked from lives on
        folder = tmp_path / str(value)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("ZHILING_TEST", value) if value else monkeypatch.delenv("ZHILING_TEST")
        shards = [Shard(folder / f"{i}.parquet", "ZHILING_TEST") for i in range(2)]
        with closing(LocalEngine(2)) as engine:
            engine.map(surroundings, shards, "look")
        for group in row_groups([s.output for s in shards]):
            assert group.read().to_pylist() == [{"value": value, "folder": str(folder), "pandas": False}]


def long_work(job: Path) -> Iterator[Piece]:
    """Says which process it is in, and would take a minute."""
    job.write_text(str(os.getpid()))
    time.sleep(60)
    yield Piece(pa.table({"n": [1]}))


WAIT = (
    "import sys; from pathlib import Path; from tests.builders.test_engines import *\n"
    "folder = Path(sys.argv[1])\n"
    "shards = [Shard(folder / f'{i}.parquet', folder / f'{i}.pid') for i in range(2)]\n"
    "if __name__ == '__main__': LocalEngine(2).map(long_work, shards, 'wait')"
)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    process = subprocess.Popen([sys.executable, "-c", WAIT, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(pids := [p for p in tmp_path.glob("*.pid") if p.read_text()]) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    workers = [psutil.Process(int(p.read_text())) for p in pids]
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_a_finished_shard_is_not_done_again(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "a.parquet", 1)
    LocalEngine().map(count_up, [shard], "count")
    made = shard.output.stat().st_mtime_ns
    LocalEngine().map(count_up, [shard], "count")
    assert shard.output.stat().st_mtime_ns == made


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_that_fails_leaves_nothing_behind(tmp_path: Path, workers: int) -> None:
    shards = [Shard(tmp_path / "bad.parquet", 13), Shard(tmp_path / "good.parquet", 1)]
    with closing(LocalEngine(workers)) as engine, pytest.raises(RuntimeError, match="stop"):
        engine.map(count_up, shards, "count")
    assert not any("bad" in p.name for p in tmp_path.iterdir())


def complain(job: str) -> Iterator[Piece]:
    raise UserError(job, "something odd", "mend it")
    yield


@pytest.mark.parametrize("workers", [1, 2])
def test_a_complaint_comes_home_from_a_worker(tmp_path: Path, workers: int) -> None:
    shards = [Shard(tmp_path / f"{i}.parquet", "file:3") for i in range(3)]
    with closing(LocalEngine(workers)) as engine, pytest.raises(UserError, match="file:3: something odd; mend it"):
        engine.map(complain, shards, "complain")


def nothing(_job: None) -> Iterator[Piece]:
    yield from ()


def test_a_step_must_give_a_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        LocalEngine().map(nothing, [Shard(tmp_path / "a.parquet", None)], "nothing")


def test_parts_of_a_parquet_file_are_read_with_one_look_at_its_footer_and_again_once_it_is_another(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"n": list(range(6))}), path, row_group_size=2)
    looks = _footer.cache_info().misses
    assert [RowGroup(path, i).read()["n"].to_pylist() for i in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert _footer.cache_info().misses == looks + 1
    pq.write_table(pa.table({"n": list(range(9))}), path, row_group_size=3)
    assert RowGroup(path, 1).read()["n"].to_pylist() == [3, 4, 5]


def test_neighbouring_parts_are_joined_unless_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [4, 4, 4, 100, 4, 4]
    run_shard(lambda job: [Piece(pa.table({"n": range(n)})) for n in job], Shard(tmp_path / "a.arrow", sizes))
    parts = row_groups([tmp_path / "a.arrow"])
    assert [[part.index for part in some] for some in joined(parts, 2)] == [[0, 1], [2, 3], [4, 5]]
    assert [len(some) for some in joined(parts, 1)] == [1] * 6
    monkeypatch.setattr(engines, "MOST_JOINED", 200)
    assert [[part.index for part in some] for some in joined(parts, 4)] == [[0, 1, 2], [3], [4, 5]]
