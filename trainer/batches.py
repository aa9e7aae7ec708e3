"""Which rows make which batch: a pure function of seed and step, whatever the ranks and the micro-batches.

In: token rows. Out: global batches as lists of micro-batches, each with its inputs, the flat positions that
predict, their targets and their weights. The weights of a global batch sum to 1, so losses of micro-batches
add up to the loss of the batch however it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from zhiling.seeds import draw
from zhiling.trainer.data import IntArray, Rows

Average = Literal["token", "example"]


@dataclass(frozen=True)
class Micro:
    """A micro-batch: inputs, and for each of its N supervised positions the place, target and weight."""

    ids: IntArray      # (B, T)
    at: IntArray       # (N,) place of the hidden state that predicts, in the flattened (B, T)
    targets: IntArray  # (N,)
    weights: IntArray  # (N,)
    rows: tuple[str, ...]
    tokens: int        # real tokens, padding not counted


class Batches(Protocol):
    """Global batches by step."""

    steps_per_epoch: int

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of the global batch at `step` (from 0), each of at most `micro_tokens` tokens."""


def order(seed: int, epoch: int, count: int) -> IntArray:
    """The order of `count` rows in an epoch."""
    return np.random.Generator(np.random.PCG64(draw(seed, "order", str(epoch)))).permutation(count)


class Packed:
    """Documents end to end in blocks of `context` tokens; every token is learned, each epoch in another order."""

    def __init__(self, rows: Rows, context: int, batch_tokens: int, seed: int, end: int) -> None:
        self.rows, self.context, self.seed, self.end = rows, context, seed, end
        self.blocks = -(-int(rows.starts[-1]) // context)
        self.blocks_per_batch = max(1, batch_tokens // context)
        self.steps_per_epoch = -(-self.blocks // self.blocks_per_batch)
        self._epoch: tuple[int, IntArray, IntArray] | None = None

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.blocks_per_batch
        blocks = [self._block(epoch, b) for b in range(first, min(self.blocks, first + self.blocks_per_batch))]
        learned = sum(len(tokens) - 1 for tokens, _ in blocks)
        size = max(1, micro_tokens // self.context)
        return [self._micro(blocks[i : i + size], learned) for i in range(0, len(blocks), size)]

    def _block(self, epoch: int, block: int) -> tuple[IntArray, list[str]]:
        """One token more than `context` (the last is only a target), and the ids of its documents."""
        if self._epoch is None or self._epoch[0] != epoch:
            documents = order(self.seed, epoch, len(self.rows))
            self._epoch = (epoch, documents, np.concatenate([[0], np.cumsum(self.rows.lengths[documents])]))
        _, documents, places = self._epoch
        start, stop = block * self.context, min((block + 1) * self.context, int(places[-1]))
        first = int(np.searchsorted(places, start, "right")) - 1
        last = int(np.searchsorted(places, stop, "left"))
        pieces = [self.rows.row(int(d))[0] for d in documents[first:last]]
        stream = np.concatenate(pieces)[start - places[first] : stop - places[first]]
        before = self.end if start == places[first] else int(pieces[0][start - places[first] - 1])
        names = [self.rows.ids[int(d)] for d in documents[first:last]]
        return np.concatenate([[before], stream]).astype(np.int64), names

    def _micro(self, blocks: Sequence[tuple[IntArray, list[str]]], learned: int) -> Micro:
        width = max(len(tokens) for tokens, _ in blocks) - 1
        ids_BT = np.full((len(blocks), width), self.end, np.int64)
        at, targets = [], []
        for b, (tokens, _) in enumerate(blocks):
            ids_BT[b, : len(tokens) - 1] = tokens[:-1]
            at.append(np.arange(len(tokens) - 1) + b * width)
            targets.append(tokens[1:])
        target_N = np.concatenate(targets)
        weight_N = np.full(len(target_N), 1 / learned, np.float32)
        names = tuple(dict.fromkeys(name for _, ids in blocks for name in ids))
        return Micro(ids_BT, np.concatenate(at), target_N, weight_N, names, len(target_N))


class Bucketed:
    """A keyed draw of rows per batch; inside the batch rows of like length share a right-padded micro-batch."""

    def __init__(self, rows: Rows, batch_rows: int, seed: int, pad: int, average: Average) -> None:
        self.rows, self.size, self.seed, self.pad, self.average = rows, batch_rows, seed, pad, average
        self.steps_per_epoch = -(-len(rows) // batch_rows)
        self._epoch: tuple[int, IntArray] | None = None

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, order(self.seed, epoch, len(self.rows)))
        members = self._epoch[1][place * self.size : (place + 1) * self.size]
        return pad_rows(self.rows, [int(m) for m in members], micro_tokens, self.pad, self.average)


def pad_rows(rows: Rows, members: Sequence[int], micro_tokens: int, pad: int, average: Average) -> list[Micro]:
    """`members` of `rows` as one global batch of right-padded micro-batches, the longest rows first.

    The last token of a row is only a target, the first only an input. Causal attention never looks right, so
    padding changes nothing and needs no mask.
    """
    parts = {m: rows.row(m) for m in members}
    learned = {m: int(flags[1:].sum()) for m, (_, flags) in parts.items()}
    total = sum(learned.values()) if average == "token" else len(members)
    made, group = [], []  # type: list[Micro], list[int]
    for m in sorted(members, key=lambda m: (-len(parts[m][0]), m)):
        width = len(parts[group[0]][0]) - 1 if group else 0
        ragged = group and len(parts[m][0]) - 1 < 0.8 * width and width * len(group) >= micro_tokens // 4
        if group and (width * (len(group) + 1) > micro_tokens or ragged):
            made.append(_padded(rows, parts, learned, group, total, pad, average))
            group = []
        group.append(m)
    return [*made, _padded(rows, parts, learned, group, total, pad, average)]


def _padded(
    rows: Rows, parts: dict[int, tuple[IntArray, IntArray]], learned: dict[int, int], members: list[int],
    total: int, pad: int, average: Average,
) -> Micro:
    width = len(parts[members[0]][0]) - 1
    ids_BT = np.full((len(members), width), pad, np.int64)
    at, targets, weights = [], [], []
    for b, m in enumerate(members):
        tokens, flags = parts[m]
        ids_BT[b, : len(tokens) - 1] = tokens[:-1]
        where = np.flatnonzero(flags[1:])
        at.append(where + b * width)
        targets.append(tokens[1:][where])
        share = 1 / total if average == "token" else 1 / (total * max(1, learned[m]))
        weights.append(np.full(len(where), share, np.float32))
    tokens_in = sum(len(parts[m][0]) - 1 for m in members)
    target_N, weight_N = np.concatenate(targets).astype(np.int64), np.concatenate(weights)
    return Micro(ids_BT, np.concatenate(at), target_N, weight_N, tuple(rows.ids[m] for m in members), tokens_in)
