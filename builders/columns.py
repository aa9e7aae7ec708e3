"""Whole columns at once: the hashes of many texts, and what becomes of each character of them.

In: texts, or their code points. Out: for all of them what hashing or translating them one by one gives.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Points = NDArray[np.uint32]
DIGEST = 12  # bytes
UNKNOWN = 0xFFFFFFFF


def hashed(texts: Iterable[bytes]) -> pa.StringArray:
    """A 96-bit hash of each text (in UTF-8), in hexadecimal."""
    start, digests = blake2b(digest_size=DIGEST), []
    for text in texts:
        state = start.copy()  # faster than a new one
        state.update(text)
        digests.append(state.digest())
    ends = np.arange(0, 2 * DIGEST * (len(digests) + 1), 2 * DIGEST, dtype=np.int32)
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(ends), pa.py_buffer(b"".join(digests).hex().encode()))


def new_table() -> Points:
    """A table from every code point to what it becomes, nothing known yet."""
    return np.full(0x110000, UNKNOWN, np.uint32)


def translated(points: Points, table: Points, becomes: Callable[[int], int]) -> Points:
    """What `becomes` says of each code point, worked out once for each and kept in `table`."""
    found = np.take(table, points)
    if found.max(initial=0) == UNKNOWN:
        for point in np.unique(points[found == UNKNOWN]).tolist():
            table[point] = becomes(point)
        found = np.take(table, points)
    return found
