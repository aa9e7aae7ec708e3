"""What a training run will cost, before it runs: steps, tokens, memory and time.

In: a model, which is spent, and the loop's settings. Out: the plan as plain numbers, from two real steps: memory is
the process's peak after them (on a GPU, what its tensors held), time that of the second, times the steps, and a
forward pass, a third of a step, over the validation rows as often as they are asked.
"""

import math
from dataclasses import astuple, dataclass, fields, replace
from time import perf_counter
from typing import Any

from zhiling.console import table
from zhiling.trainer.batches import Micro
from zhiling.trainer.distributed import ALONE
from zhiling.trainer.loop import Run, gradients, shares_of


@dataclass(frozen=True)
class Plan:
    """A run's cost."""

    parameters: int
    trained: int
    steps: int
    tokens_per_step: int
    tokens: int
    memory_mib: int
    seconds: int

    def show(self, stage: str) -> None:
        """Print what a stage would cost."""
        rows = [[name, number] for name, number in zip(NAMES, astuple(self), strict=True)]
        table(f"{stage}, not run", ["what", "how much"], rows)


NAMES = [field.name.replace("_", " ") for field in fields(Plan)]  # of its numbers, in a table


def plan(model: Any, run: Run) -> Plan:
    """The cost of `run`: its first batch is trained on twice, which `model` does not survive as it was."""
    from zhiling.trainer.model import count_parameters

    micros = run.batches.batch(0, run.settings.micro_tokens)
    tokens = sum(m.tokens for m in micros)
    seconds = _second_step(model, run, micros)
    validations = math.ceil(run.steps / run.steps_between_validations)
    asked = validations * sum(m.tokens for m in run.validation) * seconds / tokens / 3
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Plan(
        count_parameters(model), trained, run.steps, tokens, tokens * run.steps, _peak_mib(model),
        math.ceil(seconds * run.steps + asked),
    )


def _second_step(model: Any, run: Run, micros: list[Micro]) -> float:
    """Seconds of one step, the second of two: the first one is slower."""
    import torch

    from zhiling.trainer.optimizers import make_optimizers, step_all

    device = next(model.parameters()).device
    optimizers = make_optimizers(model.train(), run.settings.optimizer)
    alone = replace(run, team=ALONE)
    start = 0.0
    for _ in range(2):
        start = perf_counter()
        gradients(model, lambda micro: run.loss(model, micro), alone, shares_of(model, alone, micros))
        step_all(optimizers, run.workers)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return perf_counter() - start


def _peak_mib(model: Any) -> int:
    """The most memory that there was so far."""
    import resource
    import sys

    import torch

    if next(model.parameters()).device.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
