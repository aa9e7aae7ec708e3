"""A source's row becomes a corpus row or a reject, whatever stands in it: no value ends a build with a traceback."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.engines import Reject
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.sources import CorpusSettings
from zhiling.errors import UserError

REVIEW: Any = {"text": "string", "label": "label"}
LABELS = {"label": ("negative", "positive")}
MASKING = ScreenSettings.model_validate({"personal_data": {"action": "mask"}})


def read(
    folder: Path, rows: list[Any], columns: Any = REVIEW, screen: ScreenSettings | None = None, **settings: Any
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows as a JSONL file, or as a Parquet file where they are a table's columns."""
    file = folder / "a.jsonl"
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return read_file(folder, "a.jsonl", columns, screen, **settings)


def read_table(folder: Path, table: dict[str, Any], **settings: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    pq.write_table(pa.table(table), folder / "a.parquet")
    return read_file(folder, "a.parquet", REVIEW, None, **settings)


def read_file(
    folder: Path, name: str, columns: Any, screen: ScreenSettings | None, **settings: Any
) -> tuple[list[dict[str, Any]], list[Reject]]:
    given = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": name}], **settings}
    [source] = plan_sources(CorpusSettings.model_validate(given), columns, LABELS, "zh", folder, screen)
    pieces = [piece for unit in source.units for piece in read_unit(unit)]
    return [row for p in pieces for row in p.table.to_pylist()], [r for p in pieces for r in p.rejects]


def test_truth_values_are_labels_as_json_writes_them(tmp_path: Path) -> None:
    rows = [{"text": "好", "label": True}, {"text": "坏", "label": False}, {"text": True, "label": True}]
    found, rejects = read(tmp_path, rows, labels={"true": "positive", "false": "negative"})
    assert [r["label"] for r in found] == ["positive", "negative"]
    assert [(r.source, r.detail) for r in rejects] == [("a.jsonl:3", "'text' is a bool, not a string")]


def test_not_a_number_is_nothing(tmp_path: Path) -> None:
    _, rejects = read(tmp_path, [{"text": "好", "label": "positive"}, '{"text": NaN, "label": "positive"}'])
    assert [(r.reason, r.source) for r in rejects] == [("missing_column", "a.jsonl:2")]


@pytest.mark.parametrize(
    "span",
    [{"text": "甲", "start": "0"}, {"text": "甲", "start": 0.5}, {"text": "甲", "label": ["a"]}, {"start": 0}, "甲"],
)
def test_what_is_no_span_is_rejected(tmp_path: Path, span: Any) -> None:
    columns = {"text": "string", "spans": "spans"}
    good = {"text": "甲乙", "spans": [{"text": "甲", "start": 0.0, "label": 1}]}
    found, rejects = read(tmp_path, [good, {"text": "甲丙", "spans": [span]}], columns, labels={1: "人名"})
    assert [r["spans"] for r in found] == [[{"start": 0, "text": "甲", "label": "人名"}]]
    assert [(r.reason, r.source) for r in rejects] == [("cannot_cast", "a.jsonl:2")]
    assert rejects[0].detail.startswith("'spans': a span has a `text`")


def test_a_row_nested_beyond_measure_is_rejected_where_personal_data_is_masked(tmp_path: Path) -> None:
    deep = "[" * 600 + "]" * 600
    columns = {"text": "string", "about": "json"}
    rows = [{"text": "好", "about": 1}, f'{{"text": "电话13812345678", "about": {deep}}}', f'{{"x": {deep}}}']
    found, rejects = read(tmp_path, rows, columns, MASKING)
    assert len(found) == 1
    assert [(r.source, r.row) for r in rejects] == [(f"a.jsonl:{n}", {"raw": "nested too deep"}) for n in (2, 3)]


def test_numbers_and_times_of_tables_label_and_tie_rows(tmp_path: Path) -> None:
    day, at = datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3)
    table = {
        "text": ["甲", "乙"], "label": pa.array([Decimal(1), Decimal(0)], pa.decimal128(5, 0)),
        "day": [day, day], "at": [at, at], "bytes": [b"\xff", b"\xfe"],
    }
    labels = {1: "positive", 0: "negative"}
    found, _ = read_table(tmp_path, table, labels=labels, together=["day", "at", "label"])
    assert [r["label"] for r in found] == ["positive", "negative"]
    assert found[0]["_ties"][:2] == found[1]["_ties"][:2] and found[0]["_ties"][2] != found[1]["_ties"][2]
    _, rejects = read_table(tmp_path, table, labels=labels, together="bytes")
    assert [r.reason for r in rejects] == ["unusable_value"] * 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000, "2023-11-14T22:13:20"), ("1700000000", "2023-11-14T22:13:20"),
        (874724710.0, "1997-09-20T03:05:10"), (20260102, "2026-01-02T00:00:00"),
        ("2026-01-02 08:00+08:00", "2026-01-02T00:00:00"),
        (2026, None), (1_700_000_000_000, None), ("2026/1/2", None), (True, None),
    ],
)
def test_a_time_is_iso_text_or_seconds_since_1970(tmp_path: Path, value: Any, expected: str | None) -> None:
    row = {"text": "好", "label": "positive", "meta": {"at": value}}
    found, rejects = read(tmp_path, [row], time="meta.at")
    assert [r["_time"] for r in found] == ([expected] if expected else [])
    assert [r.detail for r in rejects] == ([] if expected else [f"'meta.at' is '{value}', not a time"])


def test_a_source_may_give_a_side_to_some_rows_only(tmp_path: Path) -> None:
    rows = [{"text": "好" * n, "label": "positive", "m": {"fold": f}} for n, f in enumerate(["dev", "", None, "x"], 1)]
    found, rejects = read(tmp_path, rows, split_column="m.fold")
    assert [r["_own"] for r in found] == ["validation", None, None]
    assert [r.detail for r in rejects] == ["'m.fold' is 'x', not a split"]


def test_one_row_without_a_column_is_a_reject_and_a_column_that_no_row_has_stops(tmp_path: Path) -> None:
    rows = [{"text": "没有标签"}, {"text": "好", "label": "positive"}]
    found, rejects = read(tmp_path, rows)
    assert ([r["source"] for r in found], [r.source for r in rejects]) == (["a.jsonl:2"], ["a.jsonl:1"])
    given = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}], "columns": {"label": "txt"}}
    with pytest.raises(UserError, match=r"a\.jsonl:1: no column 'txt'; did you mean 'text'\?"):
        plan_sources(CorpusSettings.model_validate(given), REVIEW, LABELS, "zh", tmp_path)


@pytest.mark.parametrize("extra", [{}, {"time": "at"}])  # by columns, and row by row
def test_white_space_around_a_label_is_not_its_own(tmp_path: Path, extra: dict[str, str]) -> None:
    given = [" positive", "1 ", "2"]
    rows = [{"text": "好" * n, "label": label, "at": "2026-01-02"} for n, label in enumerate(given, 1)]
    found, _ = read(tmp_path, rows, labels={"1": "negative", "2": "positive"}, **extra)
    assert [r["label"] for r in found] == ["positive", "negative", "positive"]
