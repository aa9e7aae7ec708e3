"""A text is refused for a stated reason and figure, and only by thresholds that the recipe sets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.quality import QualitySettings, fault, own_script, repetition, symbols


@pytest.mark.parametrize(
    ("text", "language", "settings", "reason", "detail"),
    [
        ("好", "zh", {"min_characters": 2}, "too_short", "1 characters where 2 are asked for"),
        ("好用得很", "zh", {"max_characters": 3}, "too_long", "4 characters where 3 are allowed"),
        ("哈哈哈哈哈哈哈哈哈哈", "zh", {"max_repetition": 0.5}, "repetitive", "0.86 where 0.5 is allowed"),
        ("★★★★★好", "zh", {"max_symbols": 0.5}, "symbols", "0.83 where 0.5 is allowed"),
        ("锟斤拷锟斤拷", "zh", {"undamaged": True}, "damaged_encoding", "at character 0"),
        ("caf\ufffd", "en", {"undamaged": True}, "damaged_encoding", "at character 3"),
        ("Good phone", "zh", {"min_script": 0.3}, "other_script", "0.00 of the letters are zh"),
        ("很好用", "en", {"min_script": 0.3}, "other_script", "0.00 of the letters are en"),
    ],
)
def test_reasons(text: str, language: str, settings: dict[str, Any], reason: str, detail: str) -> None:
    found = fault(text, language, QualitySettings(**settings))
    assert found is not None
    assert found[0] == reason
    assert detail in found[1]


@given(st.text())
def test_nothing_is_refused_unless_a_threshold_says_so(text: str) -> None:
    assert fault(text, "zh", QualitySettings()) is None
    for share in (repetition(text), symbols(text), own_script(text, "zh")):
        assert 0 <= share <= 1


def test_real_reviews_pass_sober_thresholds(reviews: list[dict[str, str]]) -> None:
    sober = QualitySettings(max_characters=5_000, max_repetition=0.8, max_symbols=0.8, undamaged=True)
    refused = [r["text"] for r in reviews if r["text"] and fault(r["text"], "zh", sober)]
    assert len(refused) <= 0.01 * len(reviews)
