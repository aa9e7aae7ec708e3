"""Where training runs and in which precision: the GPU where there is one, bf16 where the processor multiplies it."""

import sys
from functools import cache
from typing import Any

# glibc's mallopt, from <malloc.h>: how large a block comes from the system, when free memory goes back, how many heaps
KEPT = {-3: 1 << 30, -1: (1 << 31) - 1, -8: 1}


def pick_device() -> Any:
    """The device to train on."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


SMALL = 8_000_000  # parameters below which one thread is faster than several that wait for one another


def use_threads(parameters: int, device: Any) -> int:
    """On the processor, one thread for a small model: its products are too small to share out, and where anything
    else runs on the machine, threads that spin at each other's barriers made training three times slower.

    Returns how many workers, with a part of each batch of their own, training may use instead.
    """
    import torch

    from zhiling.trainer.parts import PARTS, cores

    workers = min(PARTS, cores()) if device.type == "cpu" else 1
    if device.type == "cpu":  # said each time: a process may train a small model and then a large one
        torch.set_num_threads(1 if parameters < SMALL else cores())
    return workers


def keep_memory() -> None:
    """Let this process keep what it frees: each step asks for the same blocks again, and pages that the system takes
    back and clears in between cost a tenth of a small model's step, half of it in the threads' way to one another.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # other allocators: as it was
        for option, value in KEPT.items():
            mallopt(option, value)


def bf16_wanted(precision: str, device: Any) -> bool:
    """Whether to train under bf16 autocast: as told, or where the device has bf16 products in hardware."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def blocks_of(model: Any) -> list[Any]:
    """The layers that a model repeats: what is compiled, checkpointed and sharded one by one."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]


def compile_blocks(model: Any) -> None:
    """torch.compile each block in place, for any length; the weights keep their names."""
    for block in blocks_of(model):
        block.compile(dynamic=True)


def checkpoint_activations(model: Any) -> None:
    """Keep only what goes into each block; the rest is computed again for the backward pass."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # older libraries have the older name


def flops_per_token(model: Any, learned: float, row: float) -> float:
    """Operations that training needs for one token, backward pass included: 6 for each weight of the blocks, 6 for
    each weight of the head and share of `learned` tokens, 12 x layers x width x tokens that it sees (all of `row`, half
    where it sees those before it) for scores and mixing. Where the last layer works for learned tokens only, its
    weights count like the head's; so do its queries where those are few.
    """
    from zhiling.trainer.forward import FEW, is_plain
    from zhiling.trainer.model import ENCODERS

    config, words = model.config, model.get_output_embeddings()
    layers = float(config.num_hidden_layers)
    # BERT says layer, others layers
    weights = {name: p.numel() for name, p in model.named_parameters() if ".layer" in name and p.ndim == 2}
    blocks = float(sum(weights.values()))
    if is_plain(model.base_model) and words is not None:
        last, behind = f".layers.{config.num_hidden_layers - 1}.", (".mlp.", ".o_proj.", ".Wo.")
        once = sum(n for name, n in weights.items() if last in name and any(part in name for part in behind))
        few = learned * FEW <= 1
        blocks -= (1 - learned) * (once + few * config.hidden_size**2)
        layers -= (1 - learned) * few
    head = words.weight.numel() if words is not None else 0  # a classifier has no words
    seen = row if config.model_type in ENCODERS else row / 2
    return float(6 * blocks + 6 * head * learned + 12 * layers * config.hidden_size * seen)


@cache
def peak_flops(device: Any, bf16: bool, size: int = 2048) -> float:
    """Operations a second of a square product of `size` on all cores, as measured once here: the best of five."""
    from time import perf_counter

    import torch

    from zhiling.trainer.parts import cores

    threads = torch.get_num_threads()
    torch.set_num_threads(cores())  # workers use them all, however few threads one product has

    matrix = torch.ones(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(5):
        start = perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, perf_counter() - start)
    torch.set_num_threads(threads)
    return 2.0 * size**3 / best
