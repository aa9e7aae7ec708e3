"""Whole columns at once: the hashes of many texts, and many texts as they are compared.

In: texts. Out: a column, value for value what hashing or folding them one by one gives.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa

DIGEST = 12  # bytes


def hashed(texts: Iterable[bytes]) -> pa.StringArray:
    """A 96-bit hash of each text (in UTF-8), in hexadecimal."""
    start, digests = blake2b(digest_size=DIGEST), []
    for text in texts:
        state = start.copy()  # faster than a new one
        state.update(text)
        digests.append(state.digest())
    ends = np.arange(0, 2 * DIGEST * (len(digests) + 1), 2 * DIGEST, dtype=np.int32)
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(ends), pa.py_buffer(b"".join(digests).hex().encode()))
