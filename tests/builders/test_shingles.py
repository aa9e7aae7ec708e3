"""Shingles of letters and digits: characters where words are not spaced, words where they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.shingles import shingle
from zhiling.rows import is_unspaced

TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)


def sets(texts: list[str], characters: int | None, words: int = 1) -> list[set[int]]:
    made = shingle(texts, characters, words)
    return [set(made.of(i).tolist()) for i in range(len(texts))]


@given(st.lists(TEXT, max_size=6), st.integers(1, 4))
def test_a_text_has_the_shingles_that_it_has_alone(texts: list[str], size: int) -> None:
    assert sets(texts, size) == [sets([t], size)[0] for t in texts]
    assert sets(texts, None, size) == [sets([t], None, size)[0] for t in texts]


@given(TEXT)
def test_there_are_as_many_as_there_are_neighbours(text: str) -> None:
    made = shingle([text], 3)
    assert len(made.of(0)) == max(0, len(made.folded[0]) - 2)


def test_width_case_and_punctuation_are_folded() -> None:
    assert shingle(["ＡＢｃ，　好 用！①"], 3).folded == ["abc好用1"]
    assert sets(["ＡＢｃ，好用"], 2) == sets(["abc 好用"], 2)


def test_words_are_runs_of_letters_and_their_order_counts_from_two_on() -> None:
    one, other = "a good film, really", "really: a good FILM"
    assert sets([one], None) == sets([other], None)
    assert sets([one], None, 2) != sets([other], None, 2)
    assert len(sets(["don't stop"], None)[0]) == 3


@pytest.mark.parametrize("language", ["zh", "zh-Hant", "ja", "ZH_cn", "en", "en_US"])
def test_languages_without_spaces(language: str) -> None:
    assert is_unspaced(language) is not language.startswith("en")
