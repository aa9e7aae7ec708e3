"""What a run leaves behind: lm-eval's results JSON with our metrics beside its own, samples, the manifest.

In: the parts of a run (each a task with its documents) and lm-eval's results for each. Out: the files of one results
folder, as `results.py` reads them. Every number is computed from the samples as they are written, so that
`zhiling leaderboard verify` comes to the same.
"""

import gzip
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.models import Subject
from zhiling.eval_tasks.results import KIND, Sample, read_sample
from zhiling.eval_tasks.rolling import per_byte
from zhiling.eval_tasks.task import FIELDS, Task, task_digest
from zhiling.store import digest, write_bytes, write_json, write_manifest

LIBRARIES = ("lm_eval", "transformers", "torch", "scikit-learn")
Results = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One task with its documents, and the digest of all that its results hang on."""

    task: Task
    documents: pa.Table
    digest: str


@dataclass(frozen=True)
class Corpus:
    """Texts that a model is to foresee, by row, and the digest of all that the figures hang on."""

    name: str
    corpus: str
    texts: dict[str, str]
    digest: str


def versions() -> dict[str, str]:
    """The versions that results hang on."""
    return {**{name: version(name) for name in LIBRARIES}, "zhiling": version("zhiling")}


def machine() -> str:
    """The class of this machine, as `2 CPU cores` or `1 NVIDIA H100`; never its name."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} {torch.cuda.get_device_name(0)}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def write_run(
    folder: Path, run_id: str, subject: Subject, parts: Sequence[Part], found: Sequence[Results],
    settings: EvalSettings, texts: Mapping[str, Sequence[Any]],
) -> None:
    """Fill an empty folder with a run's results, samples and manifest."""
    for name, rows in texts.items():
        _write_samples(folder / f"texts_{name}_{run_id}.jsonl", rows, settings.compress)
    for part, results in zip(parts, found, strict=True):
        rows = results["samples"][part.task.name]
        if not settings.prompts:  # nor its hash: the manifest's digest of all documents tells as much
            rows = [{k: v for k, v in row.items() if k != "prompt_hash"} for row in rows]
            rows = [row | {"doc": {k: v for k, v in row["doc"].items() if k != "prompt"}} for row in rows]
        _write_samples(folder / f"samples_{part.task.name}_{run_id}.jsonl", rows, settings.compress)
    merged = _merged(subject, parts, found, settings)
    if texts:
        merged["texts"] = {name: per_byte(rows) for name, rows in texts.items()}
    write_json(folder / f"results_{run_id}.json", merged)
    write_manifest(folder, KIND, _about(subject, parts, found, settings))


def _write_samples(path: Path, rows: Iterable[Any], compress: bool) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")
    if compress:
        write_bytes(path.with_name(f"{path.name}.gz"), gzip.compress(text, mtime=0))
    else:
        write_bytes(path, text)


def plain(results: Results, task: Task, allow_code: bool = False) -> Results:
    """lm-eval's results as JSON holds them, without what they repeat: prompts for every choice, its own defaults.

    Free texts get our metrics beside lm-eval's.
    """
    from zhiling.eval_tasks.metrics import said_well

    wanted, parser = task.made_from.get("metrics", []), task.made_from.get("parser")
    results["configs"] = {task.name: task.config()}
    for sample in results["samples"][task.name]:
        for repeated in ("arguments", "resps", "doc_hash", "target_hash"):
            sample.pop(repeated, None)
        if not task.free:
            _check_finite(task.name, [score for score, _ in sample["filtered_resps"]])
            sample["filtered_resps"] = [[_shortest(score), best] for score, best in sample["filtered_resps"]]
        if task.free:
            said, fields = sample["filtered_resps"][0], sample["doc"].get(FIELDS)
            found = said_well(said, sample["target"], wanted, parser, fields, allow_code)
            sample |= {**found, "metrics": [*sample["metrics"], *found]}
    found_plain: Results = json.loads(json.dumps(results, default=_jsonable, ensure_ascii=False))
    return found_plain


def _check_finite(task: str, scores: Sequence[float]) -> None:
    broken = next((score for score in scores if not np.isfinite(score)), None)
    if broken is not None:
        saw = f"the model gives a choice the log-probability {float(broken)}"
        raise UserError(task, saw, "its weights are broken (a training that diverged?): score another checkpoint")


def _shortest(score: float) -> float:
    """The shortest decimal that is the same single-precision number, where that is what a model gave."""
    single = np.float32(score)
    return float(str(single)) if float(single) == float(score) else float(score)


def _jsonable(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _merged(subject: Subject, parts: Sequence[Part], found: Sequence[Results], settings: EvalSettings) -> Results:
    """One results JSON in lm-eval's form, with our metrics beside its own and the groups' means."""
    from zhiling.eval_tasks.metrics import OF_TEXTS, classification, corpus_metrics

    merged: Results = {}
    for key in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        merged[key] = {name: value for results in found for name, value in results[key].items()}
    for part, results in zip(parts, found, strict=True):
        name = part.task.name
        samples = [read_sample(name, row) for row in results["samples"][name]]
        ours = classification(samples) | _mean_metrics(samples, OF_TEXTS)
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


def _groups(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """The tasks of each pack at each number of shots."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(f"{task.pack.replace('/', '_')}_{task.shots}shot", []).append(task.name)
    return groups


def _mean_metrics(samples: Sequence[Sample], names: Iterable[str]) -> dict[str, float]:
    """Means of the metrics over the samples that have them: a row without tests has no `pass_at_1`."""
    values = {m: [s.metrics[m] for s in samples if m in s.metrics] for m in names}
    return {m: sum(found) / len(found) for m, found in values.items() if found}


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain means over templates of the numbers that all of them have."""
    names = [n for n, v in results[0].items() if "," in n and "_stderr" not in n and isinstance(v, int | float)]
    shared = [n for n in names if all(isinstance(r.get(n), int | float) for r in results)]
    return {n: sum(r[n] for r in results) / len(results) for n in shared}


def _about(
    subject: Subject, parts: Sequence[Part], found: Sequence[Results], settings: EvalSettings
) -> dict[str, Any]:
    """The manifest: what was scored, on what, how, with what; the documents are those that were asked in the end."""
    tasks = {}
    for part, results in zip(parts, found, strict=True):
        rows = sorted(results["samples"][part.task.name], key=lambda row: int(row["doc_id"]))
        tasks[part.task.name] = {
            "pack": part.task.pack, "template": part.task.template, "shots": part.task.shots, "kind": part.task.kind,
            "language": part.task.language, "documents": len(rows), "task_digest": task_digest(part.task),
            "documents_digest": digest([row["doc"] for row in rows]), **part.task.made_from,
        } | ({"too_long": results["too_long"]} if results.get("too_long") else {})
    model = {"name": subject.name, "kind": subject.kind, "digest": subject.digest, **subject.about}
    return {
        "model": model, "tasks": tasks, "settings": settings.model_dump(mode="json"), "seed": settings.seed,
        "versions": versions(), "machine": machine(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
