"""Each row is read with what the global steps compare of it; a text is sketched where its key stands first."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from zhiling.builders import corpus
from zhiling.builders.clean import fold_key
from zhiling.builders.corpus import plan_sources
from zhiling.builders.engines import Shard, read_output, row_groups, run_shard
from zhiling.builders.keys import ReadJob, SketchJob, first_of, read_rows, sketch_rows, texts_of
from zhiling.builders.near_duplicates import NearSettings
from zhiling.builders.sources import CorpusSettings
from zhiling.builders.split import SplitSettings
from zhiling.rows import Columns

COLUMNS: Columns = {"text": "string", "label": "label"}
TEXTS = ["好用", "一般", "好 用", "物流慢", "好用", "一般"]


def read(folder: Path, split: dict[str, Any], lines: str | None = None, **more: Any) -> Path:
    """The output of reading TEXTS, or other lines, as unit 3."""
    rows = [{"text": t, "label": "x", "day": f"2024-0{n + 1}-01"} for n, t in enumerate(TEXTS)]
    said = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines or said, encoding="utf-8")
    given = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.jsonl"}], **more}
    [source] = plan_sources(CorpusSettings.model_validate(given), COLUMNS, {}, "zh", folder)
    job = ReadJob(source.units[0], 3, SplitSettings.model_validate(split), 7)
    run_shard(read_rows, Shard(folder / "read.arrow", job))
    return folder / "read.arrow"


def test_a_row_brings_its_place_and_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BATCH_ROWS", 4)
    found = read_output(read(tmp_path, {"train": 1, "validation": 0, "test": 0})).to_pylist()
    assert [(r["_unit"], r["_row"]) for r in found] == [(3, n) for n in range(6)]
    assert [r["_key"] for r in found] == [fold_key([t]) for t in TEXTS]
    assert [r["_label"] for r in found] == ["x"] * 6


def test_a_naive_split_draws_for_each_place_whatever_stands_there(tmp_path: Path) -> None:
    lines = '{"text": "好用", "label": "x"}\n' * 20_000
    naive = read_output(read(tmp_path, {}, lines=lines))["_naive"].to_numpy()
    assert abs(naive.mean() - SplitSettings().test) < 0.01
    assert abs((naive[1:] & naive[:-1]).mean() - SplitSettings().test ** 2) < 0.01
    assert (read_output(read(tmp_path, {}, lines=lines))["_naive"].to_numpy() == naive).all()
    assert (read_output(read(tmp_path, {}, lines=lines, name="other"))["_naive"].to_numpy() != naive).any()


def test_its_own_side_is_that_of_its_time(tmp_path: Path) -> None:
    found = read_output(read(tmp_path, {"time": {"test": "2024-05-01"}}, time="day"))
    assert found["_own"].to_pylist() == ["train"] * 4 + ["test"] * 2


def test_what_is_asked_of_a_text_and_found_in_it_is_no_part_of_what_is_held_against_others() -> None:
    spans = [{"start": 0, "text": "北京", "label": "地址"}]
    table = pa.Table.from_pylist([{"text": "北京天气", "types": ["地址", "书名"], "spans": spans, "label": "x"}])
    assert texts_of(table, {"text": "string", "types": "strings", "spans": "spans", "label": "label"}) == ["北京天气"]
    assert texts_of(table, {"text": "string", "types": "strings", "label": "label"}) == ['北京天气 ["地址","书名"]']
    assert texts_of(table, {"spans": "spans"}) == ['[{"label":"地址","start":0,"text":"北京"}]']


def test_texts_are_sketched_once_for_each_key_of_a_part(tmp_path: Path) -> None:
    [part] = row_groups([read(tmp_path, {})])
    [piece] = sketch_rows(SketchJob(part, COLUMNS, "zh", NearSettings()))
    assert piece.table["text"].to_pylist() == ["好用", "一般", "物流慢"]
    assert piece.table["key"].to_pylist() == [fold_key([t]) for t in ("好用", "一般", "物流慢")]
    assert piece.table["source"].to_pylist() == [f"a.jsonl:{n}" for n in (1, 2, 4)]


def test_where_keys_stand_first() -> None:
    assert first_of(pa.array(["b", "a", "b", "c", "a"])).tolist() == [True, True, False, True, False]
