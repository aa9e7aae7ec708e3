"""The layers of a Llama and of a ModernBERT in the same terms: what the fast forward computes.

In: a model's base. Out: its blocks, or None for what is not plain: biases, dropout, grouped heads, adapters but LoRA, a
scaled rotation, something done around a block. Both families norm, mix, norm and gate; they differ in the norm, in what
the gate is, and in which keys a query may see. LoRA's product is added to the weight, not to what comes out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from zhiling.trainer.kernels import ROUND


@dataclass(frozen=True)
class Block:
    """The parts of one layer; linear ones that share an input side by side."""

    before: Any | None  # the norm before attention; None where what comes in is a norm's output already
    qkv: tuple[Any, ...]
    out: Any
    between: Any  # the norm after attention
    up: tuple[Any, ...]  # first half: what goes through the gate's function; second half: what that is multiplied with
    down: Any
    inv_freq: Tensor
    window: int | None = None  # how far a query sees to either side

    @property
    def linear(self) -> Iterator[Any]:
        """All its products."""
        return iter((*self.qkv, self.out, *self.up, self.down))


@dataclass(frozen=True)
class Stack:
    """A plain model without its words: embeddings, blocks, last norm, and what is the same in all blocks."""

    embed: Any
    blocks: tuple[Block, ...]
    norm: Any
    eps: float
    width: int  # of an attention head
    causal: bool
    centred: bool  # its norms take the mean away first
    gate: Literal["silu", "gelu"]

    @property
    def heads(self) -> int:
        """How many each layer has."""
        found: int = self.blocks[0].out.in_features // self.width
        return found


def stack_of(base: Any) -> Stack | None:
    """The blocks of a plain model; None for any other."""
    read = {"llama": _llama, "modernbert": _modernbert}.get(base.config.model_type)
    if read is None or not hasattr(base, "layers"):  # a tuned prompt's wrapper has none
        return None
    layer = base.layers[0]
    if layer.gradient_checkpointing or layer._compiled_call_impl is not None:
        return None  # what is done around a block happens when the block is called
    stack = read(base)
    return stack if stack and all(_is_plain(part) for block in stack.blocks for part in block.linear) else None


def weight_of(part: Any) -> Tensor:
    """The weight of a product, with what LoRA adds to it."""
    if type(part) is nn.Linear:
        return part.weight
    (name,) = part.active_adapters
    found: Tensor = part.base_layer.weight + part.get_delta_weight(name)
    return found


def _is_plain(part: Any) -> bool:
    """Whether a product has one weight and no bias; a DTensor is parted."""
    if _is_lora(part):
        part = part.base_layer
    return type(part) is nn.Linear and part.bias is None and type(part.weight) is nn.Parameter


def _is_lora(part: Any) -> bool:
    """Whether a product is that of peft's LoRA as it is first described: not DoRA, no dropout, not switched off."""
    if not hasattr(part, "lora_A") or part.lora_variant or part.merged or part.disable_adapters:
        return False
    names = part.active_adapters
    return len(names) == 1 and type(part.lora_dropout[names[0]]) is nn.Identity and not part.lora_bias[names[0]]


def _llama(base: Any) -> Stack | None:
    config = base.config
    rope = getattr(config, "rope_parameters", None) or {}
    if config.num_key_value_heads != config.num_attention_heads or config.attention_dropout:
        return None
    if rope.get("rope_type", "default") != "default" or config.hidden_act != "silu":
        return None
    blocks = [
        Block(
            layer.input_layernorm, (own.q_proj, own.k_proj, own.v_proj), own.o_proj, layer.post_attention_layernorm,
            (mlp.gate_proj, mlp.up_proj), mlp.down_proj, base.rotary_emb.inv_freq,
        )
        for layer in base.layers for own, mlp in [(layer.self_attn, layer.mlp)]
    ]
    width = base.layers[0].self_attn.head_dim
    return Stack(base.embed_tokens, tuple(blocks), base.norm, config.rms_norm_eps, width, True, False, "silu")


def _modernbert(base: Any) -> Stack | None:
    config = base.config
    if config.norm_bias or config.embedding_dropout or config.attention_dropout or config.mlp_dropout:
        return None
    if any(rope["rope_type"] != "default" for rope in config.rope_parameters.values() if rope):
        return None
    if config.hidden_activation != "gelu" or config.sliding_window % ROUND:
        return None
    blocks = [
        Block(
            None if isinstance(layer.attn_norm, nn.Identity) else layer.attn_norm, (layer.attn.Wqkv,), layer.attn.Wo,
            layer.mlp_norm, (layer.mlp.Wi,), layer.mlp.Wo,
            getattr(base.rotary_emb, f"{layer.attention_type}_inv_freq"),
            config.sliding_window if layer.attention_type == "sliding_attention" else None,
        )
        for layer in base.layers
    ]
    width = base.layers[0].attn.head_dim
    return Stack(base.embeddings, tuple(blocks), base.final_norm, config.norm_eps, width, False, True, "gelu")
