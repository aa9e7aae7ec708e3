"""The optimizers and the schedule: fused AdamW, Muon for the matrices inside blocks; warm-up, then a cosine.

In: a model and settings. Out: a list of optimizers whose rates `set_rates` sets from the step alone, and their step.
Muon's products are a quarter of a small model's step, so its matrices are dealt to as many optimizers as a
micro-batch has parts, which threads step at once.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zhiling.trainer.config import OptimizerSettings
from zhiling.trainer.device import blocks_of


def make_optimizers(model: Any, settings: OptimizerSettings) -> list[Any]:
    """Optimizers over the trainable parameters; vectors (norms, biases) do not decay."""
    import torch

    from zhiling.trainer.batches import deal
    from zhiling.trainer.parts import PARTS

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
    for some in deal([min(p.shape) * p.numel() for p in matrices], PARTS):
        if some:
            made.append(torch.optim.Muon(
                [matrices[i] for i in some], lr=settings.muon_learning_rate, weight_decay=settings.weight_decay,
                momentum=settings.beta2,
            ))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def step_all(optimizers: list[Any], workers: int) -> None:
    """One step of each, `workers` at once; no parameter has two, so the weights do not hang on how many."""
    import torch

    if workers == 1 or len(optimizers) == 1:
        for optimizer in optimizers:
            optimizer.step()
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(lambda optimizer: optimizer.step(), optimizers):
            pass


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
