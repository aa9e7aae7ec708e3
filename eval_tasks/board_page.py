"""The board's page: one HTML file that asks nothing of any network, from a field and its standings.

In: a `Field` and its `Row`s. Out: HTML text. The numbers travel as JSON inside the page and a script of ours draws
them; strangers' words only ever become text nodes. A content policy in the page forbids everything else.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling import cards
from zhiling.eval_tasks.board_counts import by_label, labels_of
from zhiling.eval_tasks.board_read import KEPT, Field, Model, TaskKey
from zhiling.eval_tasks.board_scores import REFERENCES, Cell, Row
from zhiling.eval_tasks.results import Sample
from zhiling.eval_tasks.statistics import Estimate

MOST_BYTES = 400_000  # with Markdown and CSV beside it, a site stays under 500 KB
MOST_CLASSES = 20   # a larger confusion matrix is given as its commonest confusions
COMMONEST = 12
FACTS = ("parameters", "tokens_seen", "digest", "stage", "parent", "lineage", "releases", "revision")
RUN_FACTS = ("date", "machine", "versions", "settings", "seed")
SCRIPTS = ("board_words.js.j2", "board_charts.js.j2", "board_app.js.j2")


def page(field: Field, rows: Sequence[Row], title: str = "zhiling 指令 · leaderboard") -> str:
    """The page, with as many samples to look at as fit into its size."""
    for samples in range(KEPT, -1, -1):
        text = _html(title, payload(field, rows, samples), rows)
        if len(text.encode()) <= MOST_BYTES:
            break
    return text


def _html(title: str, data: dict[str, Any], rows: Sequence[Row]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(cards.__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    script = "".join(environment.get_template(name).render() for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.get_template("leaderboard.html.j2").render(
        title=title, rows=rows, script=_safe(script), digest=digest, data=_safe(_json(data)),
        style=_safe(environment.get_template("board_style.css.j2").render()),
    )
    return text.encode("utf-8", "replace").decode()


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # ours, or JSON in which no tag can open


def _json(value: Any) -> str:
    """JSON that can stand inside a script element whatever its strings say."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def payload(field: Field, rows: Sequence[Row], samples: int = KEPT) -> dict[str, Any]:
    """Everything that the page shows, as JSON holds it."""
    tasks = sorted({task for row in rows for task in row.cells})
    labels = {task: labels_of(field, task) for task in tasks}
    about = [_task(field, task, rows, labels[task]) for task in tasks]
    shown = [_Samples(samples) for _ in tasks]
    boards: dict[int, list[Any]] = {}
    for row in rows:
        cells = {
            i: _cell(row.cells[task], labels[task], shown[i]) for i, task in enumerate(tasks) if task in row.cells
        }
        entry = {"m": row.model.name, "k": row.model.kind, "tier": row.tier, "mean": _estimate(row.mean), "c": cells}
        boards.setdefault(row.shots, []).append(entry)
    for task, found in zip(about, shown, strict=True):
        task["samples"] = found.rows
    names = {row.model.name: row.model for row in rows if row.model.kind not in REFERENCES}
    return {
        "tasks": about, "models": [_model(model) for model in names.values()],
        "boards": [{"shots": shots, "rows": found} for shots, found in boards.items()],
    }


def _points(share: float) -> float:
    return round(100 * share, 1)


def _estimate(found: Estimate | None) -> list[Any] | None:
    if found is None:
        return None
    finite = abs(found.low) < float("inf") and found.groups > 0
    return [_points(found.value), *((_points(found.low), _points(found.high)) if finite else (None, None))]


def _task(field: Field, task: TaskKey, rows: Sequence[Row], labels: dict[str, str]) -> dict[str, Any]:
    cells = [row.cells[task] for row in rows if task in row.cells]
    tallies = [c.tally for c in cells if c.tally]
    told = field.tasks[task]
    release = told.get("release")
    return {
        "id": task.title, "pack": task.pack, "data": task.data, "version": str(told.get("pack_version", "")),
        "release": str(release.get("version", "")) if isinstance(release, dict) else "",
        "chance": _points(cells[0].chance), "items": max(len(t.items) for t in tallies),
        "groups": max(len(set(t.groups)) for t in tallies), "labels": sorted(set(labels.values())),
        "templates": sorted({name for t in tallies for name in t.templates}),
        "held": sorted(name for key, name in field.held_out if key == task),
        "source": str(told.get("source", "")), "license": str(told.get("license", "")),
    }


def _model(model: Model) -> dict[str, Any]:
    facts = {key: model.about[key] for key in FACTS if model.about.get(key) is not None}
    runs = [{key: run[key] for key in RUN_FACTS if key in run} | {"command": command(model, run)} for run in model.runs]
    return {"name": model.name, "kind": model.kind, **facts, "runs": runs}


def command(model: Model, run: Mapping[str, Any]) -> str:
    """The command that makes a run anew."""
    settings, tasks = run.get("settings", {}), run.get("tasks", {})
    words = ["zhiling", "eval", model.name]
    releases = {f"out/{r['name']}/{r['version']}" for t in tasks.values() if isinstance(r := t.get("release"), dict)}
    for folder in sorted(releases)[:1]:
        words += ["--release", folder]
    for flag, key in (("tasks", "packs"), ("shots", "shots"), ("templates", "templates"), ("limit", "limit")):
        value = settings.get(key)
        if value is not None:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return shlex.join([*words, *(["--generation"] if settings.get("generation") else [])])


class _Samples:
    """A task's samples to look at, each prompt once however many models were asked it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows: list[Any] = []
        self._index: dict[tuple[str, str], int] = {}

    def of(self, cell: Cell) -> list[Any]:
        """The cell's samples: which prompt, the log-probability of each choice or the text said, right or not."""
        kept = cell.tally.kept[: self.most] if cell.tally and cell.tally.templates != ("row",) else ()
        return [[self._place(s), [round(x, 2) for x in s.logprobs] or s.prediction, int(s.correct)] for s in kept]

    def _place(self, sample: Sample) -> int:
        key = (sample.prompt_sha256, "\x1f".join(sample.choices))
        if key not in self._index:
            self._index[key] = len(self.rows)
            row = [sample.template, sample.shots, sample.source_id, sample.prompt, list(sample.choices), sample.target]
            self.rows.append(row)
        return self._index[key]


def _cell(cell: Cell, labels: dict[str, str], samples: _Samples) -> dict[str, Any]:
    found: dict[str, Any] = {"s": _estimate(cell.score), "c": _estimate(cell.centred), "b": int(cell.best)}
    if cell.tally is None:
        return found
    found |= {"n": cell.score.n, "g": cell.score.groups, "t": {k: _points(v) for k, v in cell.templates.items()}}
    found |= {"f": None if cell.f1_macro is None else _points(cell.f1_macro)}
    found |= {"e": None if cell.ece is None else _points(cell.ece), "x": samples.of(cell)}
    matrix = by_label(cell.tally, labels)
    if matrix is not None:
        found["m"] = _matrix(matrix.labels, matrix.counts.tolist(), matrix.templates)
    return found


def _matrix(labels: Sequence[str], counts: list[list[int]], templates: Sequence[str]) -> dict[str, Any]:
    """The whole matrix where it is small; else what each class's report needs, and the commonest confusions."""
    found: dict[str, Any] = {"l": list(labels), "t": len(templates), "of": templates[0] if len(templates) == 1 else ""}
    if len(labels) <= MOST_CLASSES:
        return found | {"n": counts}
    size = range(len(labels))
    wrong = sorted(((counts[i][j], i, j) for i in size for j in size if i != j and counts[i][j]), reverse=True)
    return found | {
        "hit": [counts[i][i] for i in size], "true": [sum(row) for row in counts],
        "said": [sum(row[j] for row in counts) for j in size], "top": [[i, j, n] for n, i, j in wrong[:COMMONEST]],
    }
