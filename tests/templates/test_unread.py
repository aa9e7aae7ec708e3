"""Unread values: they may be printed and passed on, and nobody finds out what they say."""

import operator
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.templates.reading import Reading
from zhiling.templates.unread import TRIAL, Draw, Looked, Unread, calculate, places_of

TEXT = Unread(("text",))
LOOKS = [  # what cannot be asked
    "str(u)", "repr(u)", "len(u)", "iter(u)", "hash(u)", "int(u)", "float(u)", "list(u)", "abs(u)", "round(u)",
    "reversed(u)", "-u", "+u", "~u", "f'{u}'", "'%s' % u", "'{}'.format(u)", "u in {'a': 1}", "u[0]", "u['a']",
    "u[1:]", "u + 'a'", "'a' + u", "u * 2", "2 * u", "u % 2", "7 % u", "u // 2", "u / 2", "u - 1", "1 - u", "u ** 2",
    "2 ** u", "divmod(u, 2)", "{u: 1}", "{'a', u}", "{'a': 1}[u]", "u()", "[*u]", "chr(u)", "complex(u)", "[1, 2][u]",
]
ASKED = [  # (question, the answer of a row whose text is "一二")
    ("u == '一二'", True), ("u != '一二'", False), ("u < 'a'", False), ("'a' > u", False), ("'一' in u", True),
    ("u in ['a']", False), ("[u] == ['一二']", True), ("max(u, 'a') is u", True), ("bool(u)", True),
    ("range(9)[made(len, u)]", 2), ("bool(made(str.strip, u))", True), ("made(len, u) > 9", False),
]


@pytest.mark.parametrize("look", [*LOOKS, *(question for question, _ in ASKED if question != "bool(u)")])
def test_whoever_looks_is_found_out(look: str) -> None:
    """Where no row is tried, nothing can be asked either."""
    with pytest.raises(Looked):
        eval(look, {"u": TEXT, "made": made})


@pytest.mark.parametrize("look", LOOKS)
def test_what_cannot_be_asked_is_not_told_of_a_row_either(trial: None, look: str) -> None:
    with pytest.raises(Looked):
        eval(look, {"u": TEXT})


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_what_decides_is_asked_of_the_row_and_noted(trial: None, question: str, answer: Any) -> None:
    assert eval(question, {"u": TEXT, "made": made}) == answer
    asked = TRIAL.end()
    assert len(asked) == (question != "bool(u)")  # a row's own text is never empty: nobody needs to ask
    for made_, said in asked:
        assert Reading({"text": ["一二"]}, range(1), 100).column(made_) == [said]


def test_a_question_is_asked_once(trial: None) -> None:
    for _ in range(3):
        assert made(len, TEXT) == 2
    assert len(TRIAL.end()) == 1


def test_the_places_that_a_value_is_read_from_are_told() -> None:
    label = Unread(("spans", 0, "label"))
    assert places_of(made(operator.eq, {"a": [label, TEXT]}, made(str.upper, TEXT))) == {label.place, ("text",)}


def test_answers_are_few(trial: None) -> None:
    """Large numbers and texts would tell each row apart."""
    for question in ("range(99999)[made(int, '9999', u)]", "range(9)[made(str.upper, u)]"):
        with pytest.raises(Looked):
            eval(question, {"u": TEXT, "made": made})


def test_a_value_of_many_equal_parts_is_looked_at_once(trial: None) -> None:
    value = TEXT
    for _ in range(60):
        value = Unread((), max, (value, value))
    assert value == "一二"


def made(function: Any, *args: Any) -> Unread:
    return Unread((), function, args)


@pytest.fixture
def trial() -> Iterator[None]:
    """A row on trial."""
    TRIAL.start(Reading({"text": ["一二"]}, range(1), longest=100))
    yield
    TRIAL.end()


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
        read = Reading({"draw": [number, others]}, range(2), longest=100).column(found)
        assert read == [shown_plainly(number, steps, remainder), shown_plainly(others, steps, remainder)]


def shown_plainly(number: int, steps: list[tuple[str, int]], remainder: int) -> int:
    for symbol, by in steps:
        number = {"+": number + by, "-": number - by, "//": number // by}[symbol]
    return number % remainder
