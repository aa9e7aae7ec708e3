"""Columns over a dictionary say what the lists they were made from say."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.builders.example_columns import MESSAGES, coded, conversations, lists_of, repeated, word_lists

WORDS = st.text(max_size=4)


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(WORDS, max_size=4), max_size=20), st.data())
def test_lists_of_words_many_of_them_shared(distinct: list[list[str] | None], data: st.DataObject) -> None:
    values = [data.draw(st.sampled_from(distinct)) for _ in range(30)] if distinct else []
    found = word_lists(values)
    assert found.to_pylist() == values
    assert found.type == pa.list_(pa.dictionary(pa.int32(), pa.string()))


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(st.fixed_dictionaries({"role": WORDS, "content": WORDS}), max_size=3), max_size=9))
def test_conversations(messages: list[list[dict[str, str]] | None]) -> None:
    found = conversations(messages)
    assert found.type == MESSAGES
    assert found.to_pylist() == (messages if any(messages) else [None] * len(messages))


def test_one_word_for_all_and_lists_of_given_lengths() -> None:
    assert repeated("zh", 3).to_pylist() == ["zh"] * 3
    assert lists_of([(1, 2), None, ()], coded(["a", "b"])).to_pylist() == [["a", "b"], None, []]
