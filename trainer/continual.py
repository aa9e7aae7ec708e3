"""Training on one task after another, and what is forgotten of the earlier ones.

In: a model, releases (each pack of each is a task, in order), the recipe's `continual` section. Out: a model folder
after each task, `continual.json` and `matrix.svg`: accuracy trained up to i, tested on j. Scores are on validation
rows whose texts chose no checkpoint. Refuses tasks without choices to score.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from zhiling.cards.plots import heatmap
from zhiling.console import note, table
from zhiling.errors import UserError, did_you_mean
from zhiling.seeds import draws
from zhiling.store import MANIFEST, file_digest, read_manifest, write_json, write_text
from zhiling.trainer.config import AdapterSettings, ContinualSettings, InstructSettings, TrainSettings
from zhiling.trainer.plan import NAMES, Plan
from zhiling.trainer.stages import Stage, make, on_rows

if TYPE_CHECKING:
    from torch import Tensor

    from zhiling.trainer.batches import Batches, Drawn, Micro
    from zhiling.trainer.loss import Loss, OnDevice


SCORED = 20  # rows of a task that tell how long scoring takes
REMEMBERS = {"replay": {"share"}, "ewc": {"ewc_weight", "fisher_rows"}, "distill": {"distill_weight", "temperature"}}


@dataclass(frozen=True)
class Task:
    """One pack of one release."""

    release: Path
    pack: str

    @property
    def name(self) -> str:
        """A folder's name for it."""
        return self.pack.replace("/", "-")


def tasks_of(releases: Sequence[Path], wanted: Sequence[str] | None) -> list[Task]:
    """The packs of each release as tasks: those wanted, in that order, or all by name."""
    packs = [(Path(r), sorted(read_manifest(Path(r), "release", "packs")["packs"])) for r in releases]
    tasks = [Task(release, pack) for release, names in packs for pack in names]
    if wanted is None:
        return tasks
    known = {task.pack for task in tasks}
    for pack in wanted:
        if pack not in known:
            raise UserError("train: finetune.packs", f"no '{pack}' in these releases", did_you_mean(pack, known))
    return [t for r in releases for pack in wanted for t in tasks if (t.release, t.pack) == (Path(r), pack)]


@dataclass(frozen=True)
class Forgetting:
    """`matrix[i][j]`: accuracy on task j after the first i tasks (row 0: before any)."""

    tasks: list[str]
    matrix: list[list[float]]

    @property
    def average(self) -> float:
        """Mean accuracy over all tasks at the end."""
        return sum(self.matrix[-1]) / len(self.tasks)

    @property
    def backward_transfer(self) -> float:
        """Mean over earlier tasks of accuracy at the end minus accuracy when just learned."""
        return self._mean([self.matrix[-1][j] - self.matrix[j + 1][j] for j in range(len(self.tasks) - 1)])

    @property
    def forgetting(self) -> float:
        """Mean over earlier tasks of the best accuracy there was since they were learned, minus that at the end."""
        best = [max(row[j] for row in self.matrix[j + 1 :]) for j in range(len(self.tasks) - 1)]
        return self._mean([b - end for b, end in zip(best, self.matrix[-1], strict=False)])

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else 0.0


def carry_on(model: Path, releases: Sequence[Path], settings: TrainSettings, out: Path) -> Forgetting:
    """Train `model` on each task in turn, score every task after each, write and print what was forgotten."""
    own, tasks = settings.continual, _checked_tasks(releases, settings)
    held_out = [_held_out(task, settings) for task in tasks]
    folders: list[Path] = []
    base = Path(model)
    matrix = [[accuracy(base, rows) for rows in held_out]]
    for i, task in enumerate(tasks):
        folders.append(_learn(i, tasks, folders, base, settings, Path(out)))
        if own.method == "adapters":  # each task has its own; what has none is answered by the base
            new = [accuracy(folders[i], held_out[i])]
            matrix.append(matrix[-1][:i] + new + matrix[0][i + 1 :])
        else:
            matrix.append([accuracy(folders[-1], rows) for rows in held_out])
        note(f"after {task.pack}: " + ", ".join(f"{t.pack} {s:.3f}" for t, s in zip(tasks, matrix[-1], strict=True)))
    found = Forgetting([task.pack for task in tasks], matrix)
    _write(found, own, Path(out))
    return found


def cost(model: Path, releases: Sequence[Path], settings: TrainSettings, out: Path) -> None:
    """Print what each task that is not trained yet would cost, and the scoring."""
    tasks, base, rows = _checked_tasks(releases, settings), Path(model), []  # type: list[Task], Path, list[list[Any]]
    folders: list[Path] = []
    for i, task in enumerate(tasks):
        told: list[Plan] = []
        made = _learn(i, tasks, folders, base, settings, Path(out), told.append)
        folders.append(made if (made / MANIFEST).is_file() else folders[-1] if folders else base)  # stands in for it
        rows += [[task.pack, *astuple(plan)] for plan in told]
    seconds = 0.0
    for task in tasks:
        held_out = _held_out(task, settings)
        started = perf_counter()
        accuracy(base, held_out[:SCORED])
        seconds += (perf_counter() - started) * len(held_out) / len(held_out[:SCORED]) * (len(tasks) + 1)
    total = ["all, with scores", *[""] * (len(NAMES) - 1), sum(row[-1] for row in rows) + math.ceil(seconds)]
    table("continue, not run", ["task", *NAMES], [*rows, total])


def _checked_tasks(releases: Sequence[Path], settings: TrainSettings) -> list[Task]:
    """The tasks in order. Raises UserError for settings that do not go with training on."""
    own, adapter = settings.continual, settings.finetune.adapter
    if adapter and (own.method != "adapters" or adapter.method == "prompt"):
        raise UserError("train: finetune.adapter", f"'{adapter.method}' with continual.method {own.method}",
                        "use lora, dora or ia3 with method adapters, or no adapter")
    if settings.finetune.head != "lm" or settings.finetune.chat:
        raise UserError("train: finetune", "a head or chat rows with `train continue`", "leave head and chat out")
    return tasks_of(releases, settings.finetune.packs)


def _learn(
    i: int, tasks: list[Task], folders: list[Path], base: Path, settings: TrainSettings, out: Path,
    dry: Callable[[Plan], None] | None = None,
) -> Path:
    """The model folder after task i, trained from that of the task before, or from `base`."""
    own, before = settings.continual, tasks[:i]
    parent = base if own.method == "adapters" or not folders else folders[-1]
    update: dict[str, Any] = {"packs": [tasks[i].pack]}
    if own.method == "adapters" and settings.finetune.adapter is None:
        update["adapter"] = AdapterSettings()
    rows = settings.finetune.model_copy(update=update)
    chosen = settings.model_dump(mode="json", include={"seed", "precision"})
    chosen["finetune"] = rows.model_dump(mode="json")
    if before and own.method in REMEMBERS:  # else nothing here hangs on them: the first task is the same for all
        chosen["continual"] = own.model_dump(mode="json", include={"method", *REMEMBERS[own.method]})
        chosen["after"] = [[file_digest(task.release / MANIFEST), task.pack] for task in before]

    def change(stage: Stage, model: Any, tokenizer: Any, batches: "Drawn") -> "tuple[Batches, Loss]":
        from zhiling.trainer.loss import token_loss

        if own.method == "replay":
            return Replay(batches, [_rows(stage, t, model, tokenizer, rows, settings) for t in before], own), token_loss
        if own.method == "ewc":
            old = [(_rows(stage, t, model, tokenizer, rows, settings), f) for t, f in zip(before, folders, strict=True)]
            count = 1 if dry else own.fisher_rows
            return batches, elastic(model, [fisher(f, drawn, count) for drawn, f in old], own.ewc_weight)
        return batches, distilled(parent, own)

    hook = change if "continual" in chosen else None
    stage = Stage("continue", tasks[i].release, out / f"{i + 1}-{tasks[i].name}", chosen, parent, dry)
    return make(stage, lambda stage: on_rows(stage, settings, rows, hook))


def _rows(
    stage: Stage, task: Task, model: Any, tokenizer: Any, own: InstructSettings, settings: TrainSettings
) -> "Drawn":
    """The train rows of an earlier task."""
    from zhiling.trainer.select_rows import select_rows
    from zhiling.trainer.stage_rows import drawn_rows

    examples = select_rows(task.release, "train", own.model_copy(update={"packs": [task.pack]}), settings.seed)
    folder = stage.work / f"{file_digest(task.release / MANIFEST)[:16]}-{task.name}"
    return drawn_rows(folder, examples, model, tokenizer, own, settings.seed)


class Replay:
    """The new task's batches with rows of the earlier tasks, in turn, as `share` of each."""

    def __init__(self, new: "Drawn", old: "list[Drawn]", own: ContinualSettings) -> None:
        self.new, self.old = new, old
        self.steps_per_epoch = new.steps_per_epoch
        self.count = max(1, round(new.size * own.share / (1 - own.share)))

    def batch(self, step: int, micro_tokens: int) -> "list[Micro]":
        """The micro-batches of a step."""
        from zhiling.trainer.batches import cut, order

        rows = self.new.drawn(step)
        for place in range(step * self.count, (step + 1) * self.count):
            turn, task = divmod(place, len(self.old))
            drawn = self.old[task]
            epoch, at = divmod(turn, len(drawn.rows))
            rows += drawn.parts(int(order(drawn.seed, epoch, len(drawn.rows))[at]))
        return cut(rows, micro_tokens, self.new.pad, self.new.average)


def fisher(folder: Path, drawn: "Drawn", count: int) -> dict[str, "Tensor"]:
    """How much each weight of a model mattered for a task: its mean squared gradient over `count` rows."""
    import torch

    from zhiling.trainer.loss import on_device, token_loss
    from zhiling.trainer.model import load_lm

    model = load_lm(folder)
    found = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    members = range(min(count, len(drawn.rows)))
    for member in members:
        model.zero_grad()
        for micro in drawn.some([member], 1 << 20):
            token_loss(model, on_device(micro, torch.device("cpu"))).backward()  # type: ignore[no-untyped-call]
        for name, p in model.named_parameters():
            if p.grad is not None:
                found[name] += p.grad.square() / len(members)
    return found


def elastic(model: Any, fishers: list[dict[str, "Tensor"]], weight: float) -> "Loss":
    """`token_loss` plus weight/2 times the squared way from the weights as they are now, where it mattered."""
    import torch

    from zhiling.trainer.loss import token_loss

    anchors = {name: p.detach().clone() for name, p in model.named_parameters()}
    matters = {name: torch.stack([f[name] for f in fishers]).sum(0) for name in anchors}

    def loss(model: Any, micro: "OnDevice") -> "Tensor":
        task = token_loss(model, micro)
        if not model.training:  # checkpoints are chosen by the task alone
            return task
        pairs = ((name, p) for name, p in model.named_parameters())
        strain = sum((matters[n].to(p.device) * (p - anchors[n].to(p.device)).square()).sum() for n, p in pairs)
        total: Tensor = task + weight / 2 * strain * micro.weights.sum()  # the weights of a global batch sum to 1
        return total

    return loss


def distilled(parent: Path, own: ContinualSettings) -> "Loss":
    """`token_loss` plus the divergence from what the old model says at the same places."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from zhiling.trainer.forward import hidden_states
    from zhiling.trainer.loss import below_words, token_loss
    from zhiling.trainer.model import load_lm

    teacher = load_lm(parent).eval().requires_grad_(False)

    def says(model: Any, micro: "OnDevice") -> "Tensor":
        states, words = below_words(model, hidden_states(model, micro.ids, micro.starts, micro.at))
        logits: Tensor = words(states).float()
        return (logits / own.temperature).log_softmax(-1)

    def loss(model: Any, micro: "OnDevice") -> "Tensor":
        task = token_loss(model, micro)
        if not model.training:
            return task
        with torch.no_grad():
            old = says(teacher.to(micro.ids.device), micro)
        apart = F.kl_div(says(model, micro), old, reduction="none", log_target=True).sum(-1)
        return task + own.distill_weight * own.temperature**2 * (apart * micro.weights).sum()

    return loss


def _held_out(task: Task, settings: TrainSettings) -> list[dict[str, Any]]:
    """Validation rows with choices, of texts that choose no checkpoint, by keyed draw."""
    from zhiling.trainer.select_rows import select_rows

    own = settings.finetune.model_copy(update={"packs": [task.pack]})
    chosen = set(select_rows(task.release, "validation", own, settings.seed)["source_id"].to_pylist())
    every = own.model_copy(update={"validation_rows": 1 << 60})
    rows = select_rows(task.release, "validation", every, settings.seed).to_pylist()
    rows = [row for row in rows if row["choices"] and row["source_id"] not in chosen]
    if not rows:
        raise UserError(f"{task.release}: {task.pack}", "no validation rows with choices are left to score",
                        "lower finetune.validation_rows, or build a release with more")
    keys = draws(settings.seed, "score rows", [row["id"] for row in rows])
    return [row for _, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0])][
        : settings.continual.score_rows
    ]


def accuracy(model: Path, rows: list[dict[str, Any]]) -> float:
    """Share of rows whose likeliest choice is the completion."""
    from zhiling.trainer.model import load_lm
    from zhiling.trainer.scoring import log_likelihoods
    from zhiling.trainer.tokenizer import load_tokenizer

    scores = iter(log_likelihoods(
        load_lm(model).eval(), load_tokenizer(model), [(row["prompt"], c) for row in rows for c in row["choices"]]
    ))
    right = 0
    for row in rows:
        own = [next(scores) for _ in row["choices"]]
        right += own.index(max(own)) == row["answer"]
    return right / len(rows)


def _write(found: Forgetting, own: ContinualSettings, out: Path) -> None:
    after = ["(before)", *found.tasks]
    ends = {"average": found.average, "backward_transfer": found.backward_transfer, "forgetting": found.forgetting}
    about = {"method": own.method, "tasks": found.tasks, "matrix": found.matrix, **ends}
    write_json(out / "continual.json", about)
    write_text(out / "matrix.svg", heatmap(f"accuracy, {own.method}", after, found.tasks, found.matrix))
    rows = [[name, *scores] for name, scores in zip(after, found.matrix, strict=True)]
    table(f"accuracy with {own.method}", ["trained up to", *found.tasks], rows)
    table("over all tasks", list(ends), [list(ends.values())])
