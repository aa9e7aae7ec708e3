"""Hidden states for rows of any length, without padding where layers are plain; equal to the library's own.

In: a model and rows end to end, and where a hidden state is asked for. Out: what `model.base_model` gives there for
each row alone. On processors and for plain layers the rows stay end to end through every product, projections that
share an input are one product, which takes in the weight of the norm before it, and the last layer works only where
it is asked. Elsewhere rows are padded on the right, and the library's forward is used.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from zhiling.trainer.blocks import Block, Stack, stack_of, weight_of
from zhiling.trainer.kernels import LONGEST, Tile, add_norm, attention, gated, neighbours, tiles
from zhiling.trainer.short_rows import Groups, groups, short_attention, short_from

FEW = 4  # where at most one token in so many is asked for, the last layer's attention is for those alone


def hidden_states(model: Any, ids: Tensor, starts: list[int], at: Tensor | None = None) -> Tensor:
    """Hidden states (M, D) at places `at` (M,), or at all, of rows end to end.

    `ids` (N,) are tokens; row i begins at `starts[i]`; the last is the end.
    """
    found = unpadded_states(model, ids, starts, at)
    if found is not None:
        return found
    found = _padded(model.base_model, ids, starts)
    return found if at is None else found.index_select(0, at)


def unpadded_states(model: Any, ids: Tensor, starts: list[int], at: Tensor | None = None) -> Tensor | None:
    """As `hidden_states`; None where rows may not stay end to end: on a GPU, layers not plain, a row too long."""
    if ids.device.type != "cpu" or max(b - a for a, b in pairwise(starts)) > LONGEST:
        return None
    stack = stack_of(model.base_model)
    return _flat(stack, ids, starts, at) if stack else None


def _padded(base: Any, ids: Tensor, starts: list[int]) -> Tensor:
    """The library's forward over right-padded rows, gathered back; tokens outside all rows get zeros."""
    ids_BT, real_BT, places_N = padded(ids, starts)
    sees_both_sides = base.config.model_type != "llama"  # and must not see the padding
    more: dict[str, Any] = {"attention_mask": real_BT} if sees_both_sides else {"use_cache": False}
    hidden_BTD = base(input_ids=ids_BT, **more).last_hidden_state
    return F.pad(hidden_BTD.flatten(0, 1).index_select(0, places_N), (0, 0, 0, len(ids) - starts[-1]))


def padded(ids: Tensor, starts: list[int], pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows end to end as rows padded on the right: tokens, which of them are real, and where each token went."""
    lengths = [b - a for a, b in pairwise(starts)]
    width = max(lengths)
    places_N = torch.cat([torch.arange(n) + i * width for i, n in enumerate(lengths)]).to(ids.device)
    ids_BT = ids.new_full((len(lengths) * width,), pad)
    ids_BT[places_N] = ids[: starts[-1]]
    real_BT = torch.zeros_like(ids_BT)
    real_BT[places_N] = 1
    return ids_BT.view(-1, width), real_BT.view(-1, width), places_N


def _flat(stack: Stack, ids: Tensor, starts: list[int], at: Tensor | None) -> Tensor:
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    kinds = {block.window: block.inv_freq for block in stack.blocks}
    turns = {window: _turns(inv_freq, starts, len(ids)) for window, inv_freq in kinds.items()}
    seen = {window: _seen(stack, starts, len(ids), window, dtype) for window in kinds}
    norm = stack.eps, stack.centred
    with torch.autocast("cpu", enabled=False):
        x_ND, more_ND = stack.embed(ids), None
        for block in stack.blocks:
            if block.before is None:
                y_ND = x_ND.to(dtype)
            else:
                x_ND, y_ND = add_norm(x_ND, more_ND, *norm, dtype)
            if block is stack.blocks[-1] and at is not None:
                mixed_ND = _mixed_at(stack, block, y_ND, turns[block.window], seen[block.window], starts, at)
                x_ND = x_ND.index_select(0, at)  # from here on places no longer mix
            else:
                mixed_ND = _mixed(stack, block, y_ND, y_ND, (turns[block.window],) * 2, seen[block.window])
            more_ND = F.linear(mixed_ND, weight_of(block.out).to(dtype))
            x_ND, y_ND = add_norm(x_ND, more_ND, *norm, dtype)
            both = F.linear(y_ND, _joined(block.between, dtype, *map(weight_of, block.up)))
            more_ND = F.linear(gated(both, stack.gate), weight_of(block.down).to(dtype))
        _, y_ND = add_norm(x_ND, more_ND, *norm, torch.float32)
        found: Tensor = y_ND * stack.norm.weight
        return found


@dataclass(frozen=True)
class _Seen:
    """Which keys each query sees: of the first rows in tiles, of the others, which are short, side by side."""

    tiles: list[Tile]
    keys: int  # tokens of the rows in tiles
    groups: Groups | None


def _seen(stack: Stack, starts: list[int], total: int, window: int | None, dtype: torch.dtype) -> _Seen:
    first = short_from(starts)
    keys = starts[first] if first < len(starts) - 1 else total
    short = [start - keys for start in starts[first:]]
    return _Seen(
        tiles(starts[: first + 1], stack.causal, window, dtype), keys,
        groups(short, total - keys, stack.heads, stack.causal, window) if short[1:] else None,
    )


def _mixed(
    stack: Stack, block: Block, asked: Tensor, told: Tensor, turns: tuple[Tensor, Tensor], seen: _Seen
) -> Tensor:
    """What the tokens `asked` mix of those `told`."""
    weights = [*map(weight_of, block.qkv)]
    q, k, v = weights if len(weights) == 3 else weights[0].chunk(3)
    query = F.linear(asked, _joined(block.before, asked.dtype, neighbours(q, stack.width)))
    keys = F.linear(told, _joined(block.before, told.dtype, neighbours(k, stack.width), v))
    query, keys = query.view(len(asked), -1, stack.width), keys.view(len(told), 2, -1, stack.width)
    of, found = seen.keys, []
    if seen.tiles:
        found.append(attention(query[:of], keys[:of], (turns[0][:of], turns[1][:of]), seen.tiles))
    if seen.groups:
        found.append(short_attention(query[of:], keys[of:], (turns[0][of:], turns[1][of:]), seen.groups))
    return torch.cat([part.to(asked.dtype) for part in found])


def _mixed_at(
    stack: Stack, block: Block, told: Tensor, turns: Tensor, seen: _Seen, starts: list[int], at: Tensor,
) -> Tensor:
    """What the places `at` mix; few of them ask alone."""
    if len(at) * FEW > len(told):
        return _mixed(stack, block, told, told, (turns, turns), seen).index_select(0, at)
    rising, order = at.sort(stable=True)
    alone = _Seen([], 0, groups(starts, len(told), stack.heads, stack.causal, block.window, rising))
    found = _mixed(stack, block, told.index_select(0, rising), told, (turns.index_select(0, rising), turns), alone)
    return found.index_select(0, order.argsort())


def _turns(inv_freq: Tensor, starts: list[int], total: int) -> Tensor:
    """The rotation at each token, from its place in its row: (N, K / 2), complex."""
    positions = torch.zeros(total)
    positions[: starts[-1]] = torch.cat([torch.arange(b - a) for a, b in pairwise(starts)])
    angles = positions[:, None] * inv_freq[None].float()
    return torch.polar(torch.ones_like(angles), angles)


def _joined(norm: Any | None, dtype: torch.dtype, *weights: Tensor) -> Tensor:
    """Weights of products that share an input, and the weight of the norm before them, as one."""
    joined = torch.cat(weights)
    return (joined if norm is None else joined * norm.weight).to(dtype)


def is_plain(base: Any) -> bool:
    """Whether rows of `base` may stay end to end, no dropout being drawn."""
    return stack_of(base) is not None
