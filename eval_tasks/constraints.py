"""Constraints that a text was asked to keep: which there are, and the share of them that it keeps.

In: a text, and constraints as a pack states them (words to use or not, lengths, beginnings, a length in words of a
person's). Out: a share from 0 to 1. A demand that is written in words nobody can count ("four lines") is no constraint.
"""

import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import model_validator

from zhiling.settings import Settings

Unit = Literal["characters", "words", "sentences"]
ABOUT = 0.2   # "about 80" is 64 to 96
COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5}
NUMBER = rf"(\d+|{'|'.join(COUNTS)})"
UNITS: dict[str, Unit] = {"字": "characters", "character": "characters", "word": "words", "sentence": "sentences",
                          "句话": "sentences"}
UNIT = rf"\s*({'|'.join(UNITS)})"
PHRASES = (  # how a length is asked for, and which ends it sets: 1 the first number, 2 the second, ~ about
    (rf"{NUMBER}\s*(?:到|至|-|–|—|~|to)\s*{NUMBER}{UNIT}", "12"),
    (rf"(?:不超过|至多|最多|at most|no more than|under|up to)\s*{NUMBER}{UNIT}", ".1"),
    (rf"{NUMBER}{UNIT}(?:以内|之内|以下)", ".1"),
    (rf"(?:不少于|至少|at least|no fewer than)\s*{NUMBER}{UNIT}", "1."),
    (rf"{NUMBER}{UNIT}(?:左右|上下)|about\s*{NUMBER}{UNIT}", "~~"),
    (rf"(?:正好|exactly)?\s*{NUMBER}{UNIT}s?$", "11"),
)


class Constraints(Settings):
    """What a text has to keep to; what is left out is free."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    unit: Unit = "characters"    # of `least` and `most`
    starts: str = ""
    ends: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_length(cls, given: Any) -> Any:
        """`length` is a phrase, as `60 到 100 字` or `at most 30 words`."""
        if not isinstance(given, dict) or "length" not in given:
            return given
        rest = {key: value for key, value in given.items() if key != "length"}
        return rest | limits(str(given["length"]))


def limits(phrase: str) -> dict[str, Any]:
    """`least`, `most` and `unit` that a phrase asks for; {} where it counts nothing."""
    for pattern, ends in PHRASES:
        if found := re.search(pattern, phrase.strip(), re.IGNORECASE):
            *numbers, unit = [group for group in found.groups() if group]
            first, last = (COUNTS.get(n.lower()) or float(n) for n in (numbers[0], numbers[-1]))
            reach = ABOUT if ends == "~~" else 0.0
            least, most = first * (1 - reach), last * (1 + reach)
            return {"unit": UNITS[unit.lower()]} | ({"least": least} if ends[0] != "." else {}) | (
                {"most": most} if ends[1] != "." else {}
            )
    return {}


def length(text: str, unit: Unit) -> int:
    """How long a text is: characters (those inside count, spaces too), words, or sentences by their ends."""
    if unit == "characters":
        return len(text.strip())
    if unit == "words":
        return len(text.split())
    return len(re.findall(r"[。！？…]+|[.!?]+(?=\s|[\"”’)]|$)", text.strip()))


def constraints_met(text: str, wanted: Constraints) -> float:
    """The share of the given constraints that a text keeps; 1 where none are given."""
    checks = [*_words(text, wanted.include, True), *_words(text, wanted.exclude, False)]
    size = length(text, wanted.unit)
    checks += [size >= wanted.least] if wanted.least is not None else []
    checks += [size <= wanted.most] if wanted.most is not None else []
    checks += [text.strip().startswith(wanted.starts)] if wanted.starts else []
    checks += [text.strip().endswith(wanted.ends)] if wanted.ends else []
    return sum(checks) / len(checks) if checks else 1.0


def _words(text: str, words: Collection[str], wanted: bool) -> list[bool]:
    return [(word in text) is wanted for word in words]
