"""A column's hashes are those of its texts, one by one."""

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.columns import hashed


@given(st.lists(st.binary()))
def test_a_column_is_hashed_as_its_texts_are(texts: list[bytes]) -> None:
    assert hashed(texts).to_pylist() == [blake2b(text, digest_size=12).hexdigest() for text in texts]
