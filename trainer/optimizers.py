"""The optimizers and the schedule: fused AdamW, Muon for the matrices inside blocks; warm-up, then a cosine.

In: a model and settings. Out: a list of optimizers whose rates `set_rates` sets from the step alone.
"""

import math
from typing import Any

from zhiling.trainer.config import OptimizerSettings
from zhiling.trainer.device import blocks_of


def make_optimizers(model: Any, settings: OptimizerSettings) -> list[Any]:
    """Optimizers over the trainable parameters; vectors (norms, biases) do not decay."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    blocks = blocks_of(model) if settings.name == "muon" else []
    inside = {id(p) for block in blocks for p in block.parameters() if p.ndim == 2}
    rest = [p for p in trained if id(p) not in inside]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    made: list[Any] = []
    groups = [group for group in groups if group["params"]]
    if groups:  # an adapter's matrices may all be Muon's
        made.append(torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True))
    matrices = [p for p in trained if id(p) in inside]
    if matrices:
        made.append(torch.optim.Muon(
            matrices, lr=settings.muon_learning_rate, weight_decay=settings.weight_decay, momentum=settings.beta2,
        ))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate at `step` (from 0) as a share of its peak."""
    warm = math.ceil(settings.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    along = (step - warm) / max(1, steps - warm)
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * along))


def set_rates(optimizers: list[Any], share: float) -> None:
    """Set every group's rate to `share` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
