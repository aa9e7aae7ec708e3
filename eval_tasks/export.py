"""Tasks to lm-eval YAML: a file for each task, a group for each pack, number of shots and area.

In: tasks. Out: a folder that stock lm-eval runs, `lm_eval --include_path FOLDER --tasks zh_sentiment_0shot`,
with no code of ours: its documents are Parquet rows, picked by filters. What is in the folder already and is
not of this export stays; a file that would change is replaced.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from zhiling.eval_tasks.task import Task
from zhiling.store import write_text

MEAN = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]


def export(tasks: Sequence[Task], folder: Path) -> list[Path]:
    """Write the tasks and their groups below `folder`; return the files."""
    files = export_texts(tasks)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def export_shipped(folder: Path, packs: Sequence[str] | None = None) -> list[Path]:
    """Write every shipped pack's tasks (or those of `packs`) below `folder`; remove what no pack makes any more."""
    from zhiling.eval_tasks.rendered_tasks import DOCUMENTS, shipped_tasks
    from zhiling.templates.pack import pack_names

    tasks = [task for name in packs or pack_names() for task in shipped_tasks(name, folder)]
    written = export(tasks, folder)
    kept = {*written, *(task.files[0] for task in tasks)}
    for path in [*folder.rglob("*.yaml"), *folder.rglob(DOCUMENTS)]:
        if path not in kept:
            path.unlink()
    return written


def export_texts(tasks: Sequence[Task]) -> dict[str, str]:
    """What `export` writes: file names and texts."""
    found = {f"{t.pack}/{t.name}.yaml": as_yaml({**t.config(), **_documents(t)}) for t in tasks}
    for name, (place, members) in groups(tasks).items():
        free = all(t.free for t in tasks if t.name in members)
        mean = [{**MEAN[0], "metric": "exact_match"}] if free else MEAN
        about: dict[str, Any] = {"group": name, "task": members}
        if all(m in {t.name for t in tasks} for m in members):
            about["aggregate_metric_list"] = mean
        found[f"{place}/_{name}.yaml"] = as_yaml(about)
    return found


def groups(tasks: Sequence[Task]) -> dict[str, tuple[str, list[str]]]:
    """Each group's folder and members: a pack at a number of shots, a pack, an area."""
    found: dict[str, tuple[str, list[str]]] = {}
    for task in tasks:
        pack = task.pack.replace("/", "_")
        kind = "_free" if task.free else ""
        at_shots = f"{pack}{kind}_{task.shots}shot"
        for name, place, member in (
            (at_shots, task.pack, task.name), (pack, task.pack, at_shots), (task.area, task.language, pack)
        ):
            members = found.setdefault(name, (place, []))[1]
            if member not in members:
                members.append(member)
    return found


def _documents(task: Task) -> dict[str, Any]:
    """Where lm-eval finds the documents."""
    kwargs: dict[str, Any] = {"data_files": {"test": [p.as_posix() for p in task.files]}}
    if task.filters:
        kwargs["filters"] = [list(f) for f in task.filters]
    return {"dataset_path": "parquet", "dataset_kwargs": kwargs}


def as_yaml(value: dict[str, Any]) -> str:
    """A task's or group's configuration as its file holds it."""
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
