"""Which rows make which batch: a pure function of seed and step, whatever the ranks and the micro-batches.

In: token rows. Out: global batches as lists of micro-batches, each with its rows end to end, the places that
predict, their targets and their weights. The weights of a global batch sum to 1, so the losses of micro-batches
add up to the loss of the batch however it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from zhiling.seeds import draw
from zhiling.trainer.data import IntArray, Rows

Average = Literal["token", "example"]
ROUND = 64  # micro-batches are filled up to a multiple of this many tokens: few shapes, few kernels


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

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [b - a for a, b in pairwise(self.starts)]

    def only(self, rows: Sequence[int]) -> "Micro":
        """The rows called `rows`, in their order, with what they weigh; `rows` of the whole stay named."""
        starts, mine = np.asarray(self.starts), np.asarray(rows)
        begins = np.concatenate([[0], np.cumsum(starts[mine + 1] - starts[mine])])
        ids = np.concatenate([self.ids[starts[i] : starts[i + 1]] for i in mine])
        ids = np.pad(ids, (0, -len(ids) % ROUND))
        row = np.searchsorted(starts, self.at, "right") - 1
        kept = np.isin(row, mine)
        at = self.at[kept] - starts[row[kept]] + begins[np.searchsorted(mine, row[kept])]
        return replace(
            self, ids=ids, starts=begins.tolist(), at=at, targets=self.targets[kept], weights=self.weights[kept]
        )


@dataclass(frozen=True)
class Row:
    """One row of a batch: its tokens, which of them are learned, and the ids of what it holds."""

    tokens: IntArray
    learned: IntArray
    names: tuple[str, ...]
    targets: IntArray | None = None  # what is said at each learned place; where absent, the next token
    share: float = 1.0               # of a row that is asked in several steps, this one's part

    @property
    def inputs(self) -> IntArray:
        """What the model reads; a last token that is only a target is left out."""
        return self.tokens[:-1] if self.targets is None else self.tokens

    @property
    def places(self) -> IntArray:
        """The inputs whose hidden states predict something."""
        return np.flatnonzero(self.learned[1:] if self.targets is None else self.learned)

    def wanted(self, places: IntArray) -> IntArray:
        """What is to be predicted at `places`."""
        return (self.tokens[1:] if self.targets is None else self.targets)[places]


class Piece(NamedTuple):
    """A stretch of a document, and the token before it: at its beginning, the end of the document before."""

    before: int
    tokens: IntArray
    learned: IntArray
    name: str


class Batches(Protocol):
    """Global batches by step."""

    steps_per_epoch: int

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of the global batch at `step` (from 0), each of at most `micro_tokens` tokens."""


def order(seed: int, epoch: int, count: int) -> IntArray:
    """The order of `count` rows in an epoch."""
    return np.random.Generator(np.random.PCG64(draw(seed, "order", str(epoch)))).permutation(count)


def deal(lengths: Sequence[int], ways: int) -> list[list[int]]:
    """Rows of these lengths dealt out, each to whoever has the fewest tokens so far; in their order."""
    hands: list[list[int]] = [[] for _ in range(ways)]
    tokens = [0] * ways
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        least = tokens.index(min(tokens))
        hands[least].append(row)
        tokens[least] += lengths[row]
    return [sorted(hand) for hand in hands]


def cut(rows: Sequence[Row], micro_tokens: int, pad: int, average: Average) -> list[Micro]:
    """Rows as one global batch of micro-batches; rows of like length come together."""
    places = [row.places for row in rows]
    total = sum(len(own) for own in places) if average == "token" else sum(row.share for row in rows)
    groups: list[list[int]] = []
    room = 0
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i].inputs), i)):
        need = len(rows[i].inputs)
        if need > room or not groups:
            groups.append([])
            room = micro_tokens
        groups[-1].append(i)
        room -= need
    weigh = [1 / total if average == "token" else row.share / (total * max(1, len(own)))
             for row, own in zip(rows, places, strict=True)]
    return [_micro([(rows[i], places[i], weigh[i]) for i in group], pad) for group in groups]


def _micro(members: Sequence[tuple[Row, IntArray, float]], pad: int) -> Micro:
    """Rows, with their places that predict and what each place weighs, as one micro-batch."""
    rows, places, weigh = zip(*members, strict=True)
    starts = [0, *np.cumsum([len(row.inputs) for row in rows]).tolist()]
    filled = -(-starts[-1] // ROUND) * ROUND
    ids = np.concatenate([*(row.inputs for row in rows), np.full(filled - starts[-1], pad)]).astype(np.int64)
    targets = np.concatenate([row.wanted(own) for row, own in zip(rows, places, strict=True)]).astype(np.int64)
    at = np.concatenate([own + start for own, start in zip(places, starts, strict=False)])
    weights = np.repeat(np.asarray(weigh, np.float32), [len(own) for own in places])
    return Micro(ids, starts, at, targets, weights, tuple(dict.fromkeys(name for row in rows for name in row.names)))


class Packed:
    """Documents end to end in blocks of `context` tokens; every token is learned, each epoch in another order.

    With `apart` a block's documents do not see one another: each is a row of its own, its positions begin anew.
    """

    def __init__(
        self, rows: Rows, context: int, batch_tokens: int, seed: int, end: int, apart: bool = False
    ) -> None:
        self.rows, self.context, self.seed, self.end, self.apart = rows, context, seed, end, apart
        self.blocks = -(-int(rows.starts[-1]) // context)
        self.blocks_per_batch = max(1, batch_tokens // context)
        self.steps_per_epoch = -(-self.blocks // self.blocks_per_batch)
        self._epoch: tuple[int, IntArray, IntArray] | None = None

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.blocks_per_batch
        blocks = range(first, min(self.blocks, first + self.blocks_per_batch))
        return cut([row for block in blocks for row in self._rows(epoch, block)], micro_tokens, self.end, "token")

    def _rows(self, epoch: int, block: int) -> list[Row]:
        """A block as one row, or as one for each of its documents."""
        pieces = self._pieces(epoch, block)
        return [_row([piece]) for piece in pieces] if self.apart else [_row(pieces)]

    def _pieces(self, epoch: int, block: int) -> list[Piece]:
        """What a block holds of each of its documents."""
        if self._epoch is None or self._epoch[0] != epoch:
            documents = order(self.seed, epoch, len(self.rows))
            self._epoch = (epoch, documents, np.concatenate([[0], np.cumsum(self.rows.lengths[documents])]))
        _, documents, places = self._epoch
        start, stop = block * self.context, min((block + 1) * self.context, int(places[-1]))
        first = int(np.searchsorted(places, start, "right")) - 1
        last = int(np.searchsorted(places, stop, "left"))
        pieces = []
        for document, place in zip(documents[first:last].tolist(), places[first:last].tolist(), strict=True):
            tokens, learned = self.rows.row(document)
            a, b = max(0, start - place), stop - place
            before = tokens[a - 1] if a else self.end
            pieces.append(Piece(int(before), tokens[a:b], learned[a:b], self.rows.ids[document]))
        return pieces


def _row(pieces: Sequence[Piece]) -> Row:
    """Pieces end to end, behind the token before the first, which is only an input."""
    tokens = np.concatenate([[pieces[0].before], *(piece.tokens for piece in pieces)])
    learned = np.concatenate([[False], *(piece.learned for piece in pieces)])
    return Row(tokens, learned, tuple(piece.name for piece in pieces))


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
        """The rows of a step, each in its parts."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, order(self.seed, epoch, len(self.rows)))
        members = self._epoch[1][place * self.size : (place + 1) * self.size]
        return [part for m in members for part in self.parts(int(m))]

    def parts(self, member: int) -> list[Row]:
        """One row, as what the model reads of it: here itself."""
        return [self.row(member)]

    def row(self, member: int) -> Row:
        """One row."""
        return Row(*self.rows.row(member), (self.rows.ids[member],), self.rows.targets_of(member))

    def some(self, members: Sequence[int], micro_tokens: int) -> list[Micro]:
        """The rows called `members` as one global batch."""
        return cut([part for m in members for part in self.parts(m)], micro_tokens, self.pad, self.average)


class Hidden(Drawn):
    """A keyed draw of rows in which some tokens are hidden, others in each epoch; what is learned stays what it was.

    A text short of some of its words still has its label: a model that has to say it without them leans on no single
    one. Special tokens, as those around a text, are never hidden.
    """

    def __init__(
        self, rows: Rows, batch_rows: int, seed: int, pad: int, average: Average, share: float, tokenizer: Any
    ) -> None:
        super().__init__(rows, batch_rows, seed, pad, average)
        self.share, self.mask = share, tokenizer.mask_token_id
        self.ordinary = np.ones(len(tokenizer), bool)
        self.ordinary[tokenizer.all_special_ids] = False

    def drawn(self, step: int) -> list[Row]:
        """The rows of a step, each without some of its tokens."""
        epoch = step // self.steps_per_epoch
        return [replace(row, tokens=self._hidden(row, epoch)) for row in super().drawn(step)]

    def _hidden(self, row: Row, epoch: int) -> IntArray:
        rng = np.random.Generator(np.random.PCG64(draw(self.seed, "hide", f"{epoch}/{row.names[0]}")))
        gone = (rng.random(len(row.tokens)) < self.share) & self.ordinary[row.tokens]
        return np.where(gone, self.mask, row.tokens)
