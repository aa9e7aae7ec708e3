"""Ids of examples are unlike one another; a place tells the side, and within it an order that a seed draws."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.builders.places import (
    bounds,
    example_ids,
    ids_of,
    mixed,
    on_side,
    place,
    places_of,
    shown_ids,
    sides_of,
)
from zhiling.rows import SPLITS

NAMES = [blake2b(str(i).encode(), digest_size=12).hexdigest() for i in range(2000)]
IDS = ids_of(pa.array(NAMES))


def test_ids_are_shown_as_they_were_read() -> None:
    assert shown_ids(IDS).to_pylist() == NAMES
    assert shown_ids(ids_of(pa.array([], pa.string()))).to_pylist() == []


@pytest.mark.parametrize("wrong", [["row-1"], [NAMES[0], NAMES[1][:-1]], [NAMES[0] + "0"]])
def test_what_is_no_id_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="an id has 24 hexadecimal digits"):
        ids_of(pa.array(wrong))


def test_rows_templates_and_shots_each_make_another_example() -> None:
    made = [
        name for pack in ("zh/a", "zh/b") for template in ("one", "two") for shots in (0, 4)
        for name in shown_ids(example_ids(IDS, pack, template, [shots] * len(IDS))).to_pylist()
    ]
    assert len(set(made) | set(NAMES)) == 9 * len(NAMES)


def test_an_example_s_id_is_the_same_in_any_company() -> None:
    some = example_ids(IDS[:3], "zh/a", "one", [0, 4, 2])
    assert shown_ids(some).to_pylist()[1] == shown_ids(example_ids(IDS[1:2], "zh/a", "one", [4])).to_pylist()[0]


def test_draws_of_ids_are_uniform_and_another_seed_or_purpose_gives_another_order() -> None:
    orders = set()
    for seed, purpose in ((1, "order"), (2, "order"), (1, "other")):
        numbers = mixed(IDS, seed, purpose)
        assert len(set(numbers.tolist())) == len(IDS)
        for shift in (0, 20, 60):  # high bits and low ones
            counts = np.bincount((numbers >> np.uint64(shift)) & np.uint64(15))
            assert counts.min() > 75 and counts.max() < 180
        orders.add(tuple(np.argsort(numbers).tolist()))
    assert len(orders) == 3


def test_ids_that_differ_in_one_bit_are_drawn_far_apart() -> None:
    other = IDS.copy()
    other[:, 3] ^= 1
    flipped = np.unpackbits((mixed(IDS, 1, "order") ^ mixed(other, 1, "order")).view(np.uint8)).reshape(len(IDS), 64)
    assert flipped.mean(axis=0).min() > 0.45 and flipped.mean(axis=0).max() < 0.55


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.integers(0, 2**64 - 1)), min_size=1), st.integers(1, 50))
def test_places_lie_side_by_side_and_parts_cover_each_side(rows: list[tuple[str, int]], parts: int) -> None:
    sides = sides_of(pa.array([side for side, _ in rows]))
    places = place(sides, np.array([number for _, number in rows], np.uint64))
    batch = pa.record_batch({"place": places})
    for n, split in enumerate(SPLITS):
        inside = on_side(batch, split).to_pylist()
        assert inside == [side == split for side, _ in rows]
        ends = bounds(n, parts)
        assert sorted(ends) == ends and len(ends) == parts + 1
        assert all(ends[0] <= at < ends[-1] for at, here in zip(places_of(batch).tolist(), inside, strict=True) if here)
    assert bounds(0, 3)[-1] == bounds(1, 5)[0]
