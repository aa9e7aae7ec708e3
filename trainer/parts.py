"""Gradients of a micro-batch's parts, several at once: on processors, threads that each have a part of their own.

In: micro-batches, a loss, a number of workers. Out: parts, cut by the rows alone and never by the number of workers,
and their gradients, added in the order of the parts whichever thread ends first. Threads that share one small product
wait for one another at each; these meet once a step. Only for plain layers, where nothing is drawn at random; for
others, whose rows are padded, parts are rows of like length, one part after another.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zhiling.trainer.batches import Micro, deal
from zhiling.trainer.forward import is_plain

PARTS = 2       # that a micro-batch is cut into
SMALL = 1024    # tokens of a micro-batch that stays whole
ALIKE = 0.75    # of the longest row's length that a row has which is padded beside it


@cache
def cores() -> int:
    """Threads that this process may use, as they were when first asked for."""
    return torch.get_num_threads()


def can_part(model: Any) -> bool:
    """Whether parts of a micro-batch may be worked on at once: on a processor, and no dropout is drawn."""
    if next(model.parameters()).device.type != "cpu" or not is_plain(model.base_model):
        return False
    return not any(isinstance(part, nn.Dropout) and part.p for part in model.modules())


def parts(micro: Micro, plain: bool) -> list[Micro]:
    """A micro-batch in parts whose losses add up to its own: of about the same number of tokens where layers are
    `plain`, else of rows of like length.
    """
    if not plain:
        return _alike(micro)
    if micro.tokens < SMALL or len(micro.starts) - 1 < PARTS:
        return [micro]
    return [micro.only(rows) for rows in deal(micro.lengths, PARTS)]


def _alike(micro: Micro) -> list[Micro]:
    groups: list[list[int]] = []
    width = 0.0
    for row, length in enumerate(micro.lengths):  # the longest come first
        if not groups or length < ALIKE * width:
            groups.append([])
            width = length
        groups[-1].append(row)
    return [micro.only(group) for group in groups]


def add_gradients(model: Any, lose: Callable[[Any], Tensor], shares: list[Any], workers: int, bf16: bool) -> Tensor:
    """The sum of the losses of `shares`; their gradients are added to the parameters', in order."""
    trained = [p for p in model.parameters() if p.requires_grad]
    threads = max(1, torch.get_num_threads() // workers)

    def one(share: Any) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = lose(share)
        return loss.detach(), torch.autograd.grad(loss, trained, allow_unused=True)

    total = torch.zeros(())
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        for loss, gradients in pool.map(one, shares):
            total += loss
            for p, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    p.grad = gradient if p.grad is None else p.grad.add_(gradient)
    return total
