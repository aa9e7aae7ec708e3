"""The training loop: one for every stage. Takes a model, batches, a loss and settings; knows no task.

In: those, and a work folder. Out: the model with the weights that did best on validation, and what happened.
Killed and started again, it ends with the same weights. Stops on a loss that is not finite or explodes, naming
the rows; halves the micro-batch when memory runs out, the global batch staying what it was. Several ranks train
on the same global batches as one.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from zhiling.console import Bar, note, progress
from zhiling.errors import UserError
from zhiling.store import write_json
from zhiling.trainer.batches import Batches, Micro
from zhiling.trainer.checkpoint import BEST, METRICS, Checkpoints, State, read_state, training_state, write_tensors
from zhiling.trainer.config import StageSettings
from zhiling.trainer.distributed import ALONE, Team, share_model, unsynced, whole
from zhiling.trainer.loss import Loss, OnDevice, on_device
from zhiling.trainer.optimizers import make_optimizers, rate, set_rates, step_all
from zhiling.trainer.parts import add_gradients, can_part, parts
from zhiling.trainer.tracking import Tracker

EXPLODED = 5.0  # times the loss of the first steps
SMOOTH = 10  # losses that are averaged, the first and the last ones
Watch = Callable[[int, float], None]
Lose = Callable[[OnDevice], torch.Tensor]


class Stop(Exception):  # noqa: N818
    """Raised by a `watch`: this run is not worth going on with."""


@dataclass(frozen=True)
class Run:
    """What the loop needs beside the model: batches, validation, loss, settings, folder, name, precision.

    `watch` is told the number of each validation, from 1, and its loss, and may raise `Stop`.
    """

    name: str
    batches: Batches
    validation: list[Micro]
    loss: Loss
    settings: StageSettings
    work: Path
    bf16: bool = False
    flops_per_token: float = 0.0
    peak_flops: float = 0.0
    team: Team = ALONE
    watch: Watch | None = None
    trackers: Sequence[Tracker] = ()
    compiled: bool = False
    workers: int = 1  # threads that share out the parts of a micro-batch; the weights do not hang on it

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
    trained, lose = share_model(run.team, model, run.loss, run.compiled)
    optimizers = make_optimizers(trained, run.settings.optimizer)
    with Checkpoints(run.work / "checkpoints", run.team) as checkpoints:
        state = checkpoints.newest()
        if state is None:
            state = State(micro_tokens=run.settings.micro_tokens)
        else:
            checkpoints.restore(trained, optimizers, state)
            state.micro_tokens = min(state.micro_tokens, run.settings.micro_tokens)
            note(f"{run.name}: going on from step {state.step} of {run.steps}")
        log = Log(run, state)
        with progress(run.name, run.steps) as bar:
            bar(state.step)
            try:
                _steps(trained, lose, optimizers, run, state, checkpoints, log, bar)
            finally:
                log.flush()
        checkpoints.wait()
    assert state.best_step is not None and state.best_loss is not None
    run.team.wait()
    best = read_state(_best_folder(run, state.best_step))
    if best is None:
        raise UserError(str(run.work), "the best checkpoint is damaged", "remove the folder and train again")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(best.tensors[name])
    return Outcome(state.step, state.tokens, state.best_step, state.best_loss)


def _steps(
    model: Any, lose: Lose, optimizers: list[Any], run: Run, state: State, checkpoints: Checkpoints, log: "Log",
    bar: Bar,
) -> None:
    model.train()
    saved = monotonic()
    for micros, shares in _ahead(model, run, state):
        set_rates(optimizers, rate(state.step, run.steps, run.settings.optimizer))
        loss, due = _step(model, lose, optimizers, run, state, micros, shares, monotonic() - saved)
        state.step += 1
        state.tokens += sum(m.tokens for m in micros)
        last = state.step == run.steps
        valid = None
        if last or state.step % run.steps_between_validations == 0:
            valid = _validate(model, lose, run)
            if not math.isfinite(valid):
                saw = f"the loss on validation is not finite ({valid}) after a step"
                raise _stopped(run, state.step - 1, micros, "not-finite", saw)
            _keep_best(model, run, state, valid)
        bar(1, log.step(state, loss, valid, optimizers[0].param_groups[0]["lr"]))
        if log.exploded:
            raise _stopped(run, state.step - 1, micros, "exploded", log.exploded)
        if valid is not None and run.watch:
            run.watch(math.ceil(state.step / run.steps_between_validations), valid)
        if due and not last and loss <= log.limit / 2:  # a loss on its way up is nothing to go on from
            log.flush()
            state.tensors = training_state(model, optimizers)
            checkpoints.save(state)
            state.tensors = {}
            saved = monotonic()


def _ahead(model: Any, run: Run, state: State) -> Iterator[tuple[list[Micro], list[OnDevice]]]:
    """The batches from `state.step` on, and this rank's share on its device, each made during the step before."""
    def make(step: int, micro_tokens: int) -> tuple[list[Micro], list[OnDevice]]:
        micros = run.batches.batch(step, micro_tokens * run.team.world)
        return micros, shares_of(model, run, micros)

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(make, state.step, state.micro_tokens)
        size = state.micro_tokens
        for step in range(state.step, run.steps):
            made = coming.result()
            if size != state.micro_tokens:  # memory ran out after this batch was cut
                size = state.micro_tokens
                made = make(step, size)
            if step + 1 < run.steps:
                coming = reader.submit(make, step + 1, size)
            yield made


def shares_of(model: Any, run: Run, micros: list[Micro]) -> list[OnDevice]:
    """This rank's part of each micro-batch on its device; alone on a processor, all parts of each."""
    device = next(model.parameters()).device
    if run.team.world == 1 and device.type == "cpu":
        micros = [part for micro in micros for part in parts(micro, can_part(model))]
    return [on_device(run.team.share(micro), device) for micro in micros]


def _step(
    model: Any, lose: Lose, optimizers: list[Any], run: Run, state: State, micros: list[Micro],
    shares: list[OnDevice], since_saved: float,
) -> tuple[float, bool]:
    """One optimizer step on a global batch: the loss before it, and whether the leader's clock asks to save."""
    while True:
        try:
            total = gradients(model, lose, run, shares)
            break
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if max(len(m.starts) for m in micros) == 2:
                raise UserError(f"{run.name}, step {state.step}", "out of memory with one row at a time",
                                "use a shorter context or a smaller model") from None
            if run.team.world > 1:  # the other ranks wait inside this step
                raise UserError(f"{run.name}, rank {run.team.rank}", "out of memory", "lower micro_tokens") from None
            state.micro_tokens = max(1, min(state.micro_tokens, max(m.tokens for m in micros)) // 2)
            note(f"{run.name}: out of memory; micro-batches of {state.micro_tokens} tokens from step {state.step} on")
            micros = run.batches.batch(state.step, state.micro_tokens)
            shares = shares_of(model, run, micros)
            torch.cuda.empty_cache()
    trained = [p for p in model.parameters() if p.requires_grad]
    length = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None], foreach=True)
    norm = float(whole(length))
    if norm > run.settings.optimizer.clip:
        torch.nn.utils.clip_grads_with_norm_(trained, run.settings.optimizer.clip, length, foreach=True)
    due = float(run.team.leads and since_saved >= run.settings.checkpoint_seconds)
    loss, due = run.team.sum(torch.stack([total, total.new_tensor(due)])).tolist()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise _stopped(run, state.step, micros, "not-finite", f"the loss is not finite ({loss})")
    step_all(optimizers, run.workers if run.team.world == 1 else 1)
    return loss, bool(due)


def gradients(model: Any, lose: Lose, run: Run, shares: list[OnDevice]) -> torch.Tensor:
    """This rank's part of the batch's loss; the gradients are the whole batch's."""
    model.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    if run.workers > 1 and run.team.world == 1 and can_part(model):
        return add_gradients(model, lose, shares, run.workers, run.bf16)
    total = torch.zeros((), device=device)
    for i, micro in enumerate(shares):
        with unsynced(lose, last=i == len(shares) - 1):
            with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16):
                loss = lose(micro)
            # DDP and FSDP average over ranks; what is wanted is the sum
            (loss if run.team.world == 1 else loss * run.team.world).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or here."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _stopped(run: Run, step: int, micros: list[Micro], why: str, saw: str) -> UserError:
    rows = [row for micro in micros for row in micro.rows]
    path = run.work / f"{why}.json"
    if run.team.leads:
        write_json(path, {"step": step, "saw": saw, "rows": rows})
    shown = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return UserError(
        f"{run.name}, step {step}", f"{saw} on rows {shown} (all in {path})",
        "lower the learning rate or mend the rows; the last good checkpoint is kept",
    )


def _validate(model: Any, lose: Lose, run: Run) -> float:
    """The loss on validation, shared out among the ranks."""
    shares = [run.team.share(micro) for micro in run.validation]
    found = evaluate(model, shares, (lambda _, micro: lose(micro)) if run.team.sharded else run.loss, run.bf16)
    if run.team.sharded:
        lose.reshard()  # type: ignore[attr-defined]  # without a backward pass, the outermost weights stay whole
    return found if run.team.world == 1 else float(run.team.sum(torch.tensor(found, dtype=torch.float64)))


def evaluate(model: Any, micros: list[Micro], loss: Loss, bf16: bool = False) -> float:
    """The loss over micro-batches whose weights sum to 1."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        total = sum(float(loss(model, on_device(micro, device))) for micro in micros)
    model.train(was_training)
    return total


def _best_folder(run: Run, step: int) -> Path:
    return run.work / BEST / f"step-{step:08d}"


def _keep_best(model: Any, run: Run, state: State, valid: float) -> None:
    """Keep these weights where they are the best so far; older ones stay until no checkpoint names them."""
    if state.best_loss is not None and valid >= state.best_loss:
        return
    state.best_step, state.best_loss = state.step, valid
    folder = _best_folder(run, state.step)
    weights = {name: whole(p.detach()).cpu().contiguous() for name, p in model.named_parameters()}
    if run.team.leads:
        shutil.rmtree(folder, ignore_errors=True)
        write_tensors(folder, {"step": state.step, "best_loss": valid}, weights)


class Log:
    """`metrics.jsonl`, one line a step, other trackers, the note behind the progress bar, and what an explosion is:
    the mean of the last ten losses above five times that of the first ten, which counts as 1 at least.
    """

    def __init__(self, run: Run, state: State) -> None:
        self.run, self.path, self.lines = run, run.work / METRICS, []  # type: Run, Path, list[str]
        self.started, self.tokens, self.valid = monotonic(), state.tokens, state.best_loss
        kept = self.path.read_text(encoding="utf-8").splitlines() if run.team.leads and self.path.is_file() else []
        kept = [line for line in kept if line.endswith("}") and json.loads(line)["step"] <= state.step]
        self.losses: list[float] = run.team.agree([json.loads(line)["loss"] for line in kept])
        if run.team.leads:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def step(self, state: State, loss: float, valid: float | None, lr: float) -> str:
        """Record a step; return the note for the bar."""
        self.losses.append(loss)
        speed = (state.tokens - self.tokens) / max(1e-9, monotonic() - self.started)
        line: dict[str, Any] = {"step": state.step, "tokens": state.tokens, "loss": loss, "lr": lr}
        line |= {"tokens_per_s": round(speed), "seconds": round(monotonic() - self.started, 3)}
        if valid is not None:
            self.valid = line["validation_loss"] = valid
        self.lines.append(json.dumps(line))
        for tracker in self.run.trackers:
            tracker(state.step, line)
        shown = f"loss {loss:.3f}" + (f", validation {self.valid:.3f}" if self.valid is not None else "")
        peak = self.run.peak_flops * self.run.team.world
        mfu = f", MFU {speed * self.run.flops_per_token / peak:.0%}" if peak else ""
        return f"{shown}, {speed:,.0f} tokens/s{mfu}"

    @property
    def limit(self) -> float:
        """The loss above which training has exploded; infinite during the first steps."""
        first = self.losses[:SMOOTH]
        return EXPLODED * max(1.0, sum(first) / SMOOTH) if len(first) == SMOOTH else math.inf

    @property
    def exploded(self) -> str:
        """What to say where training has exploded; empty where it has not."""
        last = sum(self.losses[-SMOOTH:]) / SMOOTH
        said = f"the loss exploded (mean of the last {SMOOTH}: {last:.3g}, limit {self.limit:.3g})"
        return said if last > self.limit else ""

    def flush(self) -> None:
        """Write the lines gathered so far."""
        if self.run.team.leads:
            with self.path.open("a", encoding="utf-8") as f:
                f.writelines(line + "\n" for line in self.lines)
        self.lines.clear()
