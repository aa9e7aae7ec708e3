"""Parts of a Llama-like block with backward passes of their own: on processors, fewer passes over memory.

In: tokens of many rows end to end. Out: attention within each row, a block of queries at a time, in plain products,
whose backward pass beats the fused kernel's two to four times on short rows; a norm that adds what came before; a gate.
What is kept for the way back is what the products keep anyway.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK = 128    # queries that attention takes at once: what comes after them in their row is not computed
ROUND = 16     # a row's last queries are filled up to a multiple of this: few shapes, few kernels
LONGEST = 1024  # tokens of a row: what attention keeps for the way back grows with their square


def neighbours(weight: Tensor, width: int) -> Tensor:
    """Rows of a query's or key's weight (H x K, D) so that the two halves that turn together are neighbours."""
    return weight.view(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def attention(qkv: Tensor, turns: Tensor, starts: list[int]) -> Tensor:
    """Rotated causal attention within rows: (N, 3, H, K), pairs that turn as neighbours, to (N, H x K).

    `turns` (N, K / 2) are complex. What stands at tokens of no row is finite and means nothing.
    """
    found: Tensor = _Attention.apply(qkv, turns, starts)  # type: ignore[no-untyped-call]
    return found


def add_norm(x: Tensor, more: Tensor | None, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x + more`, and that over its root mean square, in `dtype`: a norm whose weight the next product takes in."""
    found: tuple[Tensor, Tensor] = _AddNorm.apply(x, more, eps, dtype)  # type: ignore[no-untyped-call]
    return found


def gated(both: Tensor) -> Tensor:
    """silu of the first half of (N, 2F) times the second."""
    found: Tensor = _Gated.apply(both)  # type: ignore[no-untyped-call]
    return found


def _turned(pairs: Tensor, turns: Tensor) -> Tensor:
    """(N, 2, H, K) times complex numbers of length 1, in float32."""
    complex_ = torch.view_as_complex(pairs.float().reshape(*pairs.shape[:-1], -1, 2))
    return torch.view_as_real(complex_ * turns[:, None, None]).flatten(-2)


def _blocks(starts: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """For each block of queries: its row's beginning, its own, its end when filled up, its row's end.

    The filling reaches into the next row, whose first block comes later and overwrites what was made of it.
    """
    for row, end in pairwise(starts):
        for first in range(row, end, BLOCK):
            yield row, first, min(first + BLOCK, end + (row - end) % ROUND), end


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, turns: Tensor, starts: list[int]) -> Tensor:
        total, _, heads, width = qkv.shape
        by_head = qkv.new_empty(3, heads, total + ROUND, width)
        by_head[:, :, total:] = 0
        by_head[:2, :, :total].copy_(_turned(qkv[:, :2], turns).permute(1, 2, 0, 3))
        by_head[2, :, :total].copy_(qkv[:, 2].transpose(0, 1))
        mixed = torch.zeros_like(by_head[0])
        before = max(b - a for a, b in pairwise(starts))
        later = torch.full((BLOCK, BLOCK), float("-inf"), dtype=qkv.dtype).triu_(1)
        mask = F.pad(later, (before, 0))
        kept = []
        for row, first, last, _ in _blocks(starts):
            k, v = by_head[1:, :, row:last]
            seen = mask[: last - first, before - (first - row) : before + last - first].expand(heads, -1, -1)
            shares = torch.baddbmm(seen, by_head[0, :, first:last], k.transpose(1, 2), alpha=width**-0.5).softmax(-1)
            mixed[:, first:last] = torch.bmm(shares, v)
            kept.append(shares)
        ctx.by_head, ctx.kept, ctx.starts, ctx.turns = by_head, kept, starts, turns
        return mixed[:, :total].transpose(0, 1).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, heads, room, width = ctx.by_head.shape
        total = room - ROUND
        grad = F.pad(grads[0].view(total, heads, width).transpose(0, 1), (0, 0, 0, ROUND))
        by_head = torch.zeros_like(ctx.by_head)
        for (row, first, last, end), shares in zip(_blocks(ctx.starts), ctx.kept, strict=True):
            out, q, (k, v) = grad[:, first:last], ctx.by_head[0, :, first:last], ctx.by_head[1:, :, row:last]
            if last > end:
                out = F.pad(out[:, : end - first], (0, 0, 0, last - end))
            inner = torch._softmax_backward_data(torch.bmm(out, v.transpose(1, 2)), shares, -1, shares.dtype)
            by_head[0, :, first:last] = torch.bmm(inner, k)
            by_head[1, :, row:last] += torch.bmm(inner.transpose(1, 2), q)
            by_head[2, :, row:last] += torch.bmm(shares.transpose(1, 2), out)
        found = grad.new_empty(total, 3, heads, width)
        turned = _turned(by_head[:2, :, :total].permute(2, 0, 1, 3), ctx.turns.conj() * width**-0.5)
        found[:, :2].copy_(turned)
        found[:, 2].copy_(by_head[2, :, :total].transpose(0, 1))
        return found, None, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor | None, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        both = x if more is None else x + more
        inverse = torch.rsqrt(torch.linalg.vector_norm(both, dim=-1, keepdim=True).square() / x.shape[-1] + eps)
        normed = (both * inverse).to(dtype)
        ctx.save_for_backward(normed, inverse)
        ctx.more = None if more is None else more.dtype
        return (both.view_as(x) if more is None else both), normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        around, grad = grads
        normed, inverse = ctx.saved_tensors
        along = (grad * normed).sum(-1, keepdim=True, dtype=torch.float32) / normed.shape[-1]
        found = (normed * -along).add_(grad).mul_(inverse).add_(around)
        return found, None if ctx.more is None else found.to(ctx.more), None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, -1)
        ctx.save_for_backward(both)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        found = torch.empty_like(both)
        to_gate, to_up = found.chunk(2, -1)
        torch.mul(grads[0], F.silu(gate), out=to_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=to_gate)
        return found
