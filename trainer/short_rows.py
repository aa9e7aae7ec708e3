"""Attention within rows that are short: rows of like length side by side, a few products for all of them.

In: tokens of many rows end to end, and where a hidden state is asked for. Out: what `kernels.attention` gives, in
float32. One product for each short row takes longer to begin than to do, and threads that begin many wait for one
another; a bf16 one takes longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from zhiling.trainer.data import IntArray
from zhiling.trainer.kernels import turned

SHORT = 96      # tokens of a row that is short
FILLING = 4096  # scores that a row may be filled up by beside a longer one: to begin another product takes as long


@dataclass(frozen=True)
class Group:
    """Rows of like length, filled up; where they lie among the queries and keys of all groups."""

    queries: slice
    keys: slice
    seen: Tensor  # (heads x rows, queries, keys): 0 where a query sees a key, else minus infinity

    def asks(self, vectors: Tensor) -> Tensor:
        """Its own of all groups' vectors of queries: (heads x rows, queries, K)."""
        return vectors[self.queries].view(len(self.seen), -1, vectors.shape[-1])

    def tells(self, vectors: Tensor) -> Tensor:
        """Its own of all groups' vectors of keys: (heads x rows, keys, K)."""
        return vectors[self.keys].view(len(self.seen), -1, vectors.shape[-1])


@dataclass(frozen=True)
class Groups:
    """All rows in groups. A vector is one head's of one token; one more than there are stands for none: zeros."""

    groups: tuple[Group, ...]
    queries: Tensor   # the vector that each place of the groups takes, among those of (M, heads)
    answered: Tensor  # the same, where a filling takes none
    keys: Tensor      # among those of (N, heads)
    back: Tensor      # of each of (M, heads) vectors, the place among the groups' queries
    back_keys: Tensor


def short_from(starts: Sequence[int]) -> int:
    """The first row from which on all are short: the longest come first in a batch."""
    lengths = [b - a for a, b in pairwise(starts)]
    return next((row + 1 for row in reversed(range(len(lengths))) if lengths[row] > SHORT), 0)


def groups(
    starts: Sequence[int], total: int, heads: int, causal: bool, window: int | None, at: Tensor | None = None
) -> Groups:
    """Rows of `total` tokens in groups; with `at`, places that rise, the queries are those alone."""
    first, ends = np.asarray(starts[:-1]), np.asarray(starts[1:])
    places = np.arange(starts[-1]) if at is None else at.numpy()
    count = total if at is None else len(places)
    asked, stop = np.searchsorted(places, first), np.searchsorted(places, ends)
    made, parts = [], []
    n_queries = n_keys = 0
    for rows in _alike(ends - first, stop - asked):
        tokens, real = _filled(first[rows], ends[rows])
        chosen, wanted = _filled(asked[rows], stop[rows])
        apart = (places[chosen] - first[rows, None])[:, :, None] - np.arange(tokens.shape[1])  # from a key to a query
        sees = np.broadcast_to(real[:, None], apart.shape)
        sees = sees & (apart >= 0) if causal else sees
        sees = sees if window is None else sees & (abs(apart) <= window)
        seen = np.where(sees, np.float32(0), np.float32("-inf"))
        parts.append((_vectors(chosen, heads), _vectors(np.where(wanted, chosen, count), heads),
                      _vectors(tokens, heads), _vectors(np.where(real, tokens, total), heads)))
        made.append(Group(slice(n_queries, n_queries + parts[-1][0].size), slice(n_keys, n_keys + parts[-1][2].size),
                          torch.from_numpy(np.tile(seen, (heads, 1, 1)))))
        n_queries, n_keys = made[-1].queries.stop, made[-1].keys.stop
    queries, answered, keys, owned = (np.concatenate(each) for each in zip(*parts, strict=True))
    vectors = queries, answered, keys, _inverse(answered, count * heads), _inverse(owned, total * heads)
    return Groups(tuple(made), *map(torch.from_numpy, vectors))


def _alike(lengths: IntArray, asked: IntArray) -> list[list[int]]:
    """Rows of which something is asked, in groups of like length."""
    found: list[list[int]] = []
    for row in sorted(np.flatnonzero(asked).tolist(), key=lambda row: -lengths[row]):
        if not found or lengths[found[-1][0]] ** 2 - lengths[row] ** 2 > FILLING:
            found.append([])
        found[-1].append(row)
    return found


def _filled(first: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Places from `first` to `ends`, a row each, filled up with their own first; and which are no filling."""
    places = first[:, None] + np.arange((ends - first).max())
    real = places < ends[:, None]
    return np.where(real, places, first[:, None]), real


def _vectors(tokens: IntArray, heads: int) -> IntArray:
    """The vectors of tokens (R, L), heads first; the token behind the last one has one that stands for none."""
    found: IntArray = (tokens * heads + np.arange(heads)[:, None, None]).ravel()
    return found


def _inverse(vectors: IntArray, count: int) -> IntArray:
    """The place of each of `count` vectors; behind the last one for those that stand nowhere."""
    found = np.full(max(count, vectors.max(initial=0)) + 1, len(vectors))
    found[vectors] = np.arange(len(vectors))
    return found[:count]


def short_attention(q: Tensor, kv: Tensor, turns: tuple[Tensor, Tensor], rows: Groups) -> Tensor:
    """Rotated attention within rows: (M, H, K) and (N, 2, H, K), pairs that turn as neighbours, to (M, H x K)."""
    found: Tensor = _Short.apply(q.float(), kv.float(), *turns, rows)  # type: ignore[no-untyped-call]
    return found


def _taken(vectors: Tensor, places: Tensor) -> Tensor:
    """Vectors (..., K) at `places`; behind the last one there are zeros."""
    heads = vectors.shape[1] if vectors.ndim == 3 else 1
    return F.pad(vectors.reshape(-1, vectors.shape[-1]), (0, 0, 0, heads)).index_select(0, places)


class _Short(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, turns_q: Tensor, turns_k: Tensor, rows: Groups) -> Tensor:
        width, kept = q.shape[-1], []
        queries = turned(q, turns_q).flatten(0, 1).index_select(0, rows.queries)
        told = turned(kv[:, 0], turns_k), kv[:, 1]
        keys, values = (part.flatten(0, 1).index_select(0, rows.keys) for part in told)
        mixed = torch.empty_like(queries)
        for group in rows.groups:
            shares = torch.baddbmm(group.seen, group.asks(queries), group.tells(keys).mT, alpha=width**-0.5).softmax(-1)
            torch.bmm(shares, group.tells(values), out=group.asks(mixed))
            kept.append(shares)
        ctx.rows, ctx.kept, ctx.turns, ctx.parts = rows, kept, (turns_q, turns_k), (queries, keys, values)
        return _taken(mixed, rows.back).view(len(q), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (turns_q, turns_k), rows = ctx.turns, ctx.rows
        queries, keys, values = ctx.parts
        width, tokens = queries.shape[-1], len(turns_k)
        grad = _taken(grads[0].view(len(turns_q), -1, width), rows.answered)
        to_q, to_k, to_v = (torch.empty_like(part) for part in ctx.parts)
        for group, shares in zip(rows.groups, ctx.kept, strict=True):
            out = group.asks(grad)
            inner = torch._softmax_backward_data(torch.bmm(out, group.tells(values).mT), shares, -1, shares.dtype)
            torch.bmm(inner, group.tells(keys), out=group.asks(to_q))
            torch.bmm(inner.mT, group.asks(queries), out=group.tells(to_k))
            torch.bmm(shares.mT, out, out=group.tells(to_v))
        back_q = turned(_taken(to_q, rows.back).view(len(turns_q), -1, width), turns_q.conj() * width**-0.5)
        back_kv = grad.new_empty(tokens, 2, *back_q.shape[1:])
        back_kv[:, 0] = turned(_taken(to_k, rows.back_keys).view(tokens, -1, width), turns_k.conj() * width**-0.5)
        back_kv[:, 1] = _taken(to_v, rows.back_keys).view(tokens, -1, width)
        return back_q, back_kv, None, None, None
