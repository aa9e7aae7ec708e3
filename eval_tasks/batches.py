"""Which rows go through a model together: rows of like length, longest first, as many as a budget of tokens holds.

In: rows, how long each is, the budget. Out: batches. On the processor a small budget is the faster one: what a
layer makes of 512 tokens stays in the processor's cache, of 8,192 it goes to memory and back at every step.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Row = TypeVar("Row")
ON_PROCESSOR = 512
ON_ACCELERATOR = 8192


def budget(batch_tokens: int | None, device: Any) -> int:
    """How many tokens one pass takes: as told, or what suits the device."""
    return int(batch_tokens or (ON_PROCESSOR if device.type == "cpu" else ON_ACCELERATOR))


def batches(rows: Iterable[Row], length: Callable[[Row], int], most: int, more: int = 0) -> Iterator[list[Row]]:
    """The rows in batches of at most `most` tokens, at least one row each; every row costs `more` tokens besides."""
    batch: list[Row] = []
    for row in sorted(rows, key=length, reverse=True):
        if batch and (len(batch) + 1) * (length(batch[0]) + more) > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
