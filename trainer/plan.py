"""What a training run will cost, before it runs: steps, tokens, memory and time.

In: a model, the loop's settings, a measured step. Out: the plan as plain numbers. Memory is weights, gradients,
two moments (one for Muon's matrices) in fp32 and the activations of a micro-batch; time is that of one real step,
times the steps.
"""

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from zhiling.trainer.loop import Run


@dataclass(frozen=True)
class Plan:
    """A run's cost."""

    parameters: int
    steps: int
    tokens_per_step: int
    tokens: int
    memory_mib: int
    seconds: int

    def lines(self) -> list[list[Any]]:
        """Name and number, for a table."""
        return [[name.replace("_", " "), value] for name, value in asdict(self).items()]


def plan(model: Any, run: Run) -> Plan:
    """The cost of `run`: its first batch is trained on once, on a copy, and timed."""
    from zhiling.trainer.batches import Micro
    from zhiling.trainer.loss import on_device
    from zhiling.trainer.model import count_parameters

    micros: list[Micro] = run.batches.batch(0, run.settings.micro_tokens)
    tokens = sum(m.tokens for m in micros)
    seconds = _timed(model, run, [on_device(m, next(model.parameters()).device) for m in micros])
    parameters, config = count_parameters(model), model.config
    held = max(len(m.ids) for m in micros)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    width = config.hidden_size * 8 + inner * 4
    activations = held * config.num_hidden_layers * width * (2 if run.bf16 else 4)
    return Plan(
        parameters, run.steps, tokens, tokens * run.steps, round((16 * parameters + activations) / 2**20),
        round(seconds * run.steps),
    )


def _timed(model: Any, run: Run, micros: list[Any]) -> float:
    """Seconds of one forward and backward pass over a global batch, the second of two."""
    import torch

    device = next(model.parameters()).device
    start = 0.0
    for _ in range(2):
        start = perf_counter()
        for micro in micros:
            with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16):
                loss = run.loss(model, micro)
            loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)
    return perf_counter() - start
