"""Masked language modelling: words or runs of words are hidden, and guessed from both sides.

In: documents as tokens, with a mark where a word begins. Out: global batches like those of `batches.py`; what is
hidden is a pure function of seed, epoch and block. The last token of a document, its end, is never hidden.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zhiling.seeds import draw
from zhiling.trainer.batches import ROUND, Micro, Packed
from zhiling.trainer.config import MaskSettings
from zhiling.trainer.data import CHUNK, Encoded, IntArray, Rows


def encode_words(texts: Sequence[tuple[str, str]], tokenizer: Any, whole_words: bool) -> Iterator[Encoded]:
    """Documents as tokens, each closed by the end token, with a mark on every token that begins a word."""
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
            yield Encoded(key, [*tokens, tokenizer.eos_token_id], [*marks, True])


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
        self, rows: Rows, context: int, batch_tokens: int, seed: int, end: int, hide: int, mask: MaskSettings
    ) -> None:
        super().__init__(rows, context, batch_tokens, seed, end)
        self.hide, self.mask = hide, mask

    def batch(self, step: int, micro_tokens: int) -> list[Micro]:
        """The micro-batches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.blocks_per_batch
        made = [self._hidden(epoch, b) for b in range(first, min(self.blocks, first + self.blocks_per_batch))]
        total = sum(len(places) for _, places, _ in made)
        size = max(1, micro_tokens // self.context)
        return [self._micro(made[i : i + size], total) for i in range(0, len(made), size)]

    def _hidden(self, epoch: int, block: int) -> tuple[IntArray, IntArray, tuple[str, ...]]:
        row = self._block(epoch, block)
        tokens, begins = row.tokens[1:].astype(np.int64), row.learned[1:]
        key = draw(self.seed, "mask", f"{epoch}/{block}")
        may = tokens != self.end
        places = hidden_places(begins, may if may.any() else ~may, self.mask, key)
        return tokens, places, row.names

    def _micro(self, made: Sequence[tuple[IntArray, IntArray, tuple[str, ...]]], total: int) -> Micro:
        starts = [0, *np.cumsum([len(tokens) for tokens, _, _ in made]).tolist()]
        ids = np.concatenate([tokens for tokens, _, _ in made])
        at = np.concatenate([places + start for (_, places, _), start in zip(made, starts, strict=False)])
        targets = ids[at]
        ids[at] = self.hide
        ids = np.concatenate([ids, np.full(-len(ids) % ROUND, self.end)])
        names = tuple(dict.fromkeys(name for _, _, own in made for name in own))
        return Micro(ids, starts, at, targets, np.full(len(at), 1 / total, np.float32), names)
