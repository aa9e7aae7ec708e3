"""Draws hang on seed, purpose and key, and on nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from zhiling.seeds import draw, draw_array, draws, pick, shuffled, uniform


def test_a_draw_never_changes_between_versions() -> None:
    assert draw(42, "split", "abc") == 11231739336628777942
    assert draw(42, "split", "abd") != draw(42, "split", "abc") != draw(43, "split", "abc")


@given(st.integers(), st.text(), st.lists(st.text()))
def test_many_draws_at_once_are_those_of_each_key(seed: int, purpose: str, keys: list[str]) -> None:
    one_by_one = [draw(seed, purpose, key) for key in keys]
    assert draws(seed, purpose, keys) == draw_array(seed, purpose, keys).tolist() == one_by_one


def test_purpose_and_key_cannot_be_confused() -> None:
    assert draw(1, "a", "bc") != draw(1, "ab", "c")


@given(st.integers(), st.text(), st.text())
def test_uniform_lies_in_the_unit_interval(seed: int, purpose: str, key: str) -> None:
    assert 0 <= uniform(seed, purpose, key) < 1


def test_uniform_draws_are_uniform() -> None:
    draws = [uniform(0, "test", str(i)) for i in range(20_000)]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.01
    assert abs(sum(d < 0.1 for d in draws) / len(draws) - 0.1) < 0.01


@given(st.lists(st.integers(), max_size=30), st.text())
def test_shuffled_keeps_the_items(items: list[int], key: str) -> None:
    assert sorted(shuffled(items, 3, "order", key)) == sorted(items)
    assert shuffled(items, 3, "order", key) == shuffled(items, 3, "order", key)


def test_shuffled_reaches_every_order() -> None:
    orders = {tuple(shuffled("abc", 0, "order", str(i))) for i in range(200)}
    assert len(orders) == 6


def test_pick_takes_one_of_the_items() -> None:
    assert {pick("ab", 0, "pick", str(i)) for i in range(50)} == {"a", "b"}
