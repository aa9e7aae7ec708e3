"""Rendered rows as Arrow columns, made many values at a time; what most rows share is stored once and counted off.

In: what a template said of some rows. Out: choices, messages and exemplars as lists over a dictionary of words.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zhiling.rows import EXAMPLE_SCHEMA
from zhiling.templates.render import Message

CODED = pa.dictionary(pa.int32(), pa.string())
MESSAGES = EXAMPLE_SCHEMA.field("messages").type


def coded(words: Sequence[str | None]) -> pa.Array:
    """Texts as numbers into a dictionary."""
    return pa.array(words, pa.string()).dictionary_encode()


def repeated(word: str, count: int) -> pa.Array:
    """One text, `count` times."""
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([word]))


def word_lists(values: Sequence[Sequence[str] | None]) -> pa.Array:
    """Lists of texts, or nulls, of which many rows share one: each is turned into Arrow once."""
    if values and values.count(values[0]) == len(values):
        return lists_of(values[:1], coded(list(values[0] or ()))).take(pa.repeat(0, len(values)))
    known = dict(zip(map(id, values), values, strict=True))
    distinct = list(known.values())
    lists = lists_of(distinct, coded(list(chain.from_iterable(filter(None, distinct)))))
    if len(distinct) == len(values):
        return lists
    numbers = dict(zip(known, range(len(known)), strict=True))
    return lists.take(pa.array(np.fromiter(map(numbers.__getitem__, map(id, values)), np.int64, len(values))))


def chosen_from(words: Sequence[str] | None, orders: NDArray[np.int64] | None, count: int) -> pa.Array:
    """`count` lists of the same texts, each in its own order where `orders` tells one; nulls without texts."""
    if words is None or orders is None:
        return word_lists([words]).take(pa.array(np.zeros(count, np.int64)))
    items = pa.DictionaryArray.from_arrays(orders.astype(np.int32).ravel(), pa.array(words, pa.string()))
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * len(words), items)


def lists_of(values: Sequence[Sequence[object] | None], inner: pa.Array) -> pa.Array:
    """Lists as long as `values`, or null as they are, of the items `inner`."""
    ends = np.cumsum([0, *(len(value or ()) for value in values)])
    nulls = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, mask=nulls)


def conversations(messages: Sequence[Sequence[Message] | None]) -> pa.Array:
    """Conversations, or nulls."""
    if not any(messages):
        return pa.nulls(len(messages), MESSAGES)
    turns = list(chain.from_iterable(m for m in messages if m))
    parts = [pa.array([turn[key] for turn in turns], pa.string()) for key in ("role", "content")]
    return lists_of(messages, pa.StructArray.from_arrays(parts, fields=list(MESSAGES.value_type)))
