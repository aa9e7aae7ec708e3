"""Whether a results folder can be believed: every score again from its samples, every prompt against its digest.

In: a results folder, and the release or the public data that it was measured on where that is at hand. Out: what does
not agree, one line each; nothing where all of it does. Samples without prompts are held against the data alone. What
this cannot see: log-probabilities that no model gave. For that the command in the board is there to be run again.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zhiling.errors import UserError, one_line
from zhiling.eval_tasks.metrics import classification, corpus_metrics, said_well
from zhiling.eval_tasks.results import (
    KIND,
    Run,
    prompt_digest,
    read_run,
    read_sample,
    sample_rows,
    samples_files,
    task_of,
)
from zhiling.eval_tasks.rolling import per_byte
from zhiling.eval_tasks.task import ENDS, FIELDS, Task, task_digest
from zhiling.store import MANIFEST, differences, digest

CLOSE = 1e-6
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Known:
    """What is at hand to hold results against."""

    release: Path | None = None
    data: str | None = None
    allow_code: bool = False   # code that a model wrote runs again

    def tasks(self, run: Run, scratch: Path) -> dict[str, Task] | None:
        """The tasks as the release or the public data asks them; None where neither is at hand."""
        from zhiling.eval_tasks.config import EvalSettings
        from zhiling.eval_tasks.release_tasks import release_tasks
        from zhiling.eval_tasks.rendered_tasks import named_tasks

        if self.release:
            return {task.name: task for task in release_tasks(self.release)}
        if self.data is None or run.baseline:
            return None
        told = EvalSettings.model_validate({**run.manifest.get("settings", {}), "data": self.data})
        return {task.name: task for task in named_tasks(told, scratch)}


def verify(folder: Path, known: Known = Known()) -> list[str]:
    """What does not agree in a results folder, at most one line for each task and kind of fault."""
    if not (folder / MANIFEST).is_file():
        return [f"no {MANIFEST}: which model and tasks it was cannot be told"]
    try:
        return list(_faults(folder, read_run(folder), known))
    except UserError as error:
        return [str(error)]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        return [f"not what `zhiling eval` writes ({type(error).__name__}: {one_line(str(error))})"]


def has_prompts(folder: Path) -> bool:
    """Whether a results folder's samples hold the texts that were asked."""
    return all("prompt" in row["doc"] for path in samples_files(folder)[:1] for _, row in sample_rows(path))


def _faults(folder: Path, run: Run, known: Known) -> Iterator[str]:
    listed = run.manifest.get("tasks")
    if not isinstance(listed, dict) or not isinstance(run.manifest.get("model"), dict):
        yield f"{MANIFEST} names no model or no tasks"
        return
    yield from differences(folder, KIND)
    rows = _rows(folder, run)
    with TemporaryDirectory() as scratch:
        asked = known.tasks(run, Path(scratch))
        for name in sorted(set(rows) | set(run.results["results"]) | set(listed)):
            if not (name in rows and name in run.results["results"] and name in listed):
                yield f"{one_line(name)}: not in all of samples, results and {MANIFEST}"
                continue
            yield from _task(name, rows[name], run, listed[name], known.allow_code)
            if asked is not None and listed[name].get("template") != "row":
                source = str(known.release or known.data)
                yield from _against(name, listed[name], asked.get(name), source, rows[name])
    yield from _groups(run.results)
    yield from _texts(folder, run.results)


def _rows(folder: Path, run: Run) -> dict[str, list[Any]]:
    """The samples as they stand in the files, by task, in the order of their documents."""
    found: dict[str, list[Any]] = {}
    for path in samples_files(folder):
        rows = (row for _, row in sample_rows(path))
        found[task_of(path, run.results)] = sorted(rows, key=lambda row: int(row["doc_id"]))
    return found


def _task(name: str, rows: Rows, run: Run, listed: Mapping[str, Any], code: bool) -> Iterator[str]:
    config = run.results.get("configs", {}).get(name, {})
    if digest({key: config[key] for key in _asked() if key in config}) != listed.get("task_digest"):
        yield f"{name}: its configuration is not the one that the task digest was made of"
    whole = all("prompt" in row["doc"] for row in rows)
    if whole and digest([row["doc"] for row in rows]) != listed.get("documents_digest"):
        yield f"{name}: its documents are not the ones that the documents digest was made of"
    for row in rows:
        wrong = _row(row, config.get("metadata", {}), code)
        if wrong:
            yield f"{name}, document {row['doc_id']}: {wrong}"
            break
    yield from _scores(name, rows, run.results["results"][name], config.get("metadata", {}))


@cache
def _asked() -> frozenset[str]:
    """The parts of lm-eval's configuration that a task's digest is of; lm-eval adds its defaults to them."""
    made = (Task("", "", "", 0, "", "", free, (), ()).config() for free in (False, True))
    return frozenset(key for config in made for key in config)


def _row(row: Mapping[str, Any], told: Mapping[str, Any], code: bool) -> str | None:
    """The first thing that is wrong with a sample."""
    doc = row["doc"]
    if "prompt" in doc and prompt_digest(doc["prompt"]) != row["prompt_hash"]:
        return "its prompt is not the one that was hashed"
    if doc.get("choices") and (row["target"] != doc["answer"] or doc["choices"][doc["answer"]] != doc["completion"]):
        return "its target is not its document's answer"
    if not doc.get("choices") and str(row["target"]) != doc["completion"]:
        return "its target is not its document's completion"
    again = {metric: AGAIN[metric](row) for metric in row["metrics"] if metric in AGAIN}
    if not doc.get("choices"):
        fields = doc.get(FIELDS)
        again |= said_well(_said(row), str(row["target"]), told.get("metrics", []), told.get("parser"), fields, code)
    for metric in row["metrics"]:
        if metric == "pass_at_1" and not code:
            return "pass_at_1 is not computed again unless code may run (--allow-code)"
        if metric not in again:
            return f"{metric} is a metric that is not known here"
        if abs(again[metric] - float(row[metric])) > CLOSE:
            return f"{metric} is {row[metric]}, from what the model said it is {again[metric]}"
    return None


def _said(row: Mapping[str, Any]) -> str:
    said = row["filtered_resps"][0]
    return str(said[0] if isinstance(said, list) else said)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _acc(row: Mapping[str, Any]) -> float:
    return float(_best([float(pair[0]) for pair in row["filtered_resps"]]) == row["target"])


def _acc_norm(row: Mapping[str, Any]) -> float:
    lengths = [max(1, len(choice)) for choice in row["doc"]["choices"]]
    scores = [float(pair[0]) / n for pair, n in zip(row["filtered_resps"], lengths, strict=False)]
    return float(_best(scores) == row["target"])


def _exact_match(row: Mapping[str, Any]) -> float:
    return float(re.sub(ENDS, "", _said(row)) == re.sub(ENDS, "", str(row["target"])))


AGAIN: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "acc": _acc, "acc_norm": _acc_norm, "exact_match": _exact_match
}


def _scores(name: str, rows: Rows, told: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[str]:
    """Every mean and its error in the results, against the samples."""
    for metric in dict.fromkeys(metric for row in rows for metric in row["metrics"]):
        values = [float(row[metric]) for row in rows if metric in row["metrics"]]
        mean = sum(values) / len(values)
        yield from _differs(f"{name}: {metric}", told.get(f"{metric},none"), mean)
        stderr = told.get(f"{metric}_stderr,none")
        if isinstance(stderr, int | float) and len(values) > 1:
            variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            yield from _differs(f"{name}: {metric}_stderr", stderr, (variance / len(values)) ** 0.5)
    samples = [read_sample(name, row) for row in rows]
    whole = corpus_metrics(samples, metadata.get("metrics", []), str(rows[0]["doc"].get("language", "")))
    for metric, value in (classification(samples) | whole).items():
        if f"{metric},none" in told:
            yield from _differs(f"{name}: {metric}", told[f"{metric},none"], value)


def _groups(results: Mapping[str, Any]) -> Iterator[str]:
    """The groups' means, against the tasks' scores."""
    for group, members in results.get("group_subtasks", {}).items():
        told = results.get("groups", {}).get(group, {})
        for metric in (m for m in told if "," in m and "_stderr" not in m):
            values = [results["results"][name][metric] for name in members]
            yield from _differs(f"group {group}: {metric}", told[metric], sum(values) / len(values))


def _texts(folder: Path, results: Mapping[str, Any]) -> Iterator[str]:
    """Bits per byte, against each text's log-likelihood."""
    told = results.get("texts", {})
    found = {task_of(p, results, "texts"): [row for _, row in sample_rows(p)] for p in samples_files(folder, "texts")}
    for name in sorted(told.keys() | found.keys()):
        if not (name in told and name in found):
            yield f"{one_line(name)}: not in both of texts and results"
            continue
        for metric, value in per_byte(found[name]).items():
            yield from _differs(f"{name}: {metric}", told[name].get(metric), value)


def _differs(what: str, told: Any, again: float) -> Iterator[str]:
    if not isinstance(told, int | float) or abs(told - again) > CLOSE:
        yield f"{what} is given as {one_line(str(told))}, from the samples it is {again:.6f}"


def _against(name: str, listed: Mapping[str, Any], task: Task | None, source: str, rows: Rows) -> Iterator[str]:
    if task is None:
        yield f"{name}: {source} has no such task"
        return
    if task_digest(task) != listed.get("task_digest"):
        yield f"{name}: asked otherwise than {source} asks it (its task digest)"
    documents = {doc["id"]: doc for doc in task.documents(len(rows)).to_pylist()}
    order = [doc["source_id"] for doc in documents.values()]
    if [row["doc"]["source_id"] for row in rows] != order:
        yield f"{name}: its documents are not the first {len(rows)} of {source}"
        return
    if listed.get("too_long"):
        documents |= {doc["id"]: doc for doc in task.with_fewer_shots().to_pylist()}
    again = [documents.get(row["doc"]["id"]) for row in rows]
    told = [{**(doc or {}), **row["doc"]} for doc, row in zip(again, rows, strict=True)]  # a sample may lack its prompt
    if told != again or digest(again) != listed.get("documents_digest"):
        yield f"{name}: its prompts are not those of {source}"
