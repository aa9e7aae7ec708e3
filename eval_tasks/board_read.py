"""Results folders to tallies: for each model, task and number of shots, who was right on which text.

In: results folders. Out: a `Field` of `Tally`s, small enough to hold fifty models at once, and what is known of
each model. Refused: one name for two models, one task scored on two versions of its pack or data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zhiling.errors import UserError, one_line
from zhiling.eval_tasks.results import Run, Sample, find_runs, read_run
from zhiling.eval_tasks.statistics import Array
from zhiling.seeds import draw

KEPT = 3  # samples that a tally keeps to be looked at: the same texts and templates for every model


class TaskKey(NamedTuple):
    """What a column of the board is: a pack, asked of some data."""

    pack: str
    data: str

    @property
    def title(self) -> str:
        """As tables show it."""
        return f"{self.pack} · {self.data}" if self.data else self.pack


@dataclass(frozen=True)
class Tally:
    """One model's answers to one task at one number of shots, template by template, text by text."""

    task: TaskKey
    shots: int
    templates: tuple[str, ...]
    items: tuple[str, ...]             # ids of the corpus rows, sorted
    groups: tuple[str, ...]            # of each item
    scores: Array                      # templates x items, NaN where not asked; the mean over seeds
    targets: Array                     # templates x answers (items x seeds): index into the template's classes, or -1
    answers: Array                     # what was said to each, likewise
    classes: tuple[tuple[str, ...], ...]   # of each template
    chance: float                      # what guessing gives: the mean of 1 / number of choices
    confidence: Array                  # of each answer with choices: its probability among them ...
    right: Array                       # ... and whether it was right
    kept: tuple[Sample, ...]
    seen: tuple[int, int] | None = None  # texts that the model was trained on, of so many; None where nobody looked

    @property
    def by_item(self) -> Array:
        """The mean over templates, text by text."""
        asked = ~np.isnan(self.scores)
        means: Array = np.where(asked, self.scores, 0).sum(axis=0) / asked.sum(axis=0)
        return means

    @property
    def seeds(self) -> int:
        """How many draws of exemplars each item was asked with: `targets` has so many places for each item."""
        return int(self.targets.shape[1]) // len(self.items)

    @property
    def by_template(self) -> dict[str, float]:
        """The mean over texts, template by template."""
        return dict(zip(self.templates, np.nanmean(self.scores, axis=1).tolist(), strict=True))


@dataclass(frozen=True)
class Model:
    """What is known of a model: its results' manifests' word."""

    name: str
    kind: str                        # baseline, causal, masked, or unknown
    about: Mapping[str, Any]
    runs: tuple[Mapping[str, Any], ...]  # the manifests of its runs, without the files

    @property
    def baseline(self) -> bool:
        """Whether it is a baseline and no model."""
        return self.kind == "baseline"


@dataclass(frozen=True)
class Field:
    """Everything that competes on a board."""

    models: Mapping[str, Model]
    tallies: Mapping[tuple[str, TaskKey, int], Tally]
    tasks: Mapping[TaskKey, Mapping[str, Any]]       # metadata that all runs agree on
    held_out: frozenset[tuple[TaskKey, str]]         # templates that training never saw


def runs_below(roots: Sequence[Path]) -> list[Path]:
    """Every results folder at or below `roots`. Raises UserError for a root without any."""
    found: dict[Path, None] = {}
    for root in roots:
        runs = find_runs(root)
        if not runs:
            raise UserError(str(root), "no results in it or below it", "give folders that `zhiling eval` wrote")
        found |= dict.fromkeys(runs)
    return list(found)


def read_field(folders: Sequence[Path]) -> Field:
    """Read results folders one after another. Raises UserError where they do not fit together."""
    tallies: dict[tuple[str, TaskKey, int], Tally] = {}
    came_from: dict[tuple[str, TaskKey, int], Path] = {}
    models: dict[str, Model] = {}
    tasks: dict[TaskKey, dict[str, Any]] = {}
    first_seen: dict[TaskKey, Path] = {}
    held_out: set[tuple[TaskKey, str]] = set()
    for folder in dict.fromkeys(folders):
        run = read_run(folder)
        models[run.model] = _model(run, models.get(run.model))
        for (key, shots), rows in by_task(run).items():
            told = _metadata(run, rows[0].task)
            _same_version(key, told, tasks.setdefault(key, told), folder, first_seen.setdefault(key, folder))
            held_out |= {(key, s.template) for s in rows if _metadata(run, s.task).get("held_out_template") is True}
            earlier = came_from.setdefault((run.model, key, shots), folder)
            if earlier != folder:
                saw = f"{one_line(run.model)} was asked {one_line(key.title)} at {shots} shots in {earlier} too"
                raise UserError(str(folder), saw, "give one of the two")
            tallies[run.model, key, shots] = replace(tally(key, shots, rows), seen=_seen(run, rows))
    if not tallies:
        raise UserError("results", "nothing was scored in them", "give folders that `zhiling eval` wrote")
    return Field(models, tallies, tasks, frozenset(held_out))


def by_task(run: Run) -> dict[tuple[TaskKey, int], list[Sample]]:
    """A run's samples, by task and number of shots."""
    found: dict[tuple[TaskKey, int], list[Sample]] = {}
    for sample in run.samples:
        key = TaskKey(sample.pack, _data_name(_metadata(run, sample.task)))
        found.setdefault((key, sample.shots), []).append(sample)
    return found


def _metadata(run: Run, task: str) -> dict[str, Any]:
    told = run.results.get("configs", {}).get(task, {}).get("metadata", {})
    return dict(told) if isinstance(told, dict) else {}


def _seen(run: Run, samples: Sequence[Sample]) -> tuple[int, int] | None:
    """How many of a task's texts its model was trained on, and of how many: the worst of the templates' figures."""
    listed = run.manifest.get("tasks", {})
    told = [listed.get(name, {}).get("contamination") for name in sorted({s.task for s in samples})]
    counts = [(t.get("contaminated"), t.get("documents")) for t in told if isinstance(t, dict)]
    return max(((seen, of) for seen, of in counts if isinstance(seen, int) and isinstance(of, int)), default=None)


def _data_name(told: Mapping[str, Any]) -> str:
    release = told.get("release")
    return str(release.get("name", "")) if isinstance(release, dict) else str(told.get("dataset", ""))


def _same_version(key: TaskKey, told: Mapping[str, Any], known: Mapping[str, Any], folder: Path, first: Path) -> None:
    for field in ("pack_digest", "release"):
        if told.get(field) != known.get(field):
            raise UserError(
                str(folder), f"results of mixed versions: its {field.replace('_', ' ')} of {one_line(key.title)} is "
                f"not that of {first}", "score both on one version, or make two boards",
            )


def _model(run: Run, known: Model | None) -> Model:
    told = run.manifest.get("model", {})
    about = {k: v for k, v in told.items() if k not in ("name", "kind")} if isinstance(told, dict) else {}
    if known is not None and known.about.get("digest") != about.get("digest"):
        raise UserError(
            str(run.folder), f"another model is called '{one_line(run.model)}' too (the digests differ)",
            "rename one, or give the results of one",
        )
    kind = "baseline" if run.baseline else str(told.get("kind", "unknown"))
    manifest = {k: v for k, v in run.manifest.items() if k not in ("files", "model")}
    runs = (*(known.runs if known else ()), manifest)
    return Model(run.model, kind, about, runs)


def tally(key: TaskKey, shots: int, samples: Sequence[Sample]) -> Tally:
    """Samples of one model, task and number of shots, counted."""
    groups = {s.source_id: s.group_id for s in samples}
    items = tuple(sorted(groups))
    templates = tuple(sorted({s.template for s in samples}))
    row_of = {name: i for i, name in enumerate(templates)}
    column_of = {name: i for i, name in enumerate(items)}
    sums, counts = np.zeros((len(templates), len(items))), np.zeros((len(templates), len(items)))
    seeds = sorted({s.seed for s in samples})
    targets = np.full((len(templates), len(items) * len(seeds)), -1, dtype=np.int32)
    answers = targets.copy()
    classes = [_classes([s for s in samples if s.template == name]) for name in templates]
    index = [{name: i for i, name in enumerate(names)} for names in classes]
    for s in samples:
        at = row_of[s.template], column_of[s.source_id]
        sums[at] += s.score
        counts[at] += 1
        place, known = (at[0], at[1] * len(seeds) + seeds.index(s.seed)), index[at[0]]
        targets[place], answers[place] = known.get(s.target, -1), known.get(s.prediction, -1)
    scores = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    choosing = [s for s in samples if s.choices]
    chance = sum(1 / len(s.choices) for s in choosing) / len(samples)
    return Tally(
        key, shots, templates, items, tuple(groups[i] for i in items), scores, targets, answers, tuple(classes), chance,
        np.array([_confidence(s.logprobs) for s in choosing]), np.array([s.score for s in choosing]), _kept(samples),
    )


def _classes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The choices that all rows of a template share; () where each row has its own, or none."""
    shared = {frozenset(c.strip() for c in s.choices) for s in samples}
    return tuple(sorted(next(iter(shared)))) if len(shared) == 1 else ()


def _confidence(logprobs: Sequence[float]) -> float:
    """The likeliest choice's share of all choices' probability."""
    best = max(logprobs)
    return 1 / sum(exp(x - best) for x in logprobs)


def _kept(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """A few samples by a draw on the text and the template, never on the model: every model shows the same."""
    order = sorted(samples, key=lambda s: (draw(0, "shown", f"{s.source_id}\x1f{s.template}"), s.prompt_sha256))
    chosen: dict[str, Sample] = {}
    for sample in order:
        if sample.source_id not in chosen and len(chosen) < KEPT:
            chosen[sample.source_id] = sample
    return tuple(chosen.values())
