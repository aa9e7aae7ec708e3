"""The board's page: one HTML file that asks nothing of any network, from a field and its standings.

In: a `Field` and its `Row`s. Out: HTML text. The numbers travel as JSON inside the page and a script of ours draws
them; strangers' words only ever become text nodes. A content policy in the page forbids everything else.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from zhiling.cards.pages import render_page
from zhiling.eval_tasks.board_counts import Confusion, by_label, labels_of
from zhiling.eval_tasks.board_read import KEPT, Field, Model, TaskKey
from zhiling.eval_tasks.board_scores import REFERENCES, Cell, Row
from zhiling.eval_tasks.human import human_score
from zhiling.eval_tasks.results import Sample
from zhiling.eval_tasks.statistics import Estimate

MOST_BYTES = 435_000  # with Markdown and CSV beside it, a site stays under 500 KB
# samples of a cell, and classes of the largest confusion matrix that is given whole: as much as the page has room for
ROOM = ((KEPT, 20), (2, 20), (1, 20), (1, 12), (1, 4), (0, 4))
COMMONEST = 8     # confusions of a larger matrix
LIKELIEST = 6     # of a sample's choices
FACTS = ("parameters", "tokens_seen", "digest", "stage", "parent", "lineage", "releases", "revision")
RUN_FACTS = ("date", "machine", "versions", "settings", "seed")
USUAL: dict[str, Any] = {  # settings that a command need not name
    "generation": False, "seeds": 1, "fixed_shots": False, "backend": "zhiling", "too_long": "truncate",
    "check_contamination": False, "bits_per_byte": False, "allow_code": False, "prompts": True, "compress": False,
}
FLAGS = {"prompts": ["--without-prompts"]}  # where a flag is not the setting's name
SCRIPTS = ("board_words.js.j2", "board_charts.js.j2", "board_app.js.j2")


def page(field: Field, rows: Sequence[Row], title: str = "zhiling 指令 · leaderboard") -> str:
    """The page, with as much to look at as fits into its size."""
    labels = {task: labels_of(field, task) for row in rows for task in row.cells}
    matrices = {id(c.tally): by_label(c.tally, labels[t]) for row in rows for t, c in row.cells.items() if c.tally}
    for samples, classes in ROOM:
        data = payload(field, rows, labels, matrices, samples, classes)
        text = render_page("leaderboard.html.j2", SCRIPTS, data, title=title, rows=rows)
        if len(text.encode()) <= MOST_BYTES:
            break
    return text


def payload(
    field: Field, rows: Sequence[Row], labels: Mapping[TaskKey, Mapping[str, str]],
    matrices: Mapping[int, Confusion | None], samples: int, classes: int,
) -> dict[str, Any]:
    """Everything that the page shows, as JSON holds it."""
    tasks = sorted({task for row in rows for task in row.cells})
    about = [_task(field, task, rows, labels[task]) for task in tasks]
    shown = [_Shared(task["templates"], samples, classes) for task in about]
    boards: dict[int, list[Any]] = {}
    for row in rows:
        cells = {
            i: _cell(row.cells[task], matrices, shown[i]) for i, task in enumerate(tasks) if task in row.cells
        }
        entry = {"m": row.model.name, "k": row.model.kind, "tier": row.tier, "mean": _estimate(row.mean), "c": cells}
        boards.setdefault(row.shots, []).append(entry)
    for task, found in zip(about, shown, strict=True):
        task |= {"samples": found.rows, "words": found.words}
    names = {row.model.name: row.model for row in rows if row.model.kind not in REFERENCES}
    return {
        "tasks": about, "models": [_model(model) for model in names.values()],
        "boards": [{"shots": shots, "rows": found} for shots, found in boards.items()],
    }


def _points(share: float) -> float:
    return round(100 * share, 1)


def _exact(share: float) -> float:
    """Points that the page still computes with: rounded so late that it shows what the tables show."""
    return round(100 * share, 3)


def _estimate(found: Estimate | None) -> list[Any] | None:
    if found is None:
        return None
    finite = abs(found.low) < float("inf") and found.groups > 0
    return [_exact(found.value), *((_exact(found.low), _exact(found.high)) if finite else (None, None))]


def _task(field: Field, task: TaskKey, rows: Sequence[Row], labels: Mapping[str, str]) -> dict[str, Any]:
    cells = [row.cells[task] for row in rows if task in row.cells]
    tallies = [c.tally for c in cells if c.tally]
    told = field.tasks[task]
    release, human = told.get("release"), human_score(task.pack, told)
    return {
        "id": task.title, "pack": task.pack, "data": task.data, "version": str(told.get("pack_version", "")),
        "release": str(release.get("version", "")) if isinstance(release, dict) else "",
        "chance": _exact(cells[0].chance), "items": max(len(t.items) for t in tallies),
        "groups": max(len(set(t.groups)) for t in tallies), "labels": sorted(set(labels.values())),
        "templates": sorted({name for t in tallies for name in t.templates}),
        "held": sorted(name for key, name in field.held_out if key == task),
        "human": human[1] if human else "",
        **{key: str(told.get(key, "")) for key in ("source", "license")},
    }


def _model(model: Model) -> dict[str, Any]:
    facts = {key: model.about[key] for key in FACTS if model.about.get(key) is not None}
    runs = [{key: run[key] for key in RUN_FACTS if key in run} | {"command": command(model, run)} for run in model.runs]
    return {"name": model.name, "kind": model.kind, **facts, "runs": runs}


def command(model: Model, run: Mapping[str, Any]) -> str:
    """The command that makes a run anew; DATA stands for the reader's copies of public data sets."""
    settings, tasks = run.get("settings", {}), run.get("tasks", {})
    words = ["zhiling", "eval", model.name]
    told = [r for task in tasks.values() if isinstance(r := task.get("release"), dict)]
    releases = {f"out/{release.get('name')}/{release.get('version')}" for release in told}
    for folder in sorted(releases)[:1]:
        words += ["--release", folder]
    if any("source" in told for told in tasks.values()):
        words += ["--data", "DATA"]
    for flag, key in (("tasks", "packs"), ("shots", "shots"), ("templates", "templates"), ("limit", "limit")):
        value = settings.get(key)
        if value is not None:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    for key, usual in USUAL.items():
        value, flag = settings.get(key, usual), key.replace("_", "-")
        if value != usual:
            words += FLAGS.get(key, [f"--{flag}"] + ([] if isinstance(usual, bool) else [str(value)]))
    return shlex.join(words)


class _Shared:
    """What a task's cells have in common, each once however many models: prompts to look at, labels with support."""

    def __init__(self, templates: list[str], most: int, classes: int) -> None:
        self.templates, self.most, self.classes = templates, most, classes
        self.rows: list[Any] = []
        self.words: list[list[Any]] = []
        self._index: dict[tuple[str, str], int] = {}

    def samples(self, cell: Cell) -> list[Any]:
        """The cell's samples: which prompt, the choices' log-probabilities or the text said, right or not."""
        kept = cell.tally.kept[: self.most] if cell.tally and cell.tally.templates != ("row",) else ()
        return [[self._place(s), _logprobs(s) if s.logprobs else s.prediction, int(s.correct)] for s in kept]

    def _place(self, sample: Sample) -> int:
        prompt = sample.prompt_sha256 or f"{sample.source_id} {sample.template} {sample.shots} {sample.seed}"
        key = (prompt, "\x1f".join(sample.choices))
        if key not in self._index:
            self._index[key] = len(self.rows)
            asked = (sample.template, sample.shots, sample.source_id, sample.shown_prompt)
            row = [*asked, list(sample.choices), sample.target]
            self.rows.append(row)
        return self._index[key]

    def matrix(self, found: Confusion) -> dict[str, Any]:
        """The whole matrix where it is small; else what each class's report needs, and the commonest confusions."""
        counts, size = found.counts.tolist(), range(len(found.labels))
        words = [list(found.labels), [sum(row) for row in counts]]
        if words not in self.words:
            self.words.append(words)
        about: dict[str, Any] = {"l": self.words.index(words), "t": len(found.templates)}
        if len(found.templates) == 1:
            about["of"] = found.templates[0]
        if len(size) <= self.classes:
            return about | {"n": counts}
        wrong = sorted((-counts[i][j], i, j) for i in size for j in size if i != j and counts[i][j])
        top = [[i, j, -n] for n, i, j in wrong[:COMMONEST]]
        return about | {"hit": [counts[i][i] for i in size], "said": found.counts.sum(axis=0).tolist(), "top": top}


def _logprobs(sample: Sample) -> dict[int, float]:
    """Each choice's log-probability; of many choices only the likeliest and the right one."""
    order = sorted(range(len(sample.logprobs)), key=lambda i: -sample.logprobs[i])[:LIKELIEST]
    right = [i for i, choice in enumerate(sample.choices) if choice.strip() == sample.target]
    return {i: round(sample.logprobs[i], 2) for i in sorted({*order, *right})}


def _cell(cell: Cell, matrices: Mapping[int, Confusion | None], shared: _Shared) -> dict[str, Any]:
    found: dict[str, Any] = {"s": _estimate(cell.score)}
    if cell.best:
        found["b"] = 1
    if cell.tally is not None and cell.tally.seen is not None and cell.tally.seen[0]:
        found["d"] = list(cell.tally.seen)
    if cell.tally is None:
        return found
    each = [_points(cell.templates[t]) if t in cell.templates else None for t in shared.templates]
    found |= {"n": cell.score.n, "g": cell.score.groups, "t": each, "x": shared.samples(cell)}
    found |= {"f": None if cell.f1_macro is None else _points(cell.f1_macro)}
    found |= {"e": None if cell.ece is None else _points(cell.ece)}
    matrix = matrices[id(cell.tally)]
    return found if matrix is None else found | {"m": shared.matrix(matrix)}
