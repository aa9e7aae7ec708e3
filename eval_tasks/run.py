"""Score a model: its tasks are asked one after another, finished parts are kept, the results folder is written.

In: a model folder, a name or a baseline, a release or tasks, settings. Out: `<out>/<model>/<run>/` as described in
`results.py`. A killed run goes on where it was: each task's results are one file in `.parts/`, named by the digest
of everything that they hang on, so a part of another model, pack, document, setting or version is never taken for it.
"""

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.console import note, progress
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.models import Subject, find_subject
from zhiling.eval_tasks.release_tasks import release_tasks
from zhiling.eval_tasks.results import KIND, Sample, read_sample
from zhiling.eval_tasks.task import Task, choose, documents_digest, task_digest
from zhiling.store import MANIFEST, atomic_folder, digest, read_json, write_json, write_jsonl, write_manifest

PARTS = ".parts"
DOCUMENTS = ".documents"
LIBRARIES = ("lm_eval", "transformers", "torch", "scikit-learn")
Results = dict[str, Any]
Ask = Callable[["Part"], Results]


@dataclass(frozen=True)
class Part:
    """One task with its documents, and the digest of all that its results hang on."""

    task: Task
    documents: pa.Table
    digest: str


def evaluate(name_or_folder: str, release: Path, settings: EvalSettings, out: Path) -> Path:
    """Score a model folder, a Hub name or a baseline on a release's test rows; return the results folder."""
    tasks = tasks_of(release, settings)
    subject = find_subject(name_or_folder)
    if subject.kind == "baseline":
        return _evaluate_baseline(subject, release, tasks, settings, out)
    return evaluate_tasks(subject, tasks, settings, out)


def evaluate_named(name_or_folder: str, data: str | None, settings: EvalSettings, out: Path) -> Path:
    """Score a model on public data sets (from `data`) and on shipped packs' examples; return the results folder."""
    subject = find_subject(name_or_folder)
    if subject.kind == "baseline":
        raise UserError(subject.name, "a baseline is fitted on a release's train rows", "give one with --release")
    return evaluate_tasks(subject, named_tasks(data, settings, out / DOCUMENTS), settings, out)


def tasks_of(release: Path, settings: EvalSettings) -> list[Task]:
    """The tasks of a release that the settings ask for."""
    found = release_tasks(release)
    return choose(found, str(release), settings.packs, settings.templates, settings.shots, settings.generation)


def named_tasks(data: str | None, settings: EvalSettings, folder: Path) -> list[Task]:
    """The public data sets and shipped packs that the settings name, their documents rendered into `folder`."""
    from zhiling.eval_tasks.public import PUBLIC
    from zhiling.eval_tasks.rendered_tasks import public_tasks, shipped_tasks
    from zhiling.templates.pack import pack_names

    packs = pack_names()
    known = {*PUBLIC, *packs, *(name.split("/")[0] for name in PUBLIC if "/" in name)}
    tasks: list[Task] = []
    for wanted in packs if settings.packs is None else settings.packs:
        if wanted not in known:
            raise UserError("--tasks", f"no task '{one_line(wanted, 60)}'", did_you_mean(wanted, known))
        if wanted in packs:
            tasks += shipped_tasks(wanted, folder)
            continue
        if data is None:
            raise UserError(f"task '{wanted}'", "no data for it", "give the folder of your copies with --data FOLDER")
        for name in [n for n in PUBLIC if n == wanted or n.startswith(f"{wanted}/")]:
            seeds = range(settings.seeds)
            tasks += public_tasks(
                name, data, folder, settings.shots or (0,), seeds, settings.templates, settings.limit,
                settings.fixed_shots,
            )
    return choose(tasks, "the tasks", None, settings.templates, None, settings.generation)


def evaluate_tasks(subject: Subject, tasks: Sequence[Task], settings: EvalSettings, out: Path) -> Path:
    """Score a model on tasks; return the results folder."""
    if subject.kind == "masked" and any(task.free for task in tasks):
        note(f"{subject.name}: a masked model writes no texts, free-text templates are passed over")
        tasks = [task for task in tasks if not task.free]
    parts = [_part(subject, task, task.documents(settings.limit), settings) for task in tasks]

    @cache
    def model() -> Any:
        from zhiling.eval_tasks.engine import load_model

        return load_model(subject, settings)

    def ask_model(part: Part) -> Results:
        from zhiling.eval_tasks.engine import ask
        from zhiling.eval_tasks.fitting import fit

        documents, too_long = fit(model(), part.task, part.documents, settings.too_long)
        return ask(model(), part.task, documents) | {"too_long": too_long}

    return _run(subject, parts, settings, out, ask_model)


def _evaluate_baseline(
    subject: Subject, release: Path, tasks: Sequence[Task], settings: EvalSettings, out: Path
) -> Path:
    from zhiling.eval_tasks.baselines import baseline_tasks

    found = baseline_tasks(subject.name.removeprefix("baseline:"), release, tasks, settings.limit)
    scores = {row.task.name: row.scores for row in found}
    parts = [_part(subject, row.task, row.documents, settings, row.scores) for row in found]

    def ask_table(part: Part) -> Results:
        from zhiling.eval_tasks.engine import ScoresLM, ask

        return ask(ScoresLM(scores[part.task.name]), part.task, part.documents)

    return _run(subject, parts, settings, out, ask_table)


def versions() -> dict[str, str]:
    """The versions that results hang on."""
    return {**{name: version(name) for name in LIBRARIES}, "zhiling": version("zhiling")}


def machine() -> str:
    """The class of this machine, as `2 CPU cores` or `1 NVIDIA H100`; never its name."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} {torch.cuda.get_device_name(0)}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def _part(
    subject: Subject, task: Task, documents: pa.Table, settings: EvalSettings, scores: Any = None
) -> Part:
    if not len(documents):
        raise UserError(task.name, "no documents", "give a release or files with test rows")
    hangs_on = {
        "model": subject.digest, "task": task_digest(task), "documents": documents_digest(documents),
        "backend": settings.backend, "too_long": settings.too_long, "versions": versions(), "scores": scores,
    }
    return Part(task, documents, digest(hangs_on))


def _run(subject: Subject, parts: list[Part], settings: EvalSettings, out: Path, ask: Ask) -> Path:
    """Ask what is not there yet, and write the results folder."""
    home = out / subject.folder_name
    run_id = digest([part.digest for part in parts])[:12]
    folder = home / run_id
    if (folder / MANIFEST).is_file():
        note(f"{subject.name}: scored before, {folder} is kept")
        return folder
    quiet_libraries()
    found: list[Results] = []
    with progress(f"scoring {subject.name}", sum(len(p.documents) for p in parts)) as bar:
        for part in parts:
            path = home / PARTS / f"{part.digest[:32]}.json"
            if not path.is_file():
                write_json(path, _plain(ask(part), part.task))
            found.append(read_json(path))
            bar(len(part.documents), part.task.name)
    about = _about(subject, parts, settings)
    with atomic_folder(folder) as temporary:
        for part, results in zip(parts, found, strict=True):
            write_jsonl(temporary / f"samples_{part.task.name}_{run_id}.jsonl", results["samples"][part.task.name])
        write_json(temporary / f"results_{run_id}.json", _merged(subject, parts, found, settings))
        write_manifest(temporary, KIND, about)
    return folder


def quiet_libraries() -> None:
    """lm-eval, transformers and datasets say only what is wrong, and draw no bars of their own."""
    import logging

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _plain(results: Results, task: Task) -> Results:
    """lm-eval's results as JSON holds them, samples without the prompt repeated for every choice.

    Free texts get our metrics beside lm-eval's.
    """
    from zhiling.eval_tasks.metrics import said_well

    wanted, parser = task.made_from.get("metrics", []), task.made_from.get("parser")
    for sample in results["samples"][task.name]:
        del sample["arguments"], sample["resps"]
        if task.free:
            found = said_well(sample["filtered_resps"][0], sample["target"], wanted, parser)
            sample |= {**found, "metrics": [*sample["metrics"], *found]}
    plain: Results = json.loads(json.dumps(results, default=_jsonable, ensure_ascii=False))
    return plain


def _jsonable(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _merged(subject: Subject, parts: list[Part], found: list[Results], settings: EvalSettings) -> Results:
    """One results JSON in lm-eval's form, with our metrics beside its own and the groups' means."""
    from zhiling.eval_tasks.metrics import PER_SAMPLE, classification, corpus_metrics

    merged: Results = {}
    for key in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        merged[key] = {name: value for results in found for name, value in results[key].items()}
    for part, results in zip(parts, found, strict=True):
        name = part.task.name
        samples = [read_sample(name, row) for row in results["samples"][name]]
        ours = classification(samples) | _mean_metrics(samples, ("match", *PER_SAMPLE))
        ours |= corpus_metrics(samples, part.task.made_from.get("metrics", []), part.task.language)
        if results.get("too_long"):
            merged["results"][name]["too_long"] = results["too_long"]
        merged["results"][name] |= {f"{m},none": value for m, value in ours.items()}
    merged["group_subtasks"] = _groups([part.task for part in parts])
    merged["groups"] = {
        group: _mean([merged["results"][name] for name in members]) | {"alias": group}
        for group, members in merged["group_subtasks"].items()
    }
    merged["config"] = {
        "model": settings.backend, "model_args": {"pretrained": subject.name}, "limit": settings.limit,
        "batch_size": settings.batch_tokens, "random_seed": settings.seed,
    }
    merged["model_name"] = subject.name
    merged["lm_eval_version"], merged["transformers_version"] = version("lm_eval"), version("transformers")
    return merged


def _groups(tasks: list[Task]) -> dict[str, list[str]]:
    """The tasks of each pack at each number of shots."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(f"{task.pack.replace('/', '_')}_{task.shots}shot", []).append(task.name)
    return groups


def _mean_metrics(samples: list[Sample], names: Iterable[str]) -> dict[str, float]:
    """Means over samples of those of the metrics that they have."""
    return {m: sum(s.metrics[m] for s in samples) / len(samples) for m in names if m in samples[0].metrics}


def _mean(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Plain means over templates of the numbers that all of them have."""
    names = [n for n, v in results[0].items() if "," in n and "_stderr" not in n and isinstance(v, int | float)]
    shared = [n for n in names if all(isinstance(r.get(n), int | float) for r in results)]
    return {n: sum(r[n] for r in results) / len(results) for n in shared}


def _about(subject: Subject, parts: list[Part], settings: EvalSettings) -> dict[str, Any]:
    """The manifest: what was scored, on what, how, with what."""
    tasks = {
        part.task.name: {
            "pack": part.task.pack, "template": part.task.template, "shots": part.task.shots, "kind": part.task.kind,
            "language": part.task.language, "documents": len(part.documents), "task_digest": task_digest(part.task),
            "documents_digest": documents_digest(part.documents), **part.task.made_from,
        }
        for part in parts
    }
    model = {"name": subject.name, "kind": subject.kind, "digest": subject.digest, **subject.about}
    return {
        "model": model, "tasks": tasks, "settings": settings.model_dump(mode="json"), "seed": settings.seed,
        "versions": versions(), "machine": machine(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
