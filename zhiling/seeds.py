"""Every random draw: a hash of (seed, purpose, id), so that order, worker count and clock never matter."""

from collections.abc import Sequence
from hashlib import blake2b
from struct import unpack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


def draw(seed: int, purpose: str, key: str) -> int:
    """A uniform 64-bit integer for (seed, purpose, key)."""
    text = f"{seed}\x1f{purpose}\x1f{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def draws(seed: int, purpose: str, keys: Sequence[str]) -> list[int]:
    """`draw` for many keys, in less time."""
    return list(unpack(f">{len(keys)}Q", _digests(seed, purpose, keys)))


def draw_array(seed: int, purpose: str, keys: Sequence[str]) -> "NDArray[np.uint64]":
    """`draw` for many keys, as an array."""
    import numpy as np

    return np.frombuffer(_digests(seed, purpose, keys), ">u8").astype(np.uint64)


def _digests(seed: int, purpose: str, keys: Sequence[str]) -> bytes:
    start = blake2b(f"{seed}\x1f{purpose}\x1f".encode("utf-8", "surrogatepass"), digest_size=8)
    digests = []
    for key in keys:
        state = start.copy()
        state.update(key.encode("utf-8", "surrogatepass"))
        digests.append(state.digest())
    return b"".join(digests)


def uniform(seed: int, purpose: str, key: str) -> float:
    """A uniform draw in [0, 1) for (seed, purpose, key)."""
    return (draw(seed, purpose, key) >> 11) / 2**53


def shuffled(items: Sequence[T], seed: int, purpose: str, key: str) -> list[T]:
    """`items` in a keyed order: each position gets its own draw, ties are broken by position."""
    order = sorted(range(len(items)), key=lambda i: (draw(seed, purpose, f"{key}\x1f{i}"), i))
    return [items[i] for i in order]


def pick(items: Sequence[T], seed: int, purpose: str, key: str) -> T:
    """One of `items`, by a keyed draw. Raises ValueError where there are none."""
    if not items:
        raise ValueError("cannot pick from no items")
    return items[draw(seed, purpose, key) % len(items)]
