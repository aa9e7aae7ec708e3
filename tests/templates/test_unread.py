"""Unread values: they may be printed and passed on, and nobody finds out what they say."""

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.templates.filters import Excess
from zhiling.templates.unread import Draw, Looked, Reading, Unread, calculate, holds_unread, longest

TEXT = Unread(("text",))
LOOKS = [
    "str(u)", "repr(u)", "len(u)", "iter(u)", "hash(u)", "int(u)", "float(u)", "list(u)", "abs(u)",
    "round(u)", "next(u)",
    "reversed(u)", "-u", "+u", "~u", "f'{u}'", "'%s' % u", "'{}'.format(u)", "u == 'a'", "u != 'a'",
    "u < 'a'", "'a' > u",
    "'a' in u", "u in ['a', 'b']", "u in {'a': 1}", "[u] == ['a']", "u[0]", "u['a']", "u[1:]", "u + 'a'",
    "'a' + u",
    "u * 2", "2 * u", "u % 2", "7 % u", "u // 2", "u / 2", "u - 1", "1 - u", "u ** 2", "2 ** u",
    "divmod(u, 2)", "{u: 1}",
    "{'a', u}", "{'a': 1}[u]", "[1, 2][u]", "'ab'[u]", "range(u)", "u()", "sorted([u, 'a'])", "max(u, 'a')",
    "[*u]",
    "chr(u)", "complex(u)",
]


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_is_found_out(look: str) -> None:
    with pytest.raises(Looked):
        eval(look, {"u": TEXT})


def test_a_row_s_text_that_is_unread_is_not_empty() -> None:
    assert bool(TEXT)
    for value in (Unread(("choices", 0)), Unread((), str.strip, (TEXT,)), Draw(3, set())):
        with pytest.raises(Looked):
            bool(value)


def test_values_are_read_from_columns() -> None:
    columns = {"text": ["a", "b"], "spans": [[{"text": "x"}], [{"text": "y"}]], "draw": [5, 6]}
    reading = Reading(columns, 2, longest=100)
    words = [TEXT, "-", Unread(("spans", 0, "text"))]
    joined = Unread((), lambda words, d="": d.join(words), (words,), {"d": "/"})
    assert reading.column(joined) == ["a/-/x", "b/-/y"]
    assert reading.column({"k": TEXT, "n": 1}) == [{"k": "a", "n": 1}, {"k": "b", "n": 1}]
    assert reading.column((TEXT, 2)) == [("a", 2), ("b", 2)]
    assert reading.column(["plain"]) == [["plain"], ["plain"]]
    assert holds_unread({"a": [(TEXT,)]}) and not holds_unread({"a": [("b",)]})


def test_what_is_made_may_not_be_too_long() -> None:
    reading = Reading({"text": ["a", "b" * 30]}, 2, longest=50)
    with pytest.raises(Excess, match="too long to be made in many rows at once"):
        reading.column(Unread((), str.__add__, (TEXT, Unread((), str.upper, (TEXT,)))))
    assert longest(["ab", ["ab", {"c": "def"}], 1234]) == 9


@given(
    number=st.integers(0, 2**31),
    steps=st.lists(st.tuples(st.sampled_from(["+", "-", "//"]), st.integers(1, 9)), max_size=4),
    remainder=st.integers(1, 24), others=st.integers(0, 2**31),
)
def test_remainders_of_a_draw_hang_on_the_remainder_that_is_noted(
    number: int, steps: list[tuple[str, int]], remainder: int, others: int
) -> None:
    """What a template is shown for one draw it would be shown for any draw of the same class."""
    functions = {"+": operator.add, "-": operator.sub, "//": operator.floordiv, "%": operator.mod}

    def shown(start: int, seen: set[int]) -> Any:
        value: Any = Draw(start, seen)
        for symbol, by in [*steps, ("%", remainder)]:
            value = calculate(symbol, functions[symbol], value, by)
        return value

    seen: set[int] = set()
    found = shown(number, seen)
    if isinstance(found, int):
        (step,) = seen
        assert shown(number % step + others // step * step, set()) == found
    else:  # too fine a class: it stays unread, and is worked out for each row
        read = Reading({"draw": [number, others]}, 2, longest=100).column(found)
        assert read == [shown_plainly(number, steps, remainder), shown_plainly(others, steps, remainder)]


def shown_plainly(number: int, steps: list[tuple[str, int]], remainder: int) -> int:
    for symbol, by in steps:
        number = {"+": number + by, "-": number - by, "//": number // by}[symbol]
    return number % remainder
