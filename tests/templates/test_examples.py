"""Example rows: what fits the columns is read, anything else is refused with its line."""

from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.rows import ColumnType
from zhiling.settings import MAX_BYTES
from zhiling.templates.examples import read_examples

COLUMNS: dict[str, ColumnType] = {
    "text": "string", "label": "label", "options": "strings", "spans": "spans", "record": "json",
}
LABELS = {"label": ["yes", "no"]}
ROW = (
    '{"text": "一", "label": "yes", "options": ["a"], "spans": [{"start": 0, "text": "一", "label": "X"}], '
    '"record": {"a": [1, null]}}'
)


def read(tmp_path: Path, content: str | bytes) -> tuple[dict[str, object], ...] | None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(path, COLUMNS, LABELS)


def test_rows_are_read_as_they_stand(tmp_path: Path) -> None:
    rows = read(tmp_path, f"{ROW}\n\n{ROW}\n")
    assert rows is not None and len(rows) == 2
    assert rows[0]["record"] == {"a": [1, None]}
    assert read_examples(tmp_path / "none.jsonl", COLUMNS, LABELS) is None


@pytest.mark.parametrize(("line", "said"), [
    ("{", "not valid JSON (Expecting property name"),
    (
        "[1]",
        "a list where a row should be; give just these: text (a text), label (a label), options (a list",
    ),
    ('{"text": "x"}', "no column 'label' in it; give just these: text (a text)"),
    (ROW.replace("{", '{"source": "y", ', 1), "the unknown column 'source'; give just these: text (a text)"),
    (ROW.replace('"一"', "1", 1), "'text' is 1, not a text"),
    (ROW.replace('"一"', "null", 1), "'text' is null, not a text"),
    (ROW.replace('"yes"', '"yess"'), "'label' is the unknown label 'yess' (did you mean 'yes'?)"),
    (ROW.replace('["a"]', '["a", 1]'), "'options' is [\"a\", 1], not a list of texts"),
    (ROW.replace('"start": 0', '"start": true'), "'spans' is [{\"start\": true,"),
    (ROW.replace('{"a": [1, null]}', '"text"'), "'record' is \"text\", not a JSON value other than a text"),
    (ROW.replace('"a": [1', '"a": [NaN'), "not valid JSON (NaN is not JSON)"),
    (
        ROW.replace('"text": "一", "label"', '"text": "一", "text": "二", "label"', 1),
        "not valid JSON (key 'text' stands twice)",
    ),
    (ROW.replace("一", "\\ud800", 1), "half of a surrogate pair (a \\ud… escape); write the character"),
    (ROW.replace("[1, null]", "[" * 5000 + "]" * 5000), "nested too deep; flatten it"),
])
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, f"{ROW}\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path}/examples.jsonl:2: {said}")


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"examples.jsonl:2: not UTF-8 \(byte \d+\); save it as UTF-8"):
        read(tmp_path, ROW.encode() + b"\n\xff\xfe")


def test_a_gigantic_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    with path.open("wb") as f:
        f.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="4,194,305 bytes of examples; keep them under 4,194,304"):
        read_examples(path, COLUMNS, LABELS)
