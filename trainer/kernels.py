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
ROUND = 16     # a row's last queries and keys are filled up to a multiple of this: few shapes, few kernels
LONGEST = 1024  # tokens of a row: what attention keeps for the way back grows with their square
GATES: dict[str, tuple[Any, Any]] = {  # a function, and what writes its gradient
    "silu": (F.silu, torch.ops.aten.silu_backward.grad_input),
    "gelu": (F.gelu, torch.ops.aten.gelu_backward.grad_input),
}


class Tile(NamedTuple):
    """A block of queries of one row, and the keys that they see; both may reach over the row's end."""

    first: int
    last: int
    low: int
    high: int
    end: int      # of the row
    seen: Tensor  # (queries, keys): 0 where a query sees a key, else minus infinity


def tiles(starts: Sequence[int], causal: bool, window: int | None, dtype: torch.dtype) -> list[Tile]:
    """The blocks of queries of all rows: which see what is before them (`causal`), or `window` to either side, or all.

    Queries over a row's end are the next row's, whose own block comes later and overwrites what was made of them.
    """
    found, masks = [], dict[tuple[int, ...], Tensor]()
    for row, end in pairwise(starts):
        filled = end + (row - end) % ROUND
        for first in range(row, end, BLOCK):
            last = min(first + BLOCK, filled)
            low = row if window is None else max(row, first - window)
            high = last if causal else filled if window is None else min(filled, last + window)
            shape = (last - first, low - first, high - first, min(end, high) - first)
            if shape not in masks:
                masks[shape] = _mask(*shape, causal, window, dtype)
            found.append(Tile(first, last, low, high, end, masks[shape]))
    return found


def _mask(queries: int, low: int, high: int, end: int, causal: bool, window: int | None, dtype: torch.dtype) -> Tensor:
    """What is added to scores; places are counted from the first query."""
    query, key = torch.arange(queries)[:, None], torch.arange(low, high)
    hidden = key > query if causal else (key >= end).expand(queries, -1)
    if window is not None:
        hidden = hidden | ((key - query).abs() > window)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))


def neighbours(weight: Tensor, width: int) -> Tensor:
    """Rows of a query's or key's weight (H x K, D) so that the two halves that turn together are neighbours."""
    return weight.view(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def attention(qkv: Tensor, turns: Tensor, blocks: list[Tile]) -> Tensor:
    """Rotated attention within rows: (N, 3, H, K), pairs that turn as neighbours, to (N, H x K).

    `turns` (N, K / 2) are complex. What stands at tokens of no row is finite and means nothing.
    """
    found: Tensor = _Attention.apply(qkv, turns, blocks)  # type: ignore[no-untyped-call]
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


def _turned(pairs: Tensor, turns: Tensor) -> Tensor:
    """(N, 2, H, K) times complex numbers of length 1, in float32."""
    complex_ = torch.view_as_complex(pairs.float().reshape(*pairs.shape[:-1], -1, 2))
    return torch.view_as_real(complex_ * turns[:, None, None]).flatten(-2)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, turns: Tensor, blocks: list[Tile]) -> Tensor:
        total, _, heads, width = qkv.shape
        by_head = qkv.new_empty(3, heads, total + ROUND, width)
        by_head[:, :, total:] = 0
        by_head[:2, :, :total].copy_(_turned(qkv[:, :2], turns).permute(1, 2, 0, 3))
        by_head[2, :, :total].copy_(qkv[:, 2].transpose(0, 1))
        mixed = torch.zeros_like(by_head[0])
        kept = []
        for first, last, low, high, _, seen in blocks:
            k, v = by_head[1:, :, low:high]
            shares = torch.baddbmm(seen, by_head[0, :, first:last], k.transpose(1, 2), alpha=width**-0.5).softmax(-1)
            mixed[:, first:last] = torch.bmm(shares, v)
            kept.append(shares)
        ctx.by_head, ctx.kept, ctx.blocks, ctx.turns = by_head, kept, blocks, turns
        return mixed[:, :total].transpose(0, 1).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, heads, room, width = ctx.by_head.shape
        total = room - ROUND
        grad = F.pad(grads[0].view(total, heads, width).transpose(0, 1), (0, 0, 0, ROUND))
        by_head = torch.zeros_like(ctx.by_head)
        for (first, last, low, high, end, _), shares in zip(ctx.blocks, ctx.kept, strict=True):
            out, q, (k, v) = grad[:, first:last], ctx.by_head[0, :, first:last], ctx.by_head[1:, :, low:high]
            if last > end:
                out = F.pad(out[:, : end - first], (0, 0, 0, last - end))
            inner = torch._softmax_backward_data(torch.bmm(out, v.transpose(1, 2)), shares, -1, shares.dtype)
            by_head[0, :, first:last] = torch.bmm(inner, k)
            by_head[1, :, low:high] += torch.bmm(inner.transpose(1, 2), q)
            by_head[2, :, low:high] += torch.bmm(shares.transpose(1, 2), out)
        found = grad.new_empty(total, 3, heads, width)
        turned = _turned(by_head[:2, :, :total].permute(2, 0, 1, 3), ctx.turns.conj() * width**-0.5)
        found[:, :2].copy_(turned)
        found[:, 2].copy_(by_head[2, :, :total].transpose(0, 1))
        return found, None, None


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
