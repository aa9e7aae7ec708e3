"""Constraints as people word them, and the share that a text keeps."""

from typing import Any

import pytest

from zhiling.eval_tasks.constraints import Constraints, constraints_met, length, limits


@pytest.mark.parametrize(
    ("phrase", "wanted"),
    [
        ("40 字以内", {"unit": "characters", "most": 40}),
        ("70 字以内（短信一条）", {"unit": "characters", "most": 70}),
        ("不超过 40 字", {"unit": "characters", "most": 40}),
        ("60 到 100 字", {"unit": "characters", "least": 60, "most": 100}),
        ("80 字左右", {"unit": "characters", "least": 64, "most": 96}),
        ("at most 30 words", {"unit": "words", "most": 30}),
        ("no more than 25 words", {"unit": "words", "most": 25}),
        ("about 45 words", {"unit": "words", "least": 36, "most": 54}),
        ("under 160 characters", {"unit": "characters", "most": 160}),
        ("two sentences", {"unit": "sentences", "least": 2, "most": 2}),
        ("三句话", {"unit": "sentences", "least": 3, "most": 3}),
        ("三到五句话", {"unit": "sentences", "least": 3, "most": 5}),
        ("不少于 50 字", {"unit": "characters", "least": 50}),
        ("四句，每句七个字", {}),
        ("three lines of five, seven and five syllables", {}),
        ("", {}),
    ],
)
def test_a_length_in_words_of_a_persons(phrase: str, wanted: dict[str, Any]) -> None:
    assert limits(phrase) == wanted


def test_lengths() -> None:
    assert length(" 豆浆 我替你\n喝了。\n", "characters") == 10
    assert length("It rained. The match (at 3.30 p.m) was off!", "sentences") == 2
    assert length("下雨了。比赛取消！为什么……", "sentences") == 3
    assert length("one two  three", "words") == 3


def test_the_share_that_is_kept() -> None:
    text = "豆浆我替你喝了，原谅你。"

    def met(**wanted: Any) -> float:
        return constraints_met(text, Constraints.model_validate(wanted))

    assert met(include=["豆浆", "地铁"], exclude=["迟到"], most=40) == 0.75
    assert met(starts="豆浆", ends="。", least=100) == pytest.approx(2 / 3)
    assert met(include=["豆浆"], length="5 字以内") == 0.5
    assert met(length="随便") == 1.0
