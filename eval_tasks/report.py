"""One model's results in depth: templates, spread, shares of variance, classes, calibration, disagreement, errors.

In: results folders of one model, and a baseline's where labels are to be named. Out: a `Report`, and that as
terminal tables, Markdown or one HTML page (`report_page`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhiling.cards.markdown import escape, fenced
from zhiling.errors import UserError, one_line
from zhiling.eval_tasks import statistics
from zhiling.eval_tasks.board_counts import (
    Confusion,
    by_label,
    calibration,
    confusion,
    expected_calibration_error,
    labels_of,
    report,
)
from zhiling.eval_tasks.board_files import interval, points, with_reach
from zhiling.eval_tasks.board_read import Field, Model, Tally, TaskKey, by_task, read_field
from zhiling.eval_tasks.results import Sample, read_run
from zhiling.eval_tasks.statistics import Estimate

MOST_ERRORS = 300        # in the browser of errors, the most confident first
MOST_DISAGREEMENTS = 20


@dataclass(frozen=True)
class TemplateScore:
    """A template's accuracy over all texts."""

    name: str
    held_out: bool
    score: Estimate
    f1_macro: float | None


@dataclass(frozen=True)
class Disagreement:
    """A text that the templates answer differently, and what each said."""

    source_id: str
    prompt: str                                  # the shortest that it was asked in
    right: float                                 # share of templates that were right
    answers: tuple[tuple[str, str, bool], ...]   # template, answer, right


@dataclass(frozen=True)
class Section:
    """One task at one number of shots."""

    task: TaskKey
    shots: int
    score: Estimate
    chance: float
    templates: tuple[TemplateScore, ...]         # best first
    confusion: Confusion | None
    classes: tuple[tuple[str, float, float, float, int], ...]   # label, precision, recall, F1, support
    calibration: tuple[tuple[int, float, float], ...]           # n, mean confidence, share right
    ece: float | None
    disagreements: tuple[Disagreement, ...]
    errors: tuple[Sample, ...]
    wrong: int                                   # how many errors there are in all

    @property
    def worst(self) -> TemplateScore:
        """The template that it does worst with, as the board names it."""
        return min(self.templates, key=lambda t: (t.score.value, t.name))

    @property
    def spread(self) -> float:
        """Best template less worst."""
        return self.templates[0].score.value - self.worst.score.value

    def mean_of(self, held_out: bool) -> float | None:
        """The mean over templates that training saw, or did not see; None where there are none."""
        values = [t.score.value for t in self.templates if t.held_out is held_out]
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Report:
    """A model's results, task by task."""

    model: Model
    sections: tuple[Section, ...]
    shares: Mapping[TaskKey, Mapping[str, float]]   # of a task's variance: template, shots, seed, item, rest


def make_report(folders: Sequence[Path]) -> Report:
    """Read one model's results (and baselines', for the labels). Raises UserError where there are several models."""
    field = read_field(folders)
    models = [m for m in field.models.values() if not m.baseline] or list(field.models.values())
    if len(models) > 1:
        names = ", ".join(one_line(m.name, 40) for m in models)
        raise UserError("results", f"{len(models)} models ({names})", "give the results of one")
    model = models[0]
    samples: dict[tuple[TaskKey, int], list[Sample]] = {}
    for run in (read_run(folder) for folder in folders):
        for at, found in by_task(run).items() if run.model == model.name else ():
            samples.setdefault(at, []).extend(found)
    sections = tuple(_section(field, field.tallies[model.name, *at], found) for at, found in sorted(samples.items()))
    return Report(model, sections, {task: _shares(task, samples) for task, _ in sorted(samples)})


def _shares(task: TaskKey, samples: Mapping[tuple[TaskKey, int], Sequence[Sample]]) -> dict[str, float]:
    rows = [s for (key, _), found in samples.items() if key == task for s in found]
    factors: dict[str, list[Any]] = {
        "template": [s.template for s in rows], "shots": [s.shots for s in rows], "seed": [s.seed for s in rows],
        "item": [s.source_id for s in rows],
    }
    return statistics.variance_shares([s.score for s in rows], factors)


def _section(field: Field, tally: Tally, samples: Sequence[Sample]) -> Section:
    templates = tuple(sorted(_templates(field, tally), key=lambda t: (-t.score.value, t.name)))
    matrix = by_label(tally, labels_of(field, tally.task))
    classes = zip(matrix.labels, report(matrix.counts), strict=True) if matrix else ()
    wrong = [s for s in samples if not s.correct]
    shown = sorted(wrong, key=lambda s: (-_sureness(s), s.source_id, s.template))[:MOST_ERRORS]
    return Section(
        tally.task, tally.shots, statistics.rate(tally.by_item, tally.groups), tally.chance, templates, matrix,
        tuple((label, *numbers) for label, numbers in classes), tuple(calibration(tally)) if len(tally.right) else (),
        expected_calibration_error(tally), tuple(_disagreements(samples)), tuple(shown), len(wrong),
    )


def _templates(field: Field, tally: Tally) -> Iterator[TemplateScore]:
    for i, name in enumerate(tally.templates):
        asked = ~np.isnan(tally.scores[i])
        score = statistics.rate(tally.scores[i][asked], np.array(tally.groups)[asked])
        f1 = float(np.mean([f for _, _, f, _ in report(confusion(tally, i))])) if tally.classes[i] else None
        yield TemplateScore(name, (tally.task, name) in field.held_out, score, f1)


def _sureness(sample: Sample) -> float:
    """How far the answer's log-probability is ahead of the right one's."""
    right = [x for c, x in zip(sample.choices, sample.logprobs, strict=False) if c.strip() == sample.target]
    return max(sample.logprobs) - right[0] if right else 0.0


def _disagreements(samples: Sequence[Sample]) -> Iterator[Disagreement]:
    """The texts that templates answer most differently, evenly split ones first."""
    by_text: dict[str, list[Sample]] = {}
    for sample in samples:
        by_text.setdefault(sample.source_id, []).append(sample)
    shares = {i: float(np.mean([s.correct for s in found])) for i, found in by_text.items()}
    split = sorted((i for i, share in shares.items() if 0 < share < 1), key=lambda i: (abs(shares[i] - 0.5), i))
    for i in split[:MOST_DISAGREEMENTS]:
        answers = sorted((s.template, s.prediction, s.correct) for s in by_text[i])
        shortest = min((s.shown_prompt for s in by_text[i]), key=lambda prompt: (len(prompt), prompt))
        yield Disagreement(i, shortest, shares[i], tuple(answers))


def show(found: Report) -> None:
    """Print a report's tables."""
    from zhiling.console import table

    table(found.model.name, HEADS, [_line(s) for s in found.sections])
    shares = [[task.title, *(_share(found.shares[task], name) for name in FACTORS)] for task in found.shares]
    table("share of the answers' variance, %", ["task", *FACTORS], shares)
    for s in found.sections:
        title = f"{s.task.title}, {s.shots}-shot"
        table(f"{title}: templates", ["template", "accuracy", "macro-F1", ""], _template_lines(s))
        if s.confusion:
            table(f"{title}: classes, over {len(s.confusion.templates)} templates", CLASS_HEADS, _class_lines(s))


HEADS = ["task", "shots", "accuracy", "chance", "worst template", "spread", "seen", "held out", "ECE", "texts"]
FACTORS = ("template", "shots", "seed", "item", "rest")
CLASS_PARTS = ("label", "precision", "recall", "f1", "support")
CLASS_HEADS = ["label", "precision", "recall", "F1", "support"]


def _share(shares: Mapping[str, float], name: str) -> str:
    return points(shares[name]) if name in shares else "–"


def _line(s: Section) -> list[str]:
    worst = f"{points(s.worst.score.value)} {s.worst.name}"
    seen, held = (None if len(s.templates) < 2 else s.mean_of(kind) for kind in (False, True))
    return [
        s.task.title, str(s.shots), with_reach(s.score), points(s.chance), worst, points(s.spread),
        *("" if x is None else points(x) for x in (seen, held, s.ece)), str(s.score.n),
    ]


def _template_lines(s: Section) -> list[list[str]]:
    f1 = {t.name: "" if t.f1_macro is None else points(t.f1_macro) for t in s.templates}
    return [[t.name, with_reach(t.score), f1[t.name], "held out" if t.held_out else ""] for t in s.templates]


def _class_lines(s: Section) -> list[list[str]]:
    return [[label, *map(points, (p, r, f)), str(n)] for label, p, r, f, n in s.classes]


def markdown(found: Report) -> str:
    """The report as Markdown, with the first disagreements and errors."""
    parts = [f"# {escape(found.model.name)}", _rows(HEADS, [_line(s) for s in found.sections])]
    shares = [[task.title, *(_share(found.shares[task], name) for name in FACTORS)] for task in found.shares]
    parts += ["Share of the answers' variance, %:", _rows(["task", *FACTORS], shares)]
    for s in found.sections:
        parts += [f"## {escape(s.task.title)}, {s.shots}-shot"]
        parts += [_rows(["template", "accuracy", "macro-F1", ""], _template_lines(s))]
        if s.confusion:
            counts = zip(s.confusion.labels, s.confusion.counts, strict=True)
            matrix = [[label, *map(str, row)] for label, row in counts]
            parts += [_rows(CLASS_HEADS, _class_lines(s)), "Rows are true, columns are said:"]
            parts += [_rows(["", *s.confusion.labels], matrix)]
        if s.calibration:
            bins = [[f"{i / 10:.1f}", str(n), points(c), points(a)] for i, (n, c, a) in enumerate(s.calibration) if n]
            parts += [_rows(["confidence from", "answers", "mean confidence", "right"], bins)]
        for error in s.errors[:3]:
            said = f"right: {escape(error.target)}, said: {escape(error.prediction)}"
            parts += [f"**{escape(error.template)}**, {said}", fenced(error.shown_prompt)]
    return "\n\n".join(parts) + "\n"


def as_json(found: Report) -> dict[str, Any]:
    """What the tables show, as JSON holds it."""
    return {
        "model": found.model.name, "variance": {task.title: dict(shares) for task, shares in found.shares.items()},
        "tasks": [{
            "task": s.task.title, "shots": s.shots, "texts": s.score.n, "accuracy": interval(s.score),
            "chance": s.chance, "ece": s.ece, "worst_template": s.worst.name, "spread": s.spread,
            "templates": [{
                "template": t.name, "accuracy": interval(t.score), "macro_f1": t.f1_macro, "held_out": t.held_out,
            } for t in s.templates],
            "classes": [dict(zip(CLASS_PARTS, told, strict=True)) for told in s.classes],
        } for s in found.sections],
    }


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *[[escape(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [[escape(h) for h in heads], *lines[1:]])
