"""Keys and values that start from a shared prefix, with room for what follows: written in place, never copied again.

In: a prefix's keys and values, computed once; how many rows a batch has and how long it may grow. Out: a
`transformers` cache for the batch.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Prefix = Sequence[tuple[Tensor, Tensor]]  # each layer's keys and values, for one row


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values in buffers that were made large enough at the start."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.keys: Tensor
        self.values: Tensor
        self.buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add the states of new tokens; all keys and values so far."""
        if self.buffers is None:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            self.buffers = (
                key_states.new_empty(rows, heads, self.room, size),
                value_states.new_empty(rows, heads, self.room, value_states.shape[-1]),
            )
            start = 0
        else:
            start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        assert self.buffers is not None
        filled = self.keys.shape[-2]
        keys, values = self.buffers
        self.buffers = keys[rows], values[rows]
        self.keys, self.values = (buffer[:, :, :filled] for buffer in self.buffers)


def cache_of(layers: int, prefix: Prefix | None, rows: int, room: int) -> Any:
    """A cache for `rows` rows of up to `room` tokens, the prefix in it already."""
    made = [RoomyLayer(room) for _ in range(layers)]
    for layer, (keys, values) in zip(made, prefix or [], strict=False):
        layer.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
    return Cache(layers=made)


def prefix_of(cache: Any) -> Prefix:
    """What a cache holds, to start others from."""
    return [(layer.keys, layer.values) for layer in cache.layers]
