"""Two results side by side: what changed, where, and whether it is real.

In: two results folders (or folders of one model's results each). Out: a `Comparison`: settings that differ, each
task's difference on the texts that both were asked, each template's, and the answers that flipped. A difference
is called real where its p-value, corrected by Holm over everything compared, is under 0.05; else it is a tie.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zhiling.errors import UserError, one_line
from zhiling.eval_tasks import statistics
from zhiling.eval_tasks.board_read import Field, Tally, TaskKey, read_field, runs_below
from zhiling.eval_tasks.results import Sample, read_run
from zhiling.eval_tasks.statistics import Difference

ALPHA = 1 - statistics.LEVEL
Places = dict[tuple[str, str, int, int, str], Sample]


@dataclass(frozen=True)
class TaskDifference:
    """B less A on one task at one number of shots, over the texts that both were asked."""

    task: str
    shots: str
    a: float
    b: float
    difference: Difference      # with the t-test by group
    low: float                  # paired bootstrap's interval
    high: float
    p: float                    # Holm's
    separate: int | None        # texts (groups) that would show a difference of this size in 4 of 5 tries

    @property
    def verdict(self) -> str:
        """`B is better`, `A is better` or `tie`."""
        return "tie" if self.p >= ALPHA else "B is better" if self.difference.value > 0 else "A is better"


@dataclass(frozen=True)
class TemplateDifference:
    """Answers to one template that only one of the two got right, and McNemar's exact test (texts as independent)."""

    task: str
    shots: str
    template: str
    a: float
    b: float
    only_a: int
    only_b: int
    p: float                    # Holm's over all templates


@dataclass(frozen=True)
class Flip:
    """A text whose answer changed from right to wrong or back."""

    task: str
    template: str
    shots: int
    source_id: str
    prompt: str
    target: str
    a: str
    b: str
    better: bool                # B is right


@dataclass(frozen=True)
class Comparison:
    """Two results, compared."""

    a: str
    b: str
    changes: tuple[tuple[str, str, str], ...]   # what differs in how they came about: name, A's, B's
    tasks: tuple[TaskDifference, ...]
    templates: tuple[TemplateDifference, ...]
    flips: tuple[Flip, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        found = asdict(self)
        for row, task in zip(found["tasks"], self.tasks, strict=True):
            row |= {"verdict": task.verdict, "difference": _finite(row["difference"])}
        return found


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """Numbers for JSON, which knows no infinity: a single group has no error."""
    return {key: value if abs(value) < float("inf") else None for key, value in numbers.items()}


def compare(a: Path, b: Path) -> Comparison:
    """Compare B with A. Raises UserError where they have no task in common or hold several models."""
    folders_a, folders_b = runs_below([a]), runs_below([b])
    field_a, field_b = _one_model(a, folders_a), _one_model(b, folders_b)
    pairs = list(_pairs(field_a, field_b))
    if not pairs:
        raise UserError(f"{a} and {b}", "no task, number of shots and text in common", "score both on the same tasks")
    tasks = _corrected([_task(*pair) for pair in pairs])
    templates = _corrected([t for pair in pairs for t in _templates(*pair)])
    flips = tuple(_flips(folders_a, folders_b))
    names = [next(iter(f.models)) for f in (field_a, field_b)]
    if names[0] == names[1]:
        names = [f"{names[0]} ({path})" for path in (a, b)]
    return Comparison(names[0], names[1], tuple(_changes(field_a, field_b)), tuple(tasks), tuple(templates), flips)


def _one_model(path: Path, folders: Sequence[Path]) -> Field:
    field = read_field(folders)
    if len(field.models) > 1:
        names = ", ".join(one_line(name, 40) for name in sorted(field.models))
        raise UserError(str(path), f"results of {len(field.models)} models ({names})", "give the folder of one")
    return field


def _pairs(a: Field, b: Field) -> Iterator[tuple[str, Tally, Tally]]:
    """Tallies of both for the same task and shots; a baseline, which sees no shots, pairs with every number of them."""
    baseline = [next(iter(field.models.values())).baseline for field in (a, b)]
    for (_, task, shots), first in sorted(a.tallies.items(), key=lambda item: item[0]):
        for (_, other, other_shots), second in sorted(b.tallies.items(), key=lambda item: item[0]):
            same_shots = shots == other_shots or any(baseline)
            if task == other and same_shots and set(first.items) & set(second.items):
                shown = str(shots) if shots == other_shots else f"{shots} and {other_shots}"
                yield shown, first, second


def _task(shots: str, a: Tally, b: Tally) -> TaskDifference:
    items = sorted(set(a.items) & set(b.items))
    of_a, of_b = (dict(zip(t.items, t.by_item.tolist(), strict=True)) for t in (a, b))
    group_of = dict(zip(a.items, a.groups, strict=True))
    scores_a, scores_b = np.array([of_a[i] for i in items]), np.array([of_b[i] for i in items])
    groups = [group_of[i] for i in items]
    found = statistics.paired(scores_b, scores_a, groups)
    drawn = statistics.paired_bootstrap(scores_b, scores_a, groups)
    means = float(scores_a.mean()), float(scores_b.mean())
    separate = statistics.items_to_separate(found)
    return TaskDifference(a.task.title, shots, *means, found, drawn.low, drawn.high, found.p, separate)


def _templates(shots: str, a: Tally, b: Tally) -> Iterator[TemplateDifference]:
    for name in sorted(set(a.templates) & set(b.templates)):
        row_a, row_b = (dict(zip(t.items, t.scores[t.templates.index(name)].tolist(), strict=True)) for t in (a, b))
        asked = [i for i in a.items if i in row_b and not np.isnan([row_a[i], row_b[i]]).any()]
        right_a, right_b = (np.array([row[i] >= 1 for i in asked]) for row in (row_a, row_b))
        if asked:
            test = statistics.mcnemar(right_a, right_b)
            shares = float(right_a.mean()), float(right_b.mean())
            yield TemplateDifference(a.task.title, shots, name, *shares, test.only_a, test.only_b, test.p)


def _corrected(found: list[Any]) -> list[Any]:
    """The same with Holm's p-values."""
    return [replace(f, p=float(p)) for f, p in zip(found, statistics.holm([f.p for f in found]), strict=True)]


def _flips(folders_a: Sequence[Path], folders_b: Sequence[Path]) -> Iterator[Flip]:
    """Answers to the same prompt that became right or wrong, the most surprising first."""
    of_a, of_b = _places(folders_a), _places(folders_b)
    found = []
    for place in sorted(of_a.keys() & of_b.keys()):
        a, b = of_a[place], of_b[place]
        if a.correct != b.correct and a.prompt_sha256 == b.prompt_sha256:
            moved = abs(_margin(a) - _margin(b))
            asked, said = (a.source_id, a.shown_prompt, a.target), (a.prediction, b.prediction)
            found.append((-moved, Flip(a.pack, a.template, a.shots, *asked, *said, b.correct)))
    for _, flip in sorted(found, key=lambda pair: (pair[0], pair[1].source_id, pair[1].template, pair[1].shots)):
        yield flip


def _margin(sample: Sample) -> float:
    """How far the right choice's log-probability is ahead of the best wrong one's; 0 for free text."""
    choices = [c.strip() for c in sample.choices]
    if sample.target not in choices or len(choices) < 2:
        return 0.0
    right = choices.index(sample.target)
    return sample.logprobs[right] - max(x for i, x in enumerate(sample.logprobs) if i != right)


def _places(folders: Sequence[Path]) -> Places:
    samples = (s for folder in folders for s in read_run(folder).samples)
    return {(s.pack, s.template, s.shots, s.seed, s.source_id): s for s in samples}


def _changes(a: Field, b: Field) -> Iterator[tuple[str, str, str]]:
    """What differs in the models, settings, versions and data behind two results."""
    told_a, told_b = _told(a), _told(b)
    for name in sorted(told_a.keys() | told_b.keys()):
        x, y = told_a.get(name, ""), told_b.get(name, "")
        if x != y:
            yield name, x, y


def _told(field: Field) -> dict[str, str]:
    model = next(iter(field.models.values()))
    found: dict[str, Any] = {"model": model.name, "kind": model.kind}
    found |= {f"model {key}": value for key, value in model.about.items() if not isinstance(value, dict | list)}
    for run in model.runs:
        for part in ("settings", "versions"):
            found |= {f"{part.rstrip('s')} {key}": value for key, value in run.get(part, {}).items()}
        found["machine"] = run.get("machine", "")
    for task, told in field.tasks.items():
        found[f"pack {task.pack}"] = told.get("pack_version", "")
        found[f"data of {task.pack}"] = _release(task, told)
    return {key: one_line(str(value), 60) for key, value in found.items()}


def _release(task: TaskKey, told: Mapping[str, Any]) -> str:
    release = told.get("release")
    return f"{release.get('name')} {release.get('version')}" if isinstance(release, dict) else task.data


def show(found: Comparison, most_flips: int = 6) -> None:
    """Print a comparison."""
    from zhiling.console import table

    print(f"A  {one_line(found.a, 200)}\nB  {one_line(found.b, 200)}\n")
    table("what differs", ["what", "A", "B"], found.changes)
    heads = ["task", "shots", "A", "B", "B - A", "95 % (bootstrap)", "p (Holm)", "verdict", "texts", "to separate"]
    table("where, and is it real", heads, [
        [t.task, t.shots, _points(t.a), _points(t.b), _signed(t.difference.value),
         f"{_signed(t.low)} to {_signed(t.high)}", _p(t.p), t.verdict, t.difference.n, t.separate] for t in found.tasks
    ])
    if found.templates:
        rows = [[t.task, t.shots, t.template, _points(t.a), _points(t.b), t.only_a, t.only_b, _p(t.p),
                 "tie" if t.p >= ALPHA else "B is better" if t.b > t.a else "A is better"] for t in found.templates]
        table("by template (exact McNemar)", ["task", "shots", "template", "A", "B", "only A right", "only B right",
                                              "p (Holm)", "verdict"], rows)
    if found.flips:
        gained = sum(f.better for f in found.flips)
        table(f"answers that flipped: {gained} to right, {len(found.flips) - gained} to wrong; the largest moves",
              ["template", "shots", "text", "prompt ends with", "right", "A said", "B said"],
              [[f.template, f.shots, f.source_id, _end(f.prompt), one_line(f.target, 16), one_line(f.a, 16),
                one_line(f.b, 16)] for f in found.flips[:most_flips]])


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _end(prompt: str) -> str:
    flat = one_line(prompt, 10_000)
    return flat if len(flat) <= 40 else "…" + flat[-39:]
