"""Tallies to standings: scores with intervals, chance at nought, tiers of significance, spread over templates.

In: a `Field`. Out: `Row`s, for each number of shots its own standings, baselines in all of them. A score is the mean
over texts of the mean over templates; the mean over tasks takes scores with chance at 0 and all right at 1. Two
models are compared on the texts that both were asked, paired, with errors by group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zhiling.eval_tasks import statistics
from zhiling.eval_tasks.board_counts import expected_calibration_error, f1_macro
from zhiling.eval_tasks.board_read import Field, Model, Tally, TaskKey
from zhiling.eval_tasks.human import human_score
from zhiling.eval_tasks.statistics import Array, Estimate

CHANCE = "chance"
HUMAN = "human"
REFERENCES = (CHANCE, HUMAN)  # rows that were not measured here


@dataclass(frozen=True)
class Cell:
    """A model's score on one task."""

    score: Estimate                  # 0 to 1 as measured
    chance: float
    templates: Mapping[str, float]   # the mean over texts of each
    f1_macro: float | None           # mean over templates; None where rows have no classes in common
    ece: float | None                # how far confidence is from accuracy; None for free text
    best: bool = False               # cannot be told from the best of its column
    tally: Tally | None = None       # None for chance and for published figures

    @property
    def centred(self) -> Estimate:
        """The score with chance at 0 and all right at 1."""
        scale = 1 / (1 - self.chance)
        s = self.score
        low, high = ((x - self.chance) * scale for x in (s.low, s.high))
        return Estimate((s.value - self.chance) * scale, s.error * scale, low, high, s.n, s.groups)

    @property
    def worst(self) -> tuple[str, float]:
        """The template that it does worst with."""
        name = min(self.templates, key=lambda t: (self.templates[t], t))
        return name, self.templates[name]

    @property
    def spread(self) -> float:
        """Best template less worst."""
        return max(self.templates.values()) - min(self.templates.values())


@dataclass(frozen=True)
class Row:
    """A model's place on the board at one number of shots."""

    model: Model
    shots: int
    mean: Estimate | None            # centred, over all tasks; None where some were not asked
    tier: int | None                 # None where there is no mean, and for chance and human
    cells: Mapping[TaskKey, Cell] = field(default_factory=dict)


def standings(found: Field) -> list[Row]:
    """Every row of every board, fewest shots first, then best first."""
    shots = sorted({s for (name, _, s) in found.tallies if not found.models[name].baseline}) or [0]
    return [row for s in shots for row in _board(found, s)]


def _board(found: Field, shots: int) -> list[Row]:
    tallies: dict[TaskKey, dict[str, Tally]] = {}
    for (name, task, s), tally in sorted(found.tallies.items(), key=lambda item: item[0]):
        if s == shots or found.models[name].baseline:
            tallies.setdefault(task, {})[name] = tally
    asked = {t: names for t, names in tallies.items() if any(not found.models[n].baseline for n in names)}
    tallies = asked or tallies  # a task that only baselines were asked says nothing, unless there are no models at all
    cells = {task: _column(found, task, names) for task, names in tallies.items()}
    names = sorted({name for column in cells.values() for name in column})
    rows = [_row(found.models[n], shots, {t: c[n] for t, c in cells.items() if n in c}, len(cells)) for n in names]
    rows += [_reference(CHANCE, shots, {t: _chance_cell(column) for t, column in cells.items()}, len(cells))]
    people = {t: _human_cell(t, found.tasks[t], next(iter(column.values()))) for t, column in cells.items()}
    published = {task: cell for task, cell in people.items() if cell is not None}
    if published:
        rows.append(_reference(HUMAN, shots, published, len(cells)))
    ranked = _with_tiers(rows)
    return sorted(ranked, key=lambda r: (r.mean is None, -(r.mean.value if r.mean else 0), r.model.name))


def _column(found: Field, task: TaskKey, tallies: Mapping[str, Tally]) -> dict[str, Cell]:
    """The cells of one task; `best` are those in the column's first tier."""
    prompted = [t for name, t in tallies.items() if not found.models[name].baseline]
    chance = float(np.mean([t.chance for t in prompted or tallies.values()]))
    chance = chance if chance < 1 else 0.0  # one choice for every row: nothing is guessed
    cells = {name: _cell(tally, chance) for name, tally in tallies.items()}
    p = statistics.all_pairs(*_aligned(list(tallies.values())))
    tiers = statistics.tiers([c.score.value for c in cells.values()], p)
    return {n: replace(c, best=tier == 1) for (n, c), tier in zip(cells.items(), tiers, strict=True)}


def _cell(tally: Tally, chance: float) -> Cell:
    scores = tally.by_item
    bounded = scores.min() >= 0 and scores.max() <= 1
    estimate = (statistics.rate if bounded else statistics.mean)(scores, tally.groups)
    return Cell(estimate, chance, tally.by_template, f1_macro(tally), expected_calibration_error(tally), tally=tally)


def _chance_cell(column: Mapping[str, Cell]) -> Cell:
    chance = next(iter(column.values())).chance
    return Cell(Estimate(chance, 0.0, chance, chance, 0, 0), chance, {CHANCE: chance}, None, None)


def _human_cell(task: TaskKey, told: Mapping[str, Any], like: Cell) -> Cell | None:
    """What people score on a task, where the figure is published."""
    human = human_score(task.pack, told)
    if human is None:
        return None
    value = human[0]
    return Cell(Estimate(value, 0.0, value, value, 0, 0), like.chance, {HUMAN: value}, None, None)


def _reference(name: str, shots: int, cells: Mapping[TaskKey, Cell], wanted: int) -> Row:
    values = [c.centred.value for c in cells.values()]
    mean = float(np.mean(values))
    whole = Estimate(mean, 0.0, mean, mean, 0, 0) if len(cells) == wanted else None
    return Row(Model(name, name, {}, ()), shots, whole, None, cells)


def _row(model: Model, shots: int, cells: Mapping[TaskKey, Cell], wanted: int) -> Row:
    if len(cells) < wanted:
        return Row(model, shots, None, None, cells)
    if len(cells) == 1:
        return Row(model, shots, next(iter(cells.values())).centred, None, cells)
    values, groups, strata = _centred_items(cells)
    return Row(model, shots, statistics.mean(values, groups, strata), None, cells)


def _centred_items(cells: Mapping[TaskKey, Cell]) -> tuple[Array, list[str], list[int]]:
    values: list[Array] = []
    groups: list[str] = []
    strata: list[int] = []
    for i, cell in enumerate(cells.values()):
        assert cell.tally is not None
        values.append((cell.tally.by_item - cell.chance) / (1 - cell.chance))
        groups += cell.tally.groups
        strata += [i] * len(cell.tally.groups)
    return np.concatenate(values), groups, strata


def _with_tiers(rows: list[Row]) -> list[Row]:
    """Tiers over the mean of all tasks, for the rows that were measured on all of them."""
    measured = [r for r in rows if r.mean is not None and all(c.tally for c in r.cells.values())]
    if not measured:
        return rows
    scores: list[Array] = []
    groups: list[str] = []
    strata: list[int] = []
    for i, task in enumerate(measured[0].cells):
        cells = [r.cells[task] for r in measured]
        values, task_groups = _aligned([c.tally for c in cells if c.tally])
        scores.append((values - cells[0].chance) / (1 - cells[0].chance))
        groups += task_groups
        strata += [i] * len(task_groups)
    p = statistics.all_pairs(np.concatenate(scores, axis=1), groups, strata)
    tiers = statistics.tiers([r.mean.value for r in measured if r.mean], p)
    tier_of = {id(row): tier for row, tier in zip(measured, tiers, strict=True)}
    return [replace(r, tier=tier_of.get(id(r))) for r in rows]


def _aligned(tallies: Sequence[Tally]) -> tuple[Array, list[str]]:
    """Models x texts, NaN where a model was not asked, and the texts' groups."""
    group_of = {item: group for t in tallies for item, group in zip(t.items, t.groups, strict=True)}
    column = {item: i for i, item in enumerate(sorted(group_of))}
    table = np.full((len(tallies), len(column)), np.nan)
    for i, tally in enumerate(tallies):
        table[i, [column[item] for item in tally.items]] = tally.by_item
    return table, [group_of[item] for item in column]
