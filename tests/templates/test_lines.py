"""Lines are filled in for many rows at once, as if each row were put together and stripped by itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.templates.strategies import JSON, TEXT
from zhiling.templates.filters import glue, to_json
from zhiling.templates.lines import make_line, stripped, take_apart
from zhiling.templates.reading import Reading
from zhiling.templates.unread import Looked, Unread

NAMES = ("a", "b")
PIECES = st.lists(TEXT | st.sampled_from(NAMES).map(lambda name: Unread((name,))), max_size=5)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, TEXT)), min_size=1, max_size=4)


def fill(part: str, pieces: list[Any], rows: list[dict[str, Any]]) -> list[str]:
    line = make_line(part, pieces)
    reading = Reading({name: [row[name] for row in rows] for name in rows[0]}, range(len(rows)), longest=9999)
    return list(line.filled(iter([reading.printed(slot)[0] for slot in line.slots]), len(rows)))


@pytest.mark.parametrize("part", ["prompt", "completion"])
@given(pieces=PIECES, rows=ROWS)
def test_a_line_says_what_each_row_would(part: str, pieces: list[Any], rows: list[dict[str, str]]) -> None:
    alone = ["".join(row[str(p.place[0])] if isinstance(p, Unread) else p for p in pieces) for row in rows]
    assert fill(part, pieces, rows) == [stripped(part, text) for text in alone]


@given(value=JSON, rows=st.lists(st.fixed_dictionaries({"a": JSON}), min_size=1, max_size=3))
def test_json_with_an_unread_value_inside_is_taken_apart(value: Any, rows: list[dict[str, Any]]) -> None:
    """Also what json, joined or glued to something, becomes part of."""
    unread = {"k\"": [value, Unread(("a",))], "n": value}
    glued = Unread((), glue, ("<", Unread((), to_json, (unread,)), 7))
    expected = ["<" + to_json({'k"': [value, row["a"]], "n": value}) + "7" for row in rows]
    assert fill("prompt", [glued], rows) == expected


def test_what_is_put_together_of_itself_many_times_over_is_left_alone() -> None:
    value = Unread(("a",))
    for _ in range(60):
        value = Unread((), glue, (value, value))
    with pytest.raises(Looked):
        make_line("prompt", [value])
    assert take_apart(Unread((), str.upper, (value,))) is None
