"""Columns of unread values: each is made once, nothing too long, and generators are read once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jinja2 import UndefinedError

from zhiling.templates.filters import Excess, call_method, get_item, to_json
from zhiling.templates.reading import Once, Reading
from zhiling.templates.unread import Unread, holds_unread

TEXT = Unread(("text",))


def made(function: Any, *args: Any) -> Unread:
    return Unread((), function, args)



def test_generators_are_true_and_read_once() -> None:
    """As generators are; a second reading, which would find nothing left, is left to the sandbox."""
    generator = Unread((), reversed_, (TEXT,))
    reading = Reading({"text": ["ab", ""]}, range(2), longest=999)
    assert reading.column(made(bool, generator)) == [True, True]
    assert reading.column(made(list, generator)) == [["b", "a"], []]
    with pytest.raises(Excess, match="a generator can be read only once"):
        reading.column(made(tuple, generator))


def test_little_is_kept_of_many_values() -> None:
    reading = Reading({"text": ["a" * 90, ""]}, range(2), longest=100)
    kept = [made(str.upper, TEXT) for _ in range(45)]
    for value in kept[:44]:
        reading.column(value)
    with pytest.raises(Excess, match="too much is made of many rows at once"):
        reading.column(kept[44])


@pytest.mark.parametrize("look", [str, repr, len, hash, lambda value: value[0], lambda value: value == "x"])
def test_generators_are_not_looked_at(look: Callable[[Any], Any]) -> None:
    with pytest.raises((Excess, TypeError)):
        look(Once(iter("ab")))


def reversed_(text: str) -> Iterator[str]:
    yield from reversed(text)


def test_values_are_read_from_columns() -> None:
    columns = {"text": ["a", "b"], "spans": [[{"text": "x"}], [{"text": "y"}]], "draw": [5, 6]}
    reading = Reading(columns, range(2), longest=100)
    words = [TEXT, "-", Unread(("spans", 0, "text"))]
    joined = Unread((), lambda words, d="": d.join(words), (words,), {"d": "/"})
    assert reading.column(joined) == ["a/-/x", "b/-/y"]
    assert reading.column({"k": TEXT, "n": 1}) == [{"k": "a", "n": 1}, {"k": "b", "n": 1}]
    assert reading.column((TEXT, 2)) == [("a", 2), ("b", 2)]
    assert reading.column(["plain"]) == [["plain"], ["plain"]]
    assert holds_unread({"a": [(TEXT,)]}) and not holds_unread({"a": [("b",)]})


def test_what_is_made_may_not_be_too_long() -> None:
    reading = Reading({"text": ["a", "b" * 30]}, range(2), longest=50)
    with pytest.raises(Excess, match="too long to be made in many rows at once"):
        reading.column(Unread((), str.__add__, (TEXT, Unread((), str.upper, (TEXT,)))))


def test_fewer_rows_take_over_what_was_made() -> None:
    calls = []
    upper = made(lambda text: calls.append(text) or text.upper(), TEXT)
    reading = Reading({"text": ["a", "b", "c"]}, range(3), longest=100)
    assert reading.column(upper) == ["A", "B", "C"]
    few = reading.some([0, 2]).some([1])
    assert list(few.column(upper)) == ["C"] and list(few.column(TEXT)) == ["c"] and few.places == [2]
    assert calls == ["a", "b", "c"]


def test_fewer_rows_read_generators_anew() -> None:
    generator = made(reversed_, TEXT)
    reading = Reading({"text": ["ab", "cd", "ef"]}, range(3), longest=100)
    assert reading.column(made(list, generator)) == [["b", "a"], ["d", "c"], ["f", "e"]]
    assert reading.some([0, 2]).column(made("".join, generator)) == ["ba", "fe"]


def test_methods_and_items_of_rows_that_differ_in_kind() -> None:
    """Whole columns are tried first; where rows differ, each gets what it would get by itself, or all are left."""
    reading = Reading({"value": [["a"], "xyz"]}, range(2), longest=100)
    value = Unread(("value",))
    assert reading.column(made(call_method, value, "index", made(get_item, value, 0))) == [0, 0]
    with pytest.raises(UndefinedError, match="no element 2"):
        reading.column(made(get_item, value, 2))


def test_json_of_a_list_is_put_together_by_columns() -> None:
    reading = Reading({"text": ['"', "\n"], "n": [1, None]}, range(2), longest=100)
    value = {"a": [TEXT, {"b": Unread(("n",))}], "c": 1.5}
    assert list(reading.column(made(to_json, value))) == [
        to_json({"a": [text, {"b": n}], "c": 1.5}) for text, n in [('"', 1), ("\n", None)]
    ]
