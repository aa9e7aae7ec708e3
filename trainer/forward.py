"""A Llama-like decoder's hidden states for rows of any length, without padding; equal to the library's own.

In: a model and rows end to end. Out: what `model.base_model` gives for each row alone. On CPUs and for plain
layers the rows stay end to end through every product, projections that share an input are one product, and
attention goes by groups of like length with plain products, whose backward pass beats the fused kernel's two to
four times on short rows. Elsewhere rows are padded on the right, which causal attention never sees, and the
library's forward is used.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # that attention pads to: few shapes, few kernels
GROUP_ROWS = 4  # rows of a group are padded to a multiple of this, for the same reason


@dataclass(frozen=True)
class Group:
    """Rows of like length: where each (row, position) lies among the tokens, and the way back."""

    slots: Tensor   # (B, T) place among the tokens; the place after the last for padding
    tokens: Tensor  # places of the group's tokens
    back: Tensor    # for each of them its place in the flattened (B, T)


def hidden_states(model: Any, ids: Tensor, starts: list[int]) -> Tensor:
    """Hidden states (N, D) of rows end to end (N token ids; row i begins at `starts[i]`; the last is the end)."""
    base = model.base_model
    lengths = [b - a for a, b in pairwise(starts)]
    if not is_plain(base) or ids.device.type != "cpu" or max(lengths) > LENGTHS[-1]:
        return _padded(base, ids, starts, lengths)
    return _flat(base, ids, starts, lengths)


def _padded(base: Any, ids: Tensor, starts: list[int], lengths: list[int]) -> Tensor:
    """The library's forward over right-padded rows, gathered back; tokens outside all rows get zeros."""
    width = max(lengths)
    place = torch.cat([torch.arange(n) + i * width for i, n in enumerate(lengths)]).to(ids.device)
    ids_BT = ids.new_zeros(len(lengths) * width)
    ids_BT[place] = ids[: starts[-1]]
    more: dict[str, Any] = {"use_cache": False}
    if base.config.model_type != "llama":  # what sees both sides must not see the padding
        real = torch.zeros_like(ids_BT)
        real[place] = 1
        more = {"attention_mask": real.view(-1, width)}
    hidden_BTD = base(input_ids=ids_BT.view(-1, width), **more).last_hidden_state
    return F.pad(hidden_BTD.flatten(0, 1).index_select(0, place), (0, 0, 0, len(ids) - starts[-1]))


def _flat(base: Any, ids: Tensor, starts: list[int], lengths: list[int]) -> Tensor:
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    positions = torch.zeros(len(ids), dtype=torch.long)
    positions[: starts[-1]] = torch.cat([torch.arange(n) for n in lengths])
    turns = positions[:, None] * base.rotary_emb.inv_freq[None].float()
    cos, sin = turns.cos()[:, None], turns.sin()[:, None]
    groups = make_groups(starts, lengths, len(ids))
    x_ND = base.embed_tokens(ids)
    with torch.autocast("cpu", enabled=False):
        for layer in base.layers:
            attention, mlp = layer.self_attn, layer.mlp
            y_ND = _norm(x_ND, layer.input_layernorm, dtype)
            qkv = F.linear(y_ND, _joined(dtype, attention.q_proj, attention.k_proj, attention.v_proj))
            mixed_ND = _Attention.apply(qkv.view(len(ids), 3, -1, attention.head_dim), cos, sin, groups)  # type: ignore[no-untyped-call]
            x_ND = x_ND + F.linear(mixed_ND, attention.o_proj.weight.to(dtype))
            y_ND = _norm(x_ND, layer.post_attention_layernorm, dtype)
            gate, up = F.linear(y_ND, _joined(dtype, mlp.gate_proj, mlp.up_proj)).chunk(2, -1)
            x_ND = x_ND + F.linear(F.silu(gate) * up, mlp.down_proj.weight.to(dtype))
        return _norm(x_ND, base.norm, torch.float32)


def is_plain(base: Any) -> bool:
    """Whether `base` is a Llama of plain layers: no biases, no adapters, no grouped heads, no scaled rotation."""
    config = base.config
    if config.model_type != "llama" or config.num_key_value_heads != config.num_attention_heads:
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default" or config.hidden_act != "silu":
        return False
    layer = base.layers[0]
    linears = [*layer.self_attn.children(), layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj]
    return all(type(part) is nn.Linear and part.bias is None for part in linears)


def make_groups(starts: list[int], lengths: list[int], total: int) -> list[Group]:
    """Rows grouped by the length that they are padded to."""
    members: dict[int, list[int]] = {}
    for i, n in enumerate(lengths):
        members.setdefault(next(level for level in LENGTHS if level >= n), []).append(i)
    groups = []
    for level, rows in sorted(members.items()):
        slots = torch.full((-(-len(rows) // GROUP_ROWS) * GROUP_ROWS, level), total)
        for b, i in enumerate(rows):
            slots[b, : lengths[i]] = torch.arange(starts[i], starts[i + 1])
        back = torch.nonzero(slots.flatten() < total).flatten()
        groups.append(Group(slots, slots.flatten()[back], back))
    return groups


def _joined(dtype: torch.dtype, *linears: nn.Linear) -> Tensor:
    return torch.cat([linear.weight.to(dtype) for linear in linears])


def _norm(x: Tensor, norm: Any, dtype: torch.dtype) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon).to(dtype)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _heads(x: Tensor, slots: Tensor) -> Tensor:
    """The tokens of a group as (B x H, T, K); padding is zero."""
    batch, length = slots.shape
    picked = F.pad(x, (0, 0, 0, 0, 0, 1)).index_select(0, slots.flatten())
    return picked.view(batch, length, *x.shape[1:]).transpose(1, 2).reshape(-1, length, x.shape[2])


def _tokens(x: Tensor, group: Group, heads: int) -> Tensor:
    """(B x H, T, K) back to the group's tokens (M, H, K)."""
    batch, length = group.slots.shape
    return x.view(batch, heads, length, -1).transpose(1, 2).flatten(0, 1).index_select(0, group.back)


class _Attention(torch.autograd.Function):
    """Rotated causal attention within rows: (N, 3, H, K) to (N, H x K), and its gradient."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, groups: list[Group]) -> Tensor:
        total, _, heads, width = qkv.shape
        turned = _turn(qkv[:, :2].flatten(1, 2), cos, sin)
        mixed = qkv.new_zeros(total, heads, width)
        kept = []
        for group in groups:
            q, k = (_heads(turned[:, part], group.slots) for part in (slice(0, heads), slice(heads, None)))
            v = _heads(qkv[:, 2], group.slots)
            length = q.shape[1]
            mask = torch.full((length, length), float("-inf"), dtype=q.dtype).triu_(1).expand(len(q), -1, -1)
            shares = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5).softmax(-1)
            mixed[group.tokens] = _tokens(torch.bmm(shares, v), group, heads)
            kept.append((q, k, v, shares))
        ctx.kept, ctx.groups, ctx.turns = kept, groups, (cos, sin)
        return mixed.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (cos, sin), total = grads, ctx.turns, len(grads[0])
        width = ctx.kept[0][0].shape[2]
        grad = grad.view(total, -1, width)
        heads = grad.shape[1]
        found = grad.new_zeros(total, 3, heads, width)
        for group, (q, k, v, shares) in zip(ctx.groups, ctx.kept, strict=True):
            out = _heads(grad, group.slots)
            inner = torch._softmax_backward_data(torch.bmm(out, v.transpose(1, 2)), shares, -1, shares.dtype)
            inner = inner * width**-0.5
            parts = (torch.bmm(inner, k), torch.bmm(inner.transpose(1, 2), q), torch.bmm(shares.transpose(1, 2), out))
            found[group.tokens] = torch.stack([_tokens(part, group, heads) for part in parts], 1)
        found[:, :2] = _turn(found[:, :2].flatten(1, 2), cos, -sin).view(total, 2, heads, width)
        return found, None, None, None
