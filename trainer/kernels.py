"""Parts of a Llama-like block with backward passes of their own: on processors, fewer passes over memory.

In: tokens of many rows end to end. Out: attention within each row by groups of like length, in plain products, whose
backward pass beats the fused kernel's two to four times on short rows; a norm that adds what came before; a gate. What
is kept for the way back is what the products keep anyway.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # that attention pads to: few shapes, few kernels
GROUP_ROWS = 4  # rows of a group are padded to a multiple of this, for the same reason


@dataclass(frozen=True)
class Group:
    """Rows of like length: where each (row, position) lies among the tokens, and the way back."""

    slots: Tensor   # (B, T) place among the tokens; the last place, which is no row's, for padding
    tokens: Tensor  # places of the group's tokens
    back: Tensor    # for each of them its place in the flattened (B, T)


def make_groups(starts: list[int], lengths: list[int], total: int) -> list[Group]:
    """Rows grouped by the length that they are padded to; `total` tokens, the last of which belongs to no row."""
    members: dict[int, list[int]] = {}
    for i, n in enumerate(lengths):
        members.setdefault(next(level for level in LENGTHS if level >= n), []).append(i)
    groups = []
    for level, rows in sorted(members.items()):
        slots = torch.full((-(-len(rows) // GROUP_ROWS) * GROUP_ROWS, level), total - 1)
        for b, i in enumerate(rows):
            slots[b, : lengths[i]] = torch.arange(starts[i], starts[i + 1])
        back = torch.nonzero(slots.flatten() < total - 1).flatten()
        groups.append(Group(slots, slots.flatten()[back], back))
    return groups


def neighbours(weight: Tensor, width: int) -> Tensor:
    """Rows of a query's or key's weight (H x K, D) so that the two halves that turn together are neighbours."""
    return weight.view(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def attention(qkv: Tensor, turns: Tensor, groups: list[Group]) -> Tensor:
    """Rotated causal attention within rows: (N, 3, H, K), pairs that turn as neighbours, to (N, H x K).

    `turns` (N, K / 2) are complex. The last token belongs to no row: what stands there is not used.
    """
    found: Tensor = _Attention.apply(qkv, turns, groups)  # type: ignore[no-untyped-call]
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


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, turns: Tensor, groups: list[Group]) -> Tensor:
        total, _, heads, width = qkv.shape
        by_head = qkv.new_empty(3, heads, total, width)
        by_head[:2].copy_(_turned(qkv[:, :2], turns).permute(1, 2, 0, 3))
        by_head[2].copy_(qkv[:, 2].transpose(0, 1))
        mixed = qkv.new_zeros(heads, total, width)
        kept = []
        for group in groups:
            batch, length = group.slots.shape
            q, k, v = by_head.index_select(2, group.slots.flatten()).view(3, heads * batch, length, width)
            mask = torch.full((length, length), float("-inf"), dtype=q.dtype).triu_(1).expand(len(q), -1, -1)
            shares = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5).softmax(-1)
            out = torch.bmm(shares, v).view(heads, batch * length, width)
            mixed.index_copy_(1, group.tokens, out.index_select(1, group.back))
            kept.append((q, k, v, shares))
        ctx.kept, ctx.groups, ctx.turns = kept, groups, turns
        return mixed.transpose(0, 1).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, width = len(grads[0]), ctx.kept[0][0].shape[2]
        grad = grads[0].view(total, -1, width).transpose(0, 1).contiguous()
        heads = len(grad)
        grad[:, -1] = 0  # padding
        by_head = grad.new_zeros(3, heads, total, width)
        for group, (q, k, v, shares) in zip(ctx.groups, ctx.kept, strict=True):
            batch, length = group.slots.shape
            out = grad.index_select(1, group.slots.flatten()).view(heads * batch, length, width)
            inner = torch._softmax_backward_data(torch.bmm(out, v.transpose(1, 2)), shares, -1, shares.dtype)
            parts = (torch.bmm(inner, k), torch.bmm(inner.transpose(1, 2), q), torch.bmm(shares.transpose(1, 2), out))
            for part, place in zip(parts, by_head, strict=True):
                place.index_copy_(1, group.tokens, part.view(heads, batch * length, width).index_select(1, group.back))
        found = grad.new_empty(total, 3, heads, width)
        found[:, :2].copy_(_turned(by_head[:2].permute(2, 0, 1, 3), ctx.turns.conj() * width**-0.5))
        found[:, 2].copy_(by_head[2].transpose(0, 1))
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
