"""Exemplars are distinct, balanced over labels, never of the row's own group, and hang on the row's id alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.exemplars import Exemplar, choose

POOL = {
    label: [Exemplar(i, f"{label}{i}", f"g{label}{i // 2}") for i in range(20)] for label in ("negative", "positive")
}


@given(st.text(max_size=8), st.integers(0, 8))
def test_as_many_as_asked_distinct_and_balanced(row_id: str, shots: int) -> None:
    chosen = choose(POOL, row_id, "elsewhere", shots, seed=1)
    assert len({e.id for e in chosen}) == shots
    counts = Counter(e.id.rstrip("0123456789") for e in chosen)
    assert max(counts.values(), default=0) - min(counts[label] for label in POOL) <= 1
    assert chosen == choose(POOL, row_id, "elsewhere", shots, seed=1)


@given(st.integers(0, 19))
def test_never_the_row_itself_nor_its_group(i: int) -> None:
    chosen = choose(POOL, f"positive{i}", f"gpositive{i // 2}", 40, seed=1)
    assert len(chosen) == 38
    assert all(e.group_id != f"gpositive{i // 2}" for e in chosen)


def test_a_small_pool_gives_what_it_has() -> None:
    assert choose({"a": POOL["negative"][:1]}, "x", "y", 3, seed=1) == POOL["negative"][:1]
    assert choose({}, "x", "y", 3, seed=1) == []


def test_first_label_and_place_are_drawn_per_row() -> None:
    firsts = Counter(choose(POOL, str(i), "-", 2, seed=1)[0].id for i in range(400))
    assert len(firsts) > 30
