"""Parts of a transformer block with backward passes of their own: on processors, fewer passes over memory.

In: tokens of many rows end to end. Out: attention within each row, a block of queries at a time, in plain products,
whose backward pass beats the fused kernel's two to four times on short rows; a norm that adds what came before; a gate.
What is kept for the way back is what the products keep anyway.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK = 128    # queries that attention takes at once: keys that none of them may see are not computed
WHOLE = 512    # the same, where each of them sees all keys
ROUND = 16     # a row's last queries and keys are filled up to a multiple of this: few shapes, few kernels
LONGEST = 1024  # tokens of a row: what attention keeps for the way back grows with their square
GATES: dict[str, tuple[Any, Any]] = {  # a function, and what writes its gradient
    "silu": (F.silu, torch.ops.aten.silu_backward.grad_input),
    "gelu": (F.gelu, torch.ops.aten.gelu_backward.grad_input),
}


class Tile(NamedTuple):
    """A block of queries of one row, and the keys that they see; both may be filled up beyond the row."""

    first: int
    last: int
    end: int      # of the row, not filled up
    low: int
    high: int
    seen: Tensor  # (queries, keys): 0 where a query sees a key, else minus infinity


def tiles(starts: Sequence[int], causal: bool, window: int | None, dtype: torch.dtype) -> list[Tile]:
    """The blocks of queries of all rows: which see what is before them (`causal`), or `window` to either side, or all.

    Queries beyond a row's end are the next row's, whose own block comes later and overwrites what was made of them.
    """
    found, masks = [], dict[tuple[int, ...], Tensor]()
    block = BLOCK if causal or window is not None else WHOLE
    for row, end in pairwise(starts):
        filled = end + (row - end) % ROUND
        for first in range(row, end, block):
            last = min(first + block, filled)
            low = row if window is None else max(row, first - window)
            high = last if causal else filled if window is None else min(filled, last + window)
            shape = (last - first, low - first, high - first, min(end, high) - first)
            if shape not in masks:
                masks[shape] = _mask(*shape, causal, window, dtype)
            found.append(Tile(first, last, end, low, high, masks[shape]))
    return found


def _mask(
    queries: int, low: int, high: int, end: int, causal: bool, window: int | None, dtype: torch.dtype
) -> Tensor:
    """What is added to scores of the queries and of keys from `low` to `high`, in a row that ends at `end`."""
    query, key = torch.arange(queries)[:, None], torch.arange(low, high)
    hidden = key > query if causal else (key >= end).expand(queries, -1)
    if window is not None:
        hidden = hidden | ((key - query).abs() > window)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))


def neighbours(weight: Tensor, width: int) -> Tensor:
    """Rows of a query's or key's weight (H x K, D) so that the two halves that turn together are neighbours."""
    return weight.view(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def attention(q: Tensor, kv: Tensor, turns: tuple[Tensor, Tensor], blocks: list[Tile]) -> Tensor:
    """Rotated attention within rows: (M, H, K) and (N, 2, H, K), pairs that turn as neighbours, to (M, H x K).

    `turns`, of queries and of keys, are complex. What stands at tokens of no row is finite and means nothing.
    """
    found: Tensor = _Attention.apply(q, kv, *turns, blocks)  # type: ignore[no-untyped-call]
    return found


def add_norm(x: Tensor, more: Tensor | None, eps: float, centred: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x + more`, and that over its root mean square, or (`centred`) over its deviation once its mean is taken away,
    in `dtype`: a norm whose weight the next product takes in.
    """
    found: tuple[Tensor, Tensor] = _AddNorm.apply(x, more, eps, centred, dtype)  # type: ignore[no-untyped-call]
    return found


def gated(both: Tensor, gate: str) -> Tensor:
    """The gate's function of the first half of (N, 2F) times the second."""
    found: Tensor = _Gated.apply(both, gate)  # type: ignore[no-untyped-call]
    return found


def turned(pairs: Tensor, turns: Tensor) -> Tensor:
    """Rotated vectors: (N, H, K) times complex numbers, in float32."""
    complex_ = torch.view_as_complex(pairs.float().reshape(*pairs.shape[:-1], -1, 2))
    return torch.view_as_real(complex_ * turns[:, None]).flatten(-2)


def _by_head(tokens: Tensor) -> Tensor:
    """(N, H, K) as (H, N, K), with zeros for what is filled up."""
    return F.pad(tokens.transpose(0, 1), (0, 0, 0, ROUND))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, turns_q: Tensor, turns_k: Tensor, blocks: list[Tile]) -> Tensor:
        scale, kept = q.shape[-1] ** -0.5, []
        rotated = turned(q, turns_q).to(q.dtype), turned(kv[:, 0], turns_k).to(q.dtype)
        q_by, k_by, v_by = (_by_head(part) for part in (*rotated, kv[:, 1]))
        mixed = torch.zeros_like(q_by)
        for first, last, _, low, high, seen in blocks:
            shares = torch.baddbmm(seen, q_by[:, first:last], k_by[:, low:high].mT, alpha=scale).softmax(-1)
            mixed[:, first:last] = torch.bmm(shares, v_by[:, low:high])
            kept.append(shares)
        ctx.by_head, ctx.turns, ctx.kept, ctx.blocks = (q_by, k_by, v_by), (turns_q, turns_k), kept, blocks
        return mixed[:, : len(q)].transpose(0, 1).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (q_by, k_by, v_by), (turns_q, turns_k) = ctx.by_head, ctx.turns
        heads, _, width = q_by.shape
        grad = _by_head(grads[0].view(-1, heads, width))
        to_q, to_k, to_v = (torch.zeros_like(part) for part in ctx.by_head)
        for (first, last, end, low, high, _), shares in zip(ctx.blocks, ctx.kept, strict=True):
            out, queries, keys = grad[:, first:last], slice(first, last), slice(low, high)
            if last > end:
                out = F.pad(out[:, : end - first], (0, 0, 0, last - end))
            inner = torch._softmax_backward_data(torch.bmm(out, v_by[:, keys].mT), shares, -1, shares.dtype)
            to_q[:, queries] = torch.bmm(inner, k_by[:, keys])
            to_k[:, keys] += torch.bmm(inner.mT, q_by[:, queries])
            to_v[:, keys] += torch.bmm(shares.mT, out)
        found_q, found_k, found_v = (part[:, : -ROUND].transpose(0, 1) for part in (to_q, to_k, to_v))
        back_q = turned(found_q, turns_q.conj() * width**-0.5).to(q_by.dtype)
        back_kv = grad.new_empty(len(turns_k), 2, heads, width)
        back_kv[:, 0] = turned(found_k, turns_k.conj() * width**-0.5)
        back_kv[:, 1] = found_v
        return back_q, back_kv, None, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor | None, eps: float, centred: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        both = x if more is None else x + more
        around = both - both.mean(-1, keepdim=True) if centred else both
        inverse = torch.rsqrt(torch.linalg.vector_norm(around, dim=-1, keepdim=True).square() / x.shape[-1] + eps)
        normed = (around * inverse).to(dtype)
        ctx.save_for_backward(normed, inverse)
        ctx.more, ctx.centred = None if more is None else more.dtype, centred
        return (both.view_as(x) if more is None else both), normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        around, grad = grads
        normed, inverse = ctx.saved_tensors
        along = (grad * normed).sum(-1, keepdim=True, dtype=torch.float32) / normed.shape[-1]
        found = (normed * -along).add_(grad)
        if ctx.centred:
            found.sub_(grad.mean(-1, keepdim=True, dtype=torch.float32))
        found.mul_(inverse).add_(around)
        return found, None if ctx.more is None else found.to(ctx.more), None, None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor, gate: str) -> Tensor:
        through, times = both.chunk(2, -1)
        ctx.save_for_backward(both)
        ctx.gate = gate
        found: Tensor = GATES[gate][0](through).mul_(times)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (both,) = ctx.saved_tensors
        through, times = both.chunk(2, -1)
        found = torch.empty_like(both)
        to_through, to_times = found.chunk(2, -1)
        function, backward = GATES[ctx.gate]
        torch.mul(grads[0], function(through), out=to_times)
        backward(grads[0] * times, through, grad_input=to_through)
        return found, None
