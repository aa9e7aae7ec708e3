"""Texts to shingles: what two texts have in common when words, not typography, are compared.

In: texts. Out: one flat array of 64-bit shingles with the offset of each text, and each text as it is compared.
Compared are letters and digits alone, compatibility forms and case folded. Where words are not spaced a shingle
is a few neighbouring characters, packed without loss; else it is a few neighbouring words, hashed. All of it
runs on one array of code points, so that a text costs microseconds.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling.builders.columns import Points, new_table, translated

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]
Rows = NDArray[np.int32]
TABLE = cache(new_table)
ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """Texts as compared (`folded`), and their shingles: those of text i are `hashes[offsets[i]:offsets[i + 1]]`."""

    folded: list[str]
    hashes: Hashes
    offsets: Offsets

    def of(self, index: int) -> Hashes:
        """The shingles of one text."""
        return self.hashes[self.offsets[index] : self.offsets[index + 1]]


def shingle(texts: Sequence[str], characters: int | None, words: int = 1) -> Shingles:
    """Shingles of `characters` neighbouring characters, or of `words` neighbouring words where that is None."""
    points, lengths = _code_points(texts)
    folded = translated(points, TABLE(), _becomes)
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    kept = folded != 0
    letters, letter_rows = folded[kept], rows[kept]
    sizes = np.bincount(letter_rows, minlength=len(texts))
    plain = _split(letters, sizes)
    if characters is not None:
        return Shingles(plain, *_neighbours(letters.astype(np.uint64), letter_rows, sizes, characters, 21))
    first = kept & np.concatenate([[True], ~kept[:-1] | (rows[1:] != rows[:-1])]) if len(kept) else kept
    found, owners = _words(letters, letter_rows, first[kept])
    return Shingles(plain, *_neighbours(found, owners, np.bincount(owners, minlength=len(texts)), words, 0))


def _code_points(texts: Sequence[str]) -> tuple[Points, NDArray[np.int64]]:
    flat = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
    return flat, np.fromiter(map(len, texts), np.int64, len(texts))


def _becomes(point: int) -> int:
    """The code point that one is compared as; 0 where it is not compared."""
    form = unicodedata.normalize("NFKC", chr(point)).lower()
    letter = form if len(form) == 1 else chr(point)
    return ord(letter) if letter.isalnum() or unicodedata.category(letter).startswith("M") else 0


def _split(letters: Points, sizes: Any) -> list[str]:
    text, ends = letters.astype("<u4").tobytes().decode("utf-32-le"), _ends(sizes).tolist()
    return [text[start:end] for start, end in pairwise(ends)]


def _ends(sizes: Any) -> Offsets:
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends


def _words(letters: Points, rows: Rows, first: NDArray[np.bool_]) -> tuple[Hashes, Rows]:
    """A hash of each run of letters and the row that it stands in; `first` marks where a run starts."""
    starts = np.flatnonzero(first)
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(0, np.int32)
    run = np.cumsum(first) - 1
    place = np.arange(len(letters)) - starts[run]
    powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(int(place.max()), ODD, np.uint64)]), dtype=np.uint64)
    return _mixed(np.add.reduceat(_mixed(letters.astype(np.uint64)) * powers[place], starts)), rows[starts]


def _neighbours(items: Hashes, rows: Rows, sizes: Any, size: int, bits: int) -> tuple[Hashes, Offsets]:
    """`size` neighbouring items of a row as one number: side by side in `bits` each where they fit, else hashed."""
    count = max(0, len(items) - size + 1)
    made = items[:count].copy() if bits and size * bits <= 64 else _mixed(items[:count])
    for i in range(1, size):
        step = items[i : i + count]
        if bits and size * bits <= 64:
            made <<= np.uint64(bits)
            made |= step
        else:
            made = _mixed(made * ODD + step)
    return made[rows[:count] == rows[size - 1 :]], _ends(np.maximum(sizes - size + 1, 0))


def _mixed(values: Hashes) -> Hashes:
    """A bijection that spreads every bit (the finisher of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
