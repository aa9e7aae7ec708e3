"""A Llama-like decoder's hidden states for rows of any length, without padding; equal to the library's own.

In: a model and rows end to end, and where a hidden state is asked for. Out: what `model.base_model` gives there for
each row alone. On processors and for plain layers the rows stay end to end through every product, projections that
share an input are one product, which takes in the weight of the norm before it, and the last layer works only where
it is asked. Elsewhere rows are padded on the right, which causal attention never sees, and the library's forward is
used.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from zhiling.trainer.kernels import LONGEST, add_norm, attention, gated, neighbours


def hidden_states(model: Any, ids: Tensor, starts: list[int], at: Tensor | None = None) -> Tensor:
    """Hidden states (M, D) at places `at` (M,), or at all, of rows end to end.

    `ids` (N,) are tokens; row i begins at `starts[i]`; the last is the end.
    """
    base = model.base_model
    lengths = [b - a for a, b in pairwise(starts)]
    if is_plain(base) and ids.device.type == "cpu" and max(lengths) <= LONGEST:
        return _flat(base, ids, starts, lengths, at)
    found = _padded(base, ids, starts)
    return found if at is None else found.index_select(0, at)


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


def _flat(base: Any, ids: Tensor, starts: list[int], lengths: list[int], at: Tensor | None) -> Tensor:
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    given = len(ids)
    positions = torch.zeros(len(ids))
    positions[: starts[-1]] = torch.cat([torch.arange(n) for n in lengths])
    angles = positions[:, None] * base.rotary_emb.inv_freq[None].float()
    turns = torch.polar(torch.ones_like(angles), angles)
    x_ND, more_ND = base.embed_tokens(ids), None
    with torch.autocast("cpu", enabled=False):
        for layer in base.layers:
            own, mlp, width = layer.self_attn, layer.mlp, layer.self_attn.head_dim
            before, between = layer.input_layernorm, layer.post_attention_layernorm
            x_ND, y_ND = add_norm(x_ND, more_ND, before.variance_epsilon, dtype)
            turned = (neighbours(part.weight, width) for part in (own.q_proj, own.k_proj))
            qkv = F.linear(y_ND, _joined(before, dtype, *turned, own.v_proj.weight))
            mixed_ND = attention(qkv.view(len(ids), 3, -1, width), turns, starts)
            if layer is base.layers[-1]:  # from here on places no longer mix
                x_ND, mixed_ND = _picked(x_ND, at, given), _picked(mixed_ND, at, given)
            more_ND = F.linear(mixed_ND, own.o_proj.weight.to(dtype))
            x_ND, y_ND = add_norm(x_ND, more_ND, between.variance_epsilon, dtype)
            both = F.linear(y_ND, _joined(between, dtype, mlp.gate_proj.weight, mlp.up_proj.weight))
            more_ND = F.linear(gated(both), mlp.down_proj.weight.to(dtype))
        _, y_ND = add_norm(x_ND, more_ND, base.norm.variance_epsilon, torch.float32)
        found: Tensor = y_ND * base.norm.weight
        return found


def _picked(x: Tensor, at: Tensor | None, given: int) -> Tensor:
    return x[:given] if at is None else x.index_select(0, at)


def is_plain(base: Any) -> bool:
    """Whether `base` is a Llama of plain layers: no biases, no adapters, no grouped heads, no scaled rotation."""
    config = base.config
    if not hasattr(base, "layers"):  # a tuned prompt's wrapper
        return False
    if config.model_type != "llama" or config.num_key_value_heads != config.num_attention_heads:
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default" or config.hidden_act != "silu":
        return False
    layer = base.layers[0]
    if layer.gradient_checkpointing or layer._compiled_call_impl is not None:
        return False  # what is done around a block happens when the block is called
    linears = [*layer.self_attn.children(), layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj]
    return all(
        type(part) is nn.Linear and part.bias is None and type(part.weight) is nn.Parameter  # a DTensor is parted
        for part in linears
    )


def _joined(norm: Any, dtype: torch.dtype, *weights: Tensor) -> Tensor:
    """Weights of products that share an input, and the weight of the norm before them, as one."""
    joined: Tensor = torch.cat(weights) * norm.weight
    return joined.to(dtype)
