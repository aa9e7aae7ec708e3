"""The standings for other readers: Markdown for a card, CSV for a table program, `model-index` for a model's card.

In: a field's rows. Out: text. Names come from strangers: Markdown is escaped, a cell of CSV never starts a formula.
"""

import csv
import io
from collections.abc import Sequence
from math import isfinite
from typing import Any

from zhiling.cards.markdown import escape
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.eval_tasks.board_read import TaskKey
from zhiling.eval_tasks.board_scores import REFERENCES, Cell, Row
from zhiling.eval_tasks.statistics import Estimate

FORMULA = ("=", "+", "-", "@", "\t", "\r")
# packs' tasks as the Hub names them; others go by their own names
HUB_TASKS = {
    "classification": "text-classification", "nli": "text-classification", "matching": "text-classification",
    "extractive_qa": "question-answering", "multiple_choice": "multiple-choice", "generation": "text-generation",
}
LEGEND = (
    "Score: mean over tasks, 0 is guessing and 100 is all right; tasks: accuracy in per cent, mean over templates; "
    "± is half a 95 % interval, clustered by text. Models of a tier cannot be told from the tier's first."
)


def tasks_of(rows: Sequence[Row]) -> list[TaskKey]:
    """Every task of the board, sorted."""
    return sorted({task for row in rows for task in row.cells})


def points(share: float) -> str:
    """A share as points of 100."""
    return f"{100 * share:.1f}"


def name_of(row: Row) -> str:
    """A model's name, marked with how many of its test texts it was trained on, where it was on any."""
    marks = [cell.tally.seen for cell in row.cells.values() if cell.tally and cell.tally.seen]
    seen, of = (sum(counts) for counts in zip(*marks, strict=True)) if marks else (0, 0)
    return row.model.name + (f" (contaminated {seen}/{of})" if seen else "")


def with_reach(found: Estimate) -> str:
    """A number and half its interval, where it has one."""
    finite = found.groups > 0 and abs(found.high) < float("inf")
    return points(found.value) + (f" ± {points((found.high - found.low) / 2)}" if finite else "")


def markdown(rows: Sequence[Row]) -> str:
    """A table for each number of shots."""
    tasks = tasks_of(rows)
    parts = []
    for shots in sorted({r.shots for r in rows}):
        heads = ["tier", "model", "score", *(escape(t.title) for t in tasks)]
        lines = [f"### {shots}-shot", "", f"| {' | '.join(heads)} |", "|--:|---|--:|" + "--:|" * len(tasks)]
        for row in (r for r in rows if r.shots == shots):
            mean = with_reach(row.mean) if row.mean else f"{len(row.cells)} of {len(tasks)} tasks"
            cells = [with_reach(row.cells[t].score) if t in row.cells else "" for t in tasks]
            lines.append(f"| {' | '.join([str(row.tier or ''), escape(name_of(row)), mean, *cells])} |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, LEGEND]) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each model and number of shots; numbers in points of 100, empty where there is none."""
    tasks = tasks_of(rows)
    heads = ["model", "kind", "shots", "tier", "score", "low", "high", "parameters", "tokens_seen"]
    parts = ("accuracy", "low", "high", "macro_f1", "worst_template", "spread")
    heads += [f"{task.title}: {what}" for task in tasks for what in parts]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_plain, heads))
    for row in rows:
        about = [row.model.about.get(key, "") for key in ("parameters", "tokens_seen")]
        front = [row.model.name, row.model.kind, row.shots, row.tier or "", *_numbers(row.mean), *about]
        writer.writerow([_plain(x) for x in (*front, *(x for t in tasks for x in _cells(row, t)))])
    return out.getvalue()


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What the CSV holds, as JSON does: a mapping for each model and number of shots, its tasks by name."""
    return [{
        "model": row.model.name, "kind": row.model.kind, "shots": row.shots, "tier": row.tier,
        "score": interval(row.mean), "tasks": {task.title: _told(cell) for task, cell in sorted(row.cells.items())},
        **{key: row.model.about.get(key) for key in ("parameters", "tokens_seen")},
    } for row in rows]


def _told(cell: Cell) -> dict[str, Any]:
    told: dict[str, Any] = {"accuracy": interval(cell.score), "chance": cell.chance, "macro_f1": cell.f1_macro}
    return told | {"worst_template": cell.worst[1], "spread": cell.spread, "templates": dict(cell.templates)}


def interval(found: Estimate | None) -> dict[str, float | None] | None:
    """A number and its interval, as JSON holds them."""
    if found is None:
        return None
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {name: value if isfinite(value) else None for name, value in numbers.items()}


def _numbers(found: Estimate | None) -> list[str]:
    return ["", "", ""] if found is None else [points(x) for x in (found.value, found.low, found.high)]


def _cells(row: Row, task: TaskKey) -> list[str]:
    cell = row.cells.get(task)
    if cell is None:
        return [""] * 6
    f1 = "" if cell.f1_macro is None else points(cell.f1_macro)
    return [*_numbers(cell.score), f1, points(cell.worst[1]), points(cell.spread)]


def _plain(cell: Any) -> Any:
    """A cell that no table program takes for a formula; a negative number may stay one."""
    if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def model_index(rows: Sequence[Row], model: str) -> str:
    """The front matter that a model's card on the Hub shows its scores from. Raises UserError for an unknown model."""
    import yaml

    own = [r for r in rows if r.model.name == model and r.model.kind not in REFERENCES]
    if not own:
        known = {r.model.name for r in rows if r.model.kind not in REFERENCES}
        raise UserError("--model-index", f"no model '{one_line(model)}' on this board", did_you_mean(model, known))
    results = [_result(row, task) for row in own for task in row.cells]
    return yaml.safe_dump({"model-index": [{"name": model, "results": results}]}, allow_unicode=True, sort_keys=False)


def _result(row: Row, task: TaskKey) -> dict[str, Any]:
    cell = row.cells[task]
    shots = f"{row.shots}-shot, mean over {len(cell.templates)} templates"
    metrics = [{"type": "accuracy", "value": round(100 * cell.score.value, 2), "name": f"accuracy, {shots}"}]
    if cell.f1_macro is not None:
        metrics.append({"type": "f1", "value": round(100 * cell.f1_macro, 2), "name": f"macro-F1, {shots}"})
    worst = {"type": "accuracy", "value": round(100 * cell.worst[1], 2), "name": f"worst template, {row.shots}-shot"}
    asked = [t for run in row.model.runs for t in run.get("tasks", {}).values() if t.get("pack") == task.pack]
    kind = str(asked[0].get("kind", "classification")) if asked else "classification"
    return {
        "task": {"type": HUB_TASKS.get(kind, kind), "name": task.pack},
        "dataset": {"name": task.data or task.pack, "type": task.data or task.pack}, "metrics": [*metrics, worst],
    }
