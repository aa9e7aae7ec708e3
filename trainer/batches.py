"""Which rows make which batch: a pure function of seed and step, whatever the ranks and the micro-batches.

In: token rows. Out: global batches as lists of micro-batches, each with its rows end to end, the places that
predict, their targets and their weights. The weights of a global batch sum to 1, so the losses of micro-batches
add up to the loss of the batch however it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from zhiling.seeds import draw
from zhiling.trainer.data import IntArray, Rows

Average = Literal["token", "example"]
ROUND = 256  # micro-batches are filled up to a multiple of this many tokens: few shapes, few kernels


@dataclass(frozen=True)
class Micro:
    """A micro-batch: rows end to end, and for each of its supervised places the target and weight."""

    ids: IntArray      # (N,) input tokens, filled up at the end
    starts: list[int]  # where each row begins; the last is where the filling begins
    at: IntArray       # (M,) place of the hidden state that predicts
    targets: IntArray  # (M,)
    weights: IntArray  # (M,)
    rows: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return self.starts[-1]


@dataclass(frozen=True)
class Row:
    """One row of a batch: its tokens, which of them are learned, and the ids of what it holds."""

    tokens: IntArray
    learned: IntArray
    names: tuple[str, ...]


class Batches(Protocol):
    """Global batches by step."""

    steps_per_epoch: int

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of the global batch at `step` (from 0), each of at most `micro_tokens` tokens."""


def order(seed: int, epoch: int, count: int) -> IntArray:
    """The order of `count` rows in an epoch."""
    return np.random.Generator(np.random.PCG64(draw(seed, "order", str(epoch)))).permutation(count)


def cut(rows: Sequence[Row], micro_tokens: int, pad: int, average: Average) -> list[Micro]:
    """Rows as one global batch of micro-batches; rows of like length come together.

    The last token of a row is only a target, the first only an input.
    """
    learned = [int(row.learned[1:].sum()) for row in rows]
    total = sum(learned) if average == "token" else len(rows)
    groups: list[list[int]] = []
    room = 0
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i].tokens), i)):
        need = len(rows[i].tokens) - 1
        if need > room or not groups:
            groups.append([])
            room = micro_tokens
        groups[-1].append(i)
        room -= need
    weigh = [1 / total if average == "token" else 1 / (total * max(1, n)) for n in learned]
    return [_micro([rows[i] for i in group], [weigh[i] for i in group], pad) for group in groups]


def _micro(rows: Sequence[Row], weigh: Sequence[float], pad: int) -> Micro:
    starts = [0, *np.cumsum([len(row.tokens) - 1 for row in rows]).tolist()]
    filled = -(-starts[-1] // ROUND) * ROUND
    ids = np.concatenate([*(row.tokens[:-1] for row in rows), np.full(filled - starts[-1], pad)]).astype(np.int64)
    places = [np.flatnonzero(row.learned[1:]) for row in rows]
    targets = np.concatenate([row.tokens[1:][where] for row, where in zip(rows, places, strict=True)]).astype(np.int64)
    at = np.concatenate([where + start for where, start in zip(places, starts, strict=False)])
    weights = np.repeat(np.asarray(weigh, np.float32), [len(where) for where in places])
    return Micro(ids, starts, at, targets, weights, tuple(dict.fromkeys(name for row in rows for name in row.names)))


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
        return cut(blocks, micro_tokens, self.end, "token")

    def _block(self, epoch: int, block: int) -> Row:
        """One token more than `context` (the last is only a target), and the ids of its documents."""
        if self._epoch is None or self._epoch[0] != epoch:
            documents = order(self.seed, epoch, len(self.rows))
            self._epoch = (epoch, documents, np.concatenate([[0], np.cumsum(self.rows.lengths[documents])]))
        _, documents, places = self._epoch
        start, stop = block * self.context, min((block + 1) * self.context, int(places[-1]))
        first = int(np.searchsorted(places, start, "right")) - 1
        last = int(np.searchsorted(places, stop, "left"))
        pieces = [self.rows.row(int(d)) for d in documents[first:last]]
        inside = slice(start - places[first], stop - places[first])
        tokens, learned = (np.concatenate(parts)[inside] for parts in zip(*pieces, strict=True))
        before = self.end if start == places[first] else int(pieces[0][0][start - places[first] - 1])
        names = tuple(self.rows.ids[int(d)] for d in documents[first:last])
        return Row(np.concatenate([[before], tokens]), np.concatenate([[False], learned]), names)


class Drawn:
    """A keyed draw of rows for each batch, every row once an epoch."""

    def __init__(self, rows: Rows, batch_rows: int, seed: int, pad: int, average: Average) -> None:
        self.rows, self.size, self.seed, self.pad, self.average = rows, batch_rows, seed, pad, average
        self.steps_per_epoch = -(-len(rows) // batch_rows)
        self._epoch: tuple[int, IntArray] | None = None

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of a step."""
        return cut(self.drawn(step), micro_tokens, self.pad, self.average)

    def drawn(self, step: int) -> list[Row]:
        """The rows of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, order(self.seed, epoch, len(self.rows)))
        members = self._epoch[1][place * self.size : (place + 1) * self.size]
        return [self.row(int(m)) for m in members]

    def row(self, member: int) -> Row:
        """One row."""
        return Row(*self.rows.row(member), (self.rows.ids[member],))

    def some(self, members: Sequence[int], micro_tokens: int) -> list[Micro]:
        """The rows called `members` as one global batch."""
        return cut([self.row(m) for m in members], micro_tokens, self.pad, self.average)
