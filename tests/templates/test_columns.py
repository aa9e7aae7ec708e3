"""A look at a column tells of every value what a look at that value would."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.templates.strategies import JSON, TEXT, span
from zhiling.templates.columns import MOST_LEVELS, is_deep, look, look_closely, measure, shape

SPANS = st.lists(
    st.builds(lambda s, keys: {key: s[key] for key in keys} | {"start": s["start"] % 2}, span(["PER", "LOC", ""]),
              st.permutations(["start", "text", "label"])), max_size=3,
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    "label": st.sampled_from(["a", "b"]), "string": TEXT, "strings": st.lists(TEXT, max_size=3),
    "spans": SPANS, "bare spans": SPANS,
    "json": JSON | st.fixed_dictionaries({"name": TEXT, "tags": st.lists(TEXT, max_size=2)}),
}


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_values_with_equal_marks_have_one_shape(kind: Any, data: st.DataObject) -> None:
    column = data.draw(st.lists(VALUES[kind], min_size=1, max_size=8)) * 2
    found = look(kind, column)
    assert found is not None and found.longest >= max(map(measure, column))
    shapes: dict[Any, Any] = {}
    for mark, value in zip(found.marks or [None] * len(column), column, strict=True):
        assert shapes.setdefault(mark, shape(kind, value)) == shape(kind, value)


def test_labels_of_spans_are_told_apart_whatever_order_their_keys_have() -> None:
    one, two = ({"start": 0, "text": "a", "label": label} for label in "xy")
    found = look("spans", [[one], [two], [{"label": "x", "text": "a", "start": 0}]])
    assert found is not None and found.marks is not None and len(set(found.marks)) == 3


@pytest.mark.parametrize(("kind", "column"), [
    ("string", ["a", None]), ("label", [1]), ("strings", [["a"], ["b", 2]]), ("strings", [("a",)]),
    ("spans", [[{"text": "a", "label": "b"}]]), ("spans", [[{"text": "a", "label": "b", "start": True}]]),
    ("spans", [["text"]]), ("spans", [None]),
])
def test_a_column_that_holds_something_else_is_told(kind: Any, column: list[Any]) -> None:
    assert look(kind, column) is None


@given(column=st.lists(JSON, min_size=1, max_size=6))
def test_looking_closely_tells_no_less(column: list[Any]) -> None:
    quick, close = look("json", column), look_closely("json", column)
    assert quick is not None and quick.longest >= close.longest == max(map(measure, column))
    assert close.marks == [shape("json", value) for value in column]


def test_levels_are_counted() -> None:
    value: Any = 1
    for level in range(MOST_LEVELS + 1):
        assert not is_deep(value) and look("json", [value, {"a": value}][: 1 + (level < MOST_LEVELS)])
        value = [value] if level % 2 else {"a": value}
    assert is_deep(value) and look("json", [value]) is None and look("json", [value, 1]) is None


def test_characters_and_items_are_measured() -> None:
    assert measure(["ab", ["ab", {"c": "def"}], 1234]) == 18
