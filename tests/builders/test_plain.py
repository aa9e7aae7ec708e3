"""Many lines at once give the rows and the rejects that they give one by one, whatever stands on them."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zhiling.builders import fit, plain
from zhiling.builders.engines import Piece
from zhiling.builders.fit import corpus_row as row
from zhiling.builders.fit import fit_rows
from zhiling.builders.personal_data import NARROW, PERHAPS, WORTH_A_LOOK
from zhiling.builders.plain import fit_many
from zhiling.builders.readers import Cells, Lines
from zhiling.builders.screen import ScreenSettings
from zhiling.builders.sources import CorpusSettings, Format, Unit
from zhiling.errors import UserError
from zhiling.rows import ColumnType

LABELS = ("negative", "positive")
ODD = [
    b"", b"  ", b"\xef\xbb\xbf", b"3", b"null", b"[]", b"{}", b'{"text": "\xff"}', b'{"text": "a\tb", "label": "1"}',
    b'{"text": "a", "label": "1"} {"text": "b", "label": "0"}', b'{"text": "a", "label": "1", "n": NaN}',
    b'{"text": "a", "text": "b", "label": "1"}', b' {"text": "a", "label": "1"}', b'{"text": "a", "label": "1"}\r',
    b'{"text": "a", "label": "1", "n": [{}', b'{"n": {}}]}', b'{"text": "\\ud800", "label": "1"}',
    b'{"text": "x", "label": "1", "deep": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"text": "x", "label": "1", "deep": ' + b"[" * 600 + b"]" * 600 + b"}",
]
TEXTS = st.text(max_size=8) | st.sampled_from([
    "\u3000 ", "\x1f\x85", '\\"%s{}', "\ufeff", "13812345678", "１３８１２３４５６７８", "a@b.cn", "10:30",
    "192.168.1.1",
])
VALUES = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXTS, max_size=1)
OBJECTS = st.fixed_dictionaries({}, optional={
    "text": TEXTS | VALUES, "title": TEXTS, "label": st.sampled_from(["0", "1", "neutral"]) | VALUES, "n": VALUES,
})
LINES = st.lists(st.builds(lambda row, plainly: json.dumps(row, ensure_ascii=plainly).encode("utf-8", "replace"),
                           OBJECTS, st.booleans()) | st.sampled_from(ODD), min_size=1, max_size=20)
SCREENS = [
    {}, {"personal_data": {"action": "mask"}}, {"personal_data": {"action": "drop", "kinds": ["mobile"]}},
    {"personal_data": None, "quality": {"min_characters": 2, "max_symbols": 0.5}},
    {"personal_data": {"names": True}},
]


def unit(kind: Format, kinds: dict[str, ColumnType], screen: dict[str, Any], **more: Any) -> Unit:
    base = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "x"}], "unknown_labels": "reject"}
    corpus = CorpusSettings.model_validate(base | more)
    screens = ScreenSettings.model_validate(screen)
    return Unit(corpus, kinds, {"label": LABELS}, "zh", screens, None, "x", kind, {})


def check(of: Unit, stretch: Lines | Cells) -> Piece:
    found, expected = fit_many(of, stretch), fit_rows(of, stretch.rows(of))
    assert found.table.to_pylist() == expected.table.to_pylist()
    assert found.table.schema == expected.table.schema
    assert list(found.rejects) == list(expected.rejects)
    return found


@pytest.fixture(autouse=True)
def _halving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "FEW", 2)


@settings(deadline=None, max_examples=120)
@given(screen=st.sampled_from(SCREENS), lines=LINES, two=st.booleans())
def test_objects(screen: dict[str, Any], lines: list[bytes], two: bool) -> None:
    columns: dict[str, ColumnType] = {"text": "string", "label": "label"}
    if two:
        columns = {"title": "string", **columns}
    of = unit("jsonl", columns, screen, labels={"0": "negative", "1": "positive"})
    check(of, Lines([line + b"\n" for line in lines], 7, "jsonl"))
    check(of, Lines([*[line + b"\n" for line in lines[:-1]], lines[-1]], 7, "jsonl"))


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@settings(deadline=None, max_examples=60)
@given(lines=st.lists(TEXTS.map(lambda t: t.replace("\n", "")) | st.sampled_from(["好\t1", "\t", "a\tb\tc", "x\r"])))
@example(["好\t1", "差\t0\r", "\ufeff又\t1"])
def test_cells_and_whole_lines(encoding: str, lines: list[str]) -> None:
    raw = [line.encode(encoding, "replace") + b"\n" for line in [*lines, "末\t1"]]
    screen = {"personal_data": {"action": "mask"}}
    mapped = {"encoding": encoding, "labels": {"0": "negative", "1": "positive"}}
    columns: dict[str, ColumnType] = {"text": "string", "label": "label"}
    check(unit("tsv", columns, screen, **mapped), Lines(raw, 2, "tsv", ["text", "label"]))
    whole = unit("text", {"text": "string"}, screen, **mapped, columns={"text": "line"})
    check(whole, Lines(raw, 1, "text"))


@pytest.mark.parametrize("kind", [
    pa.string(), pa.large_string(), pa.int32(), pa.uint64(), pa.dictionary(pa.int8(), pa.string()), pa.null(),
    pa.float64(), pa.bool_(), pa.timestamp("s"),
])
def test_tables(kind: pa.DataType) -> None:
    values = [1, 0, None] if pa.types.is_integer(kind) or kind in (pa.float64(), pa.bool_(), pa.timestamp("s")) else [
        "1", "0", None
    ]
    column = pa.array([None] * 3 if pa.types.is_null(kind) else values).cast(kind)
    of = unit("parquet", {"text": "string", "label": "label"}, {}, labels={"0": "negative", "1": "positive"})
    texts = pa.array(["好", "打13812345678", "坏"])
    for table in (pa.table({"text": texts, "label": column}), pa.table({"label": texts, "text": column}),
                  pa.table([texts, column, column], ["text", "label", "label"]), pa.table({"text": texts})):
        check(of, Cells(table, 5))


def test_one_bad_line_does_not_make_its_neighbours_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    for module in (plain, fit):
        monkeypatch.setattr(module, "corpus_row", lambda of, source, raw: slow.append(source) or row(of, source, raw))
    lines = [json.dumps({"text": f"第{i}条", "label": "1"}).encode() + b"\n" for i in range(100)]
    lines[40], lines[70] = b"{\n", '{"text": "打13812345678", "label": "1"}\n'.encode()
    of = unit("jsonl", {"text": "string", "label": "label"}, {}, labels={"1": "positive"})
    piece = fit_many(of, Lines(lines, 1, "jsonl"))
    assert [r["source"] for r in piece.table.to_pylist()] == [f"x:{n}" for n in range(1, 101) if n != 41]
    assert len(slow) <= 1 + 2
    assert {"x:41", "x:71"} <= set(slow)


def test_the_first_unknown_label_stops_as_it_does_row_by_row() -> None:
    lines = [b'{"text": "a", "label": "%s"}\n' % label for label in (b"positive", b"neutral", b"other")]
    of = unit("jsonl", {"text": "string", "label": "label"}, {}, unknown_labels="stop")
    with pytest.raises(UserError, match="x:2: unknown label 'neutral' in 'label'"):
        fit_many(of, Lines(lines, 1, "jsonl"))


@given(st.text(alphabet="0１٣ -－.．:：@＠/af", max_size=12) | st.text())
def test_the_first_look_at_a_column_misses_nothing(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    if WORTH_A_LOOK.search(text.translate(NARROW)):
        assert pc.match_substring_regex(pa.array([text]), PERHAPS)[0].as_py()
