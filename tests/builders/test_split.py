"""A group's side hangs on its content and the seed alone."""

from collections import Counter

import pytest
from pydantic import ValidationError

from zhiling.builders.split import SplitSettings, side

SHARES = SplitSettings(train=0.8, validation=0.1, test=0.1)


def test_shares_come_out_as_asked() -> None:
    counts = Counter(side(1, str(i), SHARES) for i in range(20_000))
    assert abs(counts["train"] / 20_000 - 0.8) < 0.01
    assert abs(counts["test"] / 20_000 - 0.1) < 0.01


def test_another_validation_share_leaves_the_test_side_as_it_is() -> None:
    other = SplitSettings(train=0.7, validation=0.2, test=0.1)
    groups = [str(i) for i in range(2_000)]
    assert [g for g in groups if side(1, g, SHARES) == "test"] == [g for g in groups if side(1, g, other) == "test"]


def test_shares_that_are_not_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"shares add up to 0\.9"):
        SplitSettings(train=0.8, validation=0.05, test=0.05)
