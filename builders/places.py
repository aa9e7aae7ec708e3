"""Ids of examples and the place of every row in a release, many at a time, from the hashes that rows' ids are.

An id is 96 bits as 24 hexadecimal digits. An example's is its row's, combined with the hash of what the row is put
into (pack, template, shots), so that no text is hashed again. A place is a 64-bit number: the side in its two upper
bits, a keyed draw below. Rows in order of their places are the release, side by side, in a keyed order; a file of a
release is a stretch of places, and hangs neither on how rows came together nor on who wrote it.
"""

from binascii import unhexlify
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zhiling.rows import SPLITS, Split
from zhiling.seeds import draw

DIGITS = 24
SIDE_BITS = 2
PLACE = "place"  # the column that holds them
Ids = NDArray[np.uint8]      # a row of 12 bytes for each id
Places = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # between two numbers of a sequence of splitmix64


def ids_of(shown: pa.StringArray) -> Ids:
    """Ids as bytes. Raises ValueError where one is no id."""
    if pc.min_max(pc.binary_length(shown)).as_py() not in ({"min": DIGITS, "max": DIGITS}, {"min": None, "max": None}):
        raise ValueError(f"an id has {DIGITS} hexadecimal digits")
    text = b"" if not len(shown) else memoryview(shown.buffers()[2])[_start(shown) :][: DIGITS * len(shown)]
    return np.frombuffer(unhexlify(text), np.uint8).reshape(len(shown), DIGITS // 2)


def _start(texts: pa.StringArray) -> int:
    """Where the first of some texts begins in their memory."""
    return int(np.frombuffer(texts.buffers()[1], np.int32)[texts.offset])


def shown_ids(ids: Ids) -> pa.Array:
    """Ids as text."""
    ends = pa.array(np.arange(0, DIGITS * len(ids) + 1, DIGITS, dtype=np.int32))
    return pa.StringArray.from_buffers(len(ids), ends.buffers()[1], pa.py_buffer(ids.tobytes().hex().encode()))


def example_ids(rows: Ids, pack: str, template: str, shots: Sequence[int] | NDArray[np.int64]) -> Ids:
    """The ids of rows as examples of one template, each with its number of shots."""
    counts, which = np.unique(shots, return_inverse=True)
    hashes = [blake2b(f"{pack}\x1f{template}\x1f{n}".encode(), digest_size=DIGITS // 2).digest() for n in counts]
    return rows ^ np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, DIGITS // 2)[which]


def mixed(ids: Ids, seed: int, purpose: str) -> Places:
    """A keyed draw for each id: its first 64 bits and one draw of (seed, purpose), scrambled."""
    return scrambled(ids[:, :8].copy().view(">u8").ravel().astype(np.uint64) ^ np.uint64(draw(seed, purpose, "")))


def scrambled(x: Places) -> Places:
    """Each number as splitmix64 puts it out: unlike ones come out unlike, near ones far from each other."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sides_of(splits: pa.Array) -> NDArray[np.int64]:
    """Number of the side that each row stands on."""
    found: NDArray[np.int64] = pc.index_in(splits, pa.array(SPLITS)).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def place(sides: NDArray[np.int64], numbers: Places) -> Places:
    """The places of rows on these sides with these draws."""
    return (sides.astype(np.uint64) << np.uint64(64 - SIDE_BITS)) | (numbers >> np.uint64(SIDE_BITS))


def bounds(side: int, parts: int) -> list[int]:
    """Where the places of a side begin, where its `parts` equal stretches do, and where it ends."""
    return [(side << (64 - SIDE_BITS)) + (part << (64 - SIDE_BITS)) // parts for part in range(parts + 1)]


def places_of(batch: pa.RecordBatch) -> Places:
    """The places of a batch's rows."""
    return np.from_dlpack(batch.column(PLACE)).astype(np.uint64, copy=False)  # `to_numpy` would import pandas


def on_side(batch: pa.RecordBatch, split: Split) -> pa.Array:
    """Whether each row of a batch stands on this side."""
    first, end = np.array(bounds(SPLITS.index(split), 1), np.uint64)
    places = places_of(batch)
    return pa.array((places >= first) & (places < end))
