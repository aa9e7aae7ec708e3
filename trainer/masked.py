"""Masked language modelling: words or runs of words are hidden, and guessed from both sides.

In: documents as tokens, with a mark where a word begins. Out: global batches like those of `batches.py`; what is
hidden is a pure function of seed, epoch and block. The last token of a document, its end, is never hidden, and what
the tokenizer puts around a text stands around each row.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zhiling.seeds import draw
from zhiling.trainer.batches import Packed, Row
from zhiling.trainer.config import MaskSettings
from zhiling.trainer.data import CHUNK, Encoded, IntArray, Rows
from zhiling.trainer.tokenizer import end_of


def encode_words(texts: Sequence[tuple[str, str]], tokenizer: Any, whole_words: bool) -> Iterator[Encoded]:
    """Documents as tokens, each closed by the end token, with a mark on every token that begins a word."""
    end = end_of(tokenizer)
    for i in range(0, len(texts), CHUNK):
        some = texts[i : i + CHUNK]
        encoded = tokenizer(
            [text for _, text in some], add_special_tokens=False, verbose=False, return_offsets_mapping=True
        )
        for (key, text), tokens, places in zip(some, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            marks = [True] * len(tokens)
            if whole_words:
                words = word_numbers(text)
                own = [words[start] if start < len(words) else -1 for start, _ in places]
                marks = [k == 0 or own[k] != own[k - 1] for k in range(len(own))]
            yield Encoded(key, [*tokens, end], [*marks, True])


def word_numbers(text: str) -> list[int]:
    """For each character the number of its word, as jieba segments the text."""
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    return [n for n, word in enumerate(jieba.cut(text, HMM=False)) for _ in word]


def hidden_places(begins: IntArray, may: IntArray, mask: MaskSettings, key: int) -> IntArray:
    """Which tokens to hide: words, or runs of words, drawn until the share of tokens is reached."""
    rng = np.random.Generator(np.random.PCG64(key))
    words = np.cumsum(begins) - (1 if begins[:1].any() else 0)
    count = int(words[-1]) + 1
    if mask.span > 1:  # a run of words is one unit; its length is geometric with this mean
        words = (np.cumsum(rng.random(count) < 1 / mask.span))[words]
        count = int(words[-1]) + 1
    rank = np.empty(count, np.int64)
    rank[rng.permutation(count)] = np.arange(count)
    sizes = np.bincount(words[may], minlength=count)
    by_rank = np.cumsum(sizes[np.argsort(rank)])
    wanted = max(1.0, mask.share * int(may.sum()))
    last = int(np.searchsorted(by_rank, wanted - 1e-9))
    return np.flatnonzero(may & (rank[words] <= last))


class Masked(Packed):
    """Blocks of documents in which words are hidden; the hidden tokens are what is learned."""

    def __init__(
        self, rows: Rows, context: int, batch_tokens: int, seed: int, end: int, hide: int, mask: MaskSettings,
        apart: bool = False, frame: tuple[Sequence[int], Sequence[int]] = ((), ()),
    ) -> None:
        super().__init__(rows, context - sum(map(len, frame)), batch_tokens, seed, end, apart)
        self.hide, self.mask, self.frame = hide, mask, frame

    def _rows(self, epoch: int, block: int) -> list[Row]:
        """A block as one row, or as one for each of its documents, with words hidden all over it."""
        pieces = super()._rows(epoch, block)
        tokens = np.concatenate([piece.tokens[1:] for piece in pieces]).astype(np.int64)
        begins = np.concatenate([piece.learned[1:] for piece in pieces])
        may = tokens != self.end
        key = draw(self.seed, "mask", f"{epoch}/{block}")
        hidden = np.zeros(len(tokens), bool)
        hidden[hidden_places(begins, may if may.any() else ~may, self.mask, key)] = True
        ends = np.cumsum([len(piece.tokens) - 1 for piece in pieces])[:-1]
        parts = zip(pieces, np.split(tokens, ends), np.split(hidden, ends), strict=True)
        return [self._row(piece.names, own, places) for piece, own, places in parts if places.any()]

    def _row(self, names: tuple[str, ...], tokens: IntArray, hidden: IntArray) -> Row:
        before, after = self.frame
        targets = np.concatenate([before, tokens, after]).astype(np.int64)
        learned = np.pad(hidden, (len(before), len(after)))
        return Row(np.where(learned, self.hide, targets), learned, names, targets)
