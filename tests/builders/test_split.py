"""A group's side hangs on its content and the seed alone."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zhiling.builders.split import Group, SplitSettings, own_side, sides, stratified

SHARES = SplitSettings(train=0.8, validation=0.1, test=0.1)


def held_out(groups: list[str], settings: SplitSettings) -> list[str]:
    return [g for g, side in zip(groups, sides(1, groups, settings).to_pylist(), strict=True) if side == "test"]


def test_shares_come_out_as_asked() -> None:
    counts = Counter(sides(1, [str(i) for i in range(20_000)], SHARES).to_pylist())
    assert abs(counts["train"] / 20_000 - 0.8) < 0.01
    assert abs(counts["test"] / 20_000 - 0.1) < 0.01


def test_another_validation_share_leaves_the_test_side_as_it_is() -> None:
    other = SplitSettings(train=0.7, validation=0.2, test=0.1)
    groups = [str(i) for i in range(2_000)]
    assert held_out(groups, SHARES) == held_out(groups, other)


def test_shares_that_are_not_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"shares add up to 0\.9"):
        SplitSettings(train=0.8, validation=0.05, test=0.05)


def test_every_group_is_tested_in_exactly_one_fold() -> None:
    groups = [str(i) for i in range(2_000)]
    folds = [SplitSettings.model_validate({"folds": {"of": 5, "test": k}}) for k in range(5)]
    found = [held_out(groups, fold) for fold in folds]
    assert sorted(g for fold in found for g in fold) == sorted(groups)
    assert all(300 < len(fold) < 500 for fold in found)
    counts = Counter(sides(1, groups, folds[0]).to_pylist())
    assert abs(counts["validation"] / (counts["train"] + counts["validation"]) - 1 / 9) < 0.03


def test_time_decides_where_the_source_does_not() -> None:
    dated = SplitSettings.model_validate({"time": {"validation": "2024-01-01", "test": "2024-07-01"}})
    days = {"2023-12-31T23:59:59": "train", "2024-01-01T00:00:00": "validation", "2024-07-01T00:00:00": "test"}
    assert {day: own_side(dated, None, day) for day in days} == days
    assert own_side(dated, "train", "2025-01-01T00:00:00") == "train"
    assert own_side(SHARES, None, "2025-01-01T00:00:00") is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3)), min_size=1, max_size=60))
def test_stratified_sides_miss_their_share_by_less_than_a_group(rows: list[tuple[str, int]]) -> None:
    groups = [Group(str(i), stratum, n) for i, (stratum, n) in enumerate(rows)]
    found = stratified(groups, SHARES, 1)
    assert found == stratified(groups[::-1], SHARES, 1)
    for stratum in {g.stratum for g in groups}:
        own = [g for g in groups if g.stratum == stratum]
        total = sum(g.rows for g in own)
        for name in ("train", "validation", "test"):
            have = sum(g.rows for g in own if found[g.id] == name)
            assert abs(have - getattr(SHARES, name) * total) < 2 * 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"folds": {"of": 3, "test": 3}}, "folds count from 0 to 2"),
        ({"folds": {"of": 3, "test": 0}, "stratify": True}, "exclude each other"),
        ({"folds": {"of": 3, "test": 0}, "previous": "../1.0.0"}, "`previous` and `folds` exclude each other"),
        ({"folds": {"of": 3, "test": 0}, "time": {"test": "2026-01-01"}}, "`time` and `folds` exclude each other"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SplitSettings.model_validate(settings)


def test_a_time_with_a_zone_cuts_where_rows_in_utc_stand() -> None:
    settings = SplitSettings.model_validate({"time": {"test": "2026-01-02T12:00:00+08:00"}})
    assert [own_side(settings, None, f"2026-01-02T0{hour}:00:00") for hour in (3, 4)] == ["train", "test"]
    with pytest.raises(ValueError, match="`validation` begins before `test` does"):
        SplitSettings.model_validate({"time": {"validation": "2026-02-01", "test": "2026-01-01"}})
