"""Lines are read a bounded stretch at a time, however long a file or one of its lines is."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders import corpus as corpus_module
from zhiling.builders import readers
from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.readers import Cells, read_csv, read_lines
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.sources import CorpusSettings, Unit
from zhiling.errors import UserError

CORPUS = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}]}
UNIT = Unit(CorpusSettings.model_validate(CORPUS), {}, {}, "zh", ScreenSettings(), None, "a.csv", "csv", {})
READ = """
import json, resource, sys
from pathlib import Path
from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.sources import CorpusSettings
corpus = CorpusSettings.model_validate(json.loads(sys.argv[2]))
[source] = plan_sources(corpus, {"text": "string"}, {}, "zh", Path(sys.argv[1]))
print(sum(len(piece.table) for unit in source.units for piece in read_unit(unit)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def units(folder: Path) -> tuple[Unit, ...]:
    [source] = plan_sources(CorpusSettings.model_validate(CORPUS), {"text": "string"}, {}, "zh", folder)
    return source.units


def test_a_line_beyond_all_measure_is_read_in_pieces_and_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_LINE", 100)
    monkeypatch.setattr(corpus_module, "MAX_LINE", 100)
    monkeypatch.setattr(corpus_module, "CHUNK_BYTES", 150)
    lines = ['{"text": "一"}', json.dumps({"text": "x" * 1000}), '{"text": "二"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    pieces = [piece for unit in units(tmp_path) for piece in read_unit(unit)]
    assert [(r["text"], r["source"]) for p in pieces for r in p.table.to_pylist()] == [
        ("一", "a.jsonl:1"), ("二", "a.jsonl:3"),
    ]
    rejects = [r for p in pieces for r in p.rejects]
    assert {(r.reason, r.source) for r in rejects} == {("malformed", "a.jsonl:2")}
    assert 3 < len(rejects) < 20


def test_stretches_end_by_lines_or_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' * 10)
    [unit] = units(tmp_path)

    def cut(unit: Unit) -> list[tuple[int, int]]:
        with (tmp_path / "a.jsonl").open("rb") as f:
            return [(lines.first, len(lines.raw)) for lines in read_lines(f, "jsonl", unit, 4)]

    packed = replace(unit, length=None)
    assert cut(unit) == cut(packed) == [(1, 4), (5, 4), (9, 2)]
    monkeypatch.setattr(readers, "MAX_BYTES", 40)
    assert cut(packed) == [(1, 3), (4, 3), (7, 3), (10, 1)]


def test_batches_of_a_table_are_put_together_to_as_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": [str(i) for i in range(25)]}), tmp_path / "a.parquet", row_group_size=3)
    monkeypatch.setattr(corpus_module, "BATCH_ROWS", 10)
    settings = {**CORPUS, "files": [{"path": "a.parquet"}]}
    [source] = plan_sources(CorpusSettings.model_validate(settings), {"text": "string"}, {}, "zh", tmp_path)
    pieces = [piece.table.to_pylist() for piece in read_unit(source.units[0])]
    assert [len(rows) for rows in pieces] == [10, 10, 5]
    assert [(r["text"], r["source"]) for rows in pieces for r in rows] == [
        (str(i), f"a.parquet:{i + 1}") for i in range(25)
    ]


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (20, 200):
        with (tmp_path / "a.jsonl").open("w", encoding="utf-8") as f:
            rows = 0
            while f.tell() < megabytes * 1_000_000:
                f.writelines(json.dumps({"text": f"第{rows + i}条：" + "好用" * 60}) + "\n" for i in range(1000))
                rows += 1000
        command = [sys.executable, "-c", READ, tmp_path, json.dumps(CORPUS)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found, peak = map(int, said.split())
        assert found == rows
        peaks.append(peak / 1e3)
    assert peaks[1] < peaks[0] + 60, f"{peaks[0]:.0f} MB for 20 MB of lines, {peaks[1]:.0f} MB for 200 MB"


def test_nanoseconds_are_cut_off_wherever_they_stand() -> None:
    at = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    lists = pa.ListArray.from_arrays([0, 1], at.cast(pa.time64("ns"), safe=False))
    table = pa.table({"at": at, "meta": pa.StructArray.from_arrays([at], ["at"]), "all": lists})
    said = "2023-11-14 22:13:20.123456"  # with pandas loaded it would have them, without it none could be read
    assert next(Cells(table, 1).rows(UNIT))[1] == {"at": said, "meta": {"at": said}, "all": [said[11:]]}


def test_a_header_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("评论\t标签\n好\t1\n".encode("gb18030"))
    corpus = CorpusSettings.model_validate({**CORPUS, "files": [{"path": "a.tsv"}]})
    with pytest.raises(UserError, match=r"a\.tsv:1: not UTF-8 \(byte 0 of the line\); give the corpus its `encoding:`"):
        plan_sources(corpus, {"text": "string"}, {}, "zh", tmp_path)


@pytest.mark.parametrize(("name", "between"), [("a.csv", ","), ("a.tsv", "\t")])
def test_two_columns_of_one_name_stop(tmp_path: Path, name: str, between: str) -> None:
    (tmp_path / name).write_text(between.join(["text", "", "", "text"]) + "\n", encoding="utf-8")
    corpus = CorpusSettings.model_validate({**CORPUS, "files": [{"path": name}]})
    with pytest.raises(UserError, match=rf"{name}:1: two columns are called 'text'; rename one of them"):
        plan_sources(corpus, {"text": "string"}, {}, "zh", tmp_path)


def test_a_quotation_mark_that_is_never_closed_says_how_far_it_reached() -> None:
    file = io.BytesIO('text\n好\n"坏\n一\n二\n'.encode())
    assert [(source, getattr(row, "why", row)) for source, row in read_csv(file, UNIT)] == [
        ("a.csv:2", {"text": "好"}), ("a.csv:3", "not valid CSV (unexpected end of data); lines 3 to 5 are lost"),
    ]
