"""The training loop: one for every stage. Takes a model, batches, a loss and settings; knows no task.

In: those, and a work folder. Out: the model with the weights that did best on validation, and what happened.
Killed and started again, it ends with the same weights. Stops on a loss that is not finite, naming the rows;
halves the micro-batch when memory runs out, the global batch staying what it was.
"""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from zhiling.console import Bar, note, progress
from zhiling.errors import UserError
from zhiling.trainer.batches import Batches, Micro
from zhiling.trainer.checkpoint import Checkpoints, State, read_state, restore, training_state, write_tensors
from zhiling.trainer.config import StageSettings
from zhiling.trainer.loss import Loss, on_device
from zhiling.trainer.optimizers import make_optimizers, rate, set_rates

LOG_SECONDS = 2.0
EXPLODED = 5.0  # times the loss of the first steps


@dataclass(frozen=True)
class Run:
    """What the loop needs beside the model: batches, validation, loss, settings, folder, name, precision."""

    name: str
    batches: Batches
    validation: list[Micro]
    loss: Loss
    settings: StageSettings
    work: Path
    bf16: bool = False
    flops_per_token: float = 0.0
    peak_flops: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        steps = math.ceil(self.settings.epochs * self.batches.steps_per_epoch)
        return min(steps, self.settings.max_steps or steps)

    @property
    def steps_between_validations(self) -> int:
        """Steps from one validation to the next."""
        return max(1, round(self.settings.validate_every * self.batches.steps_per_epoch))


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    tokens: int
    best_step: int
    best_loss: float


def train(model: Any, run: Run) -> Outcome:
    """Train `model` in place, from the newest checkpoint in the work folder where there is one."""
    optimizers = make_optimizers(model, run.settings.optimizer)
    with Checkpoints(run.work / "checkpoints") as checkpoints:
        state = checkpoints.newest()
        if state is None:
            state = State(micro_tokens=run.settings.micro_tokens)
        else:
            restore(model, optimizers, state.tensors)
            state.tensors = {}
            note(f"{run.name}: going on from step {state.step} of {run.steps}")
        log = Log(run, state)
        with progress(run.name, run.steps) as bar:
            bar(state.step)
            _steps(model, optimizers, run, state, checkpoints, log, bar)
        checkpoints.wait()
    assert state.best_step is not None and state.best_loss is not None
    best = read_state(_best_folder(run, state.best_step))
    if best is None:
        raise UserError(str(run.work), "the best checkpoint is damaged", "remove the folder and train again")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(best.tensors[name])
    return Outcome(state.step, state.tokens, state.best_step, state.best_loss)


def _steps(
    model: Any, optimizers: list[Any], run: Run, state: State, checkpoints: Checkpoints, log: "Log", bar: Bar
) -> None:
    model.train()
    saved = monotonic()
    for micros in _ahead(run, state):
        set_rates(optimizers, rate(state.step, run.steps, run.settings.optimizer))
        loss = _step(model, optimizers, run, state, micros)
        state.step += 1
        state.tokens += sum(m.tokens for m in micros)
        last = state.step == run.steps
        valid = None
        if last or state.step % run.steps_between_validations == 0:
            valid = evaluate(model, run.validation, run.loss, run.bf16)
            _keep_best(model, run, state, valid)
        bar(1, log.step(state, loss, valid, optimizers[0].param_groups[0]["lr"]))
        if not last and monotonic() - saved >= run.settings.checkpoint_seconds:
            log.flush()
            state.tensors = training_state(model, optimizers)
            checkpoints.save(state)
            state.tensors = {}
            saved = monotonic()
    log.flush()


def _ahead(run: Run, state: State) -> Iterator[list[Micro]]:
    """The batches from `state.step` on, each made while the one before is trained on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(run.batches.batch, state.step, state.micro_tokens)
        for step in range(state.step, run.steps):
            micros, size = coming.result(), state.micro_tokens
            if step + 1 < run.steps:
                coming = reader.submit(run.batches.batch, step + 1, size)
            yield micros


def _step(model: Any, optimizers: list[Any], run: Run, state: State, micros: list[Micro]) -> float:
    """One optimizer step on a global batch; the loss before it."""
    while True:
        try:
            loss = _gradients(model, run, micros)
            break
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or max(len(m.starts) for m in micros) == 2:
                raise
            state.micro_tokens = max(1, min(state.micro_tokens, max(m.tokens for m in micros)) // 2)
            note(f"{run.name}: out of memory; micro-batches of {state.micro_tokens} tokens from step {state.step} on")
            micros = run.batches.batch(state.step, state.micro_tokens)
            torch.cuda.empty_cache()
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, run.settings.optimizer.clip, foreach=True)
    if not (math.isfinite(loss) and math.isfinite(float(norm))):
        raise _not_finite(run, state, micros, loss)
    for optimizer in optimizers:
        optimizer.step()
    return loss


def _gradients(model: Any, run: Run, micros: list[Micro]) -> float:
    model.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for micro in micros:
        with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16):
            loss = run.loss(model, on_device(micro, device))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return float(total)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or here."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _not_finite(run: Run, state: State, micros: list[Micro], loss: float) -> UserError:
    rows = [row for micro in micros for row in micro.rows]
    path = run.work / "not-finite.json"
    path.write_text(json.dumps({"step": state.step, "loss": str(loss), "rows": rows}, indent=2), encoding="utf-8")
    shown = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return UserError(
        f"{run.name}, step {state.step}", f"the loss is not finite ({loss}) on rows {shown} (all in {path})",
        "lower the learning rate or mend the rows; the last good checkpoint is kept",
    )


def evaluate(model: Any, micros: list[Micro], loss: Loss, bf16: bool = False) -> float:
    """The loss over micro-batches whose weights sum to 1."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        total = sum(float(loss(model, on_device(micro, device))) for micro in micros)
    model.train(was_training)
    return total


def _best_folder(run: Run, step: int) -> Path:
    return run.work / "best" / f"step-{step:08d}"


def _keep_best(model: Any, run: Run, state: State, valid: float) -> None:
    """Keep these weights where they are the best so far; older ones stay until a checkpoint forgets them."""
    import shutil

    if state.best_loss is not None and valid >= state.best_loss:
        return
    state.best_step, state.best_loss = state.step, valid
    folder = _best_folder(run, state.step)
    shutil.rmtree(folder, ignore_errors=True)
    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    write_tensors(folder, {"step": state.step, "best_loss": valid}, weights)


class Log:
    """`metrics.jsonl`, one line a step, and the note behind the progress bar."""

    def __init__(self, run: Run, state: State) -> None:
        self.run, self.path, self.lines = run, run.work / "metrics.jsonl", []  # type: Run, Path, list[str]
        self.started, self.tokens, self.valid = monotonic(), state.tokens, state.best_loss
        kept = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        kept = [line for line in kept if line.endswith("}") and json.loads(line)["step"] <= state.step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def step(self, state: State, loss: float, valid: float | None, lr: float) -> str:
        """Record a step; return the note for the bar."""
        speed = (state.tokens - self.tokens) / max(1e-9, monotonic() - self.started)
        line: dict[str, Any] = {"step": state.step, "tokens": state.tokens, "loss": loss, "lr": lr}
        line |= {"tokens_per_s": round(speed), "seconds": round(monotonic() - self.started, 3)}
        if valid is not None:
            self.valid = line["validation_loss"] = valid
        self.lines.append(json.dumps(line))
        shown = f"loss {loss:.3f}" + (f", validation {self.valid:.3f}" if self.valid is not None else "")
        mfu = f", MFU {speed * self.run.flops_per_token / self.run.peak_flops:.0%}" if self.run.peak_flops else ""
        return f"{shown}, {speed:,.0f} tokens/s{mfu}"

    def flush(self) -> None:
        """Write the lines gathered so far."""
        with self.path.open("a", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in self.lines)
        self.lines.clear()
