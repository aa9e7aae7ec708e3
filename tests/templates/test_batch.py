"""Orders of choices told by a number."""

from collections import Counter
from math import factorial

from hypothesis import given
from hypothesis import strategies as st

from zhiling.seeds import draws
from zhiling.templates.batch import order


@given(count=st.integers(0, 40), number=st.integers(0, 2**64 - 1))
def test_an_order_holds_everything_once(count: int, number: int) -> None:
    assert sorted(order(count, number)) == list(range(count))


def test_every_order_is_told_by_some_number() -> None:
    for count in range(8):
        assert len({tuple(order(count, n)) for n in range(factorial(count))}) == factorial(count)


def test_each_thing_comes_first_about_as_often() -> None:
    for count in (3, 7, 25):
        first = Counter(order(count, n)[0] for n in draws(7, "order", [str(i) for i in range(100 * count)]))
        assert set(first) == set(range(count)) and max(first.values()) < 150
