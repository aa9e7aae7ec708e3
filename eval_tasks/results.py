"""Results folders: `<out>/<model>/<run>/` with lm-eval's `results_*.json`, `samples_*.jsonl[.gz]` and a manifest.

In: a folder, ours or one that stock lm-eval wrote for our tasks. Out: a `Run` of `Sample`s, one for each scored
document. Refused: no results in the folder, damaged JSON, a samples file cut short, samples of other documents
than the results count. Nothing in the folder is trusted: texts are only texts here, escape them before showing.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, one_line
from zhiling.store import MANIFEST, read_json, read_manifest

KIND = "results"
SCORES = ("acc", "match", "exact_match")  # which metric is the score, best first
WITHHELD = "（原文未随结果发布 · the text is not published with the results）"
MOST_BYTES = 2**29  # of samples in one file, unpacked


@dataclass(frozen=True)
class Sample:
    """One document as a model was asked and what it said; choices and prediction as the model saw them."""

    task: str            # lm-eval's task name
    pack: str
    template: str        # "row" for a baseline, which reads the corpus row itself
    shots: int           # of its task
    source_id: str       # the corpus row: what pairs two models, two templates
    group_id: str        # rows of one group are not independent: cluster by it
    prompt: str          # "" where the samples were written without, and so is its hash
    prompt_sha256: str
    choices: tuple[str, ...]      # () where the answer is free text
    logprobs: tuple[float, ...]   # of each choice, summed over its tokens
    target: str          # the right choice or text, stripped
    prediction: str      # the choice of the highest log-probability, or the text said, stripped
    score: float         # 1 or 0 for choices; else the task's first metric
    metrics: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0        # which draw of exemplars
    shown: int = 0       # exemplars that the prompt holds: fewer than `shots` where it was too long for the model

    @property
    def shown_prompt(self) -> str:
        """The prompt for people to read, or that it is not there."""
        return self.prompt or WITHHELD

    @property
    def correct(self) -> bool:
        """Whether the answer was right."""
        return self.score >= 1.0


@dataclass(frozen=True)
class Run:
    """A results folder that has been read."""

    folder: Path
    model: str                    # its name
    manifest: Mapping[str, Any]   # {} for a folder that stock lm-eval wrote
    results: Mapping[str, Any]    # lm-eval's results JSON
    samples: tuple[Sample, ...]

    @property
    def baseline(self) -> bool:
        """Whether this is a baseline and no model."""
        return self.model.startswith("baseline:")

    def of(self, **wanted: Any) -> list[Sample]:
        """The samples whose fields are as `wanted`, as `run.of(pack="zh/sentiment", shots=0)`."""
        return [s for s in self.samples if all(getattr(s, key) == value for key, value in wanted.items())]


def prompt_digest(prompt: str) -> str:
    """sha256 (hex) of a prompt, as lm-eval's `prompt_hash`."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def find_runs(root: Path) -> list[Path]:
    """Every results folder at or below `root`, sorted."""
    return sorted({p.parent for p in root.rglob("results_*.json")})


def read_run(folder: Path) -> Run:
    """Read a results folder. Raises UserError where it is absent, damaged or cut short."""
    found = sorted(folder.glob("results_*.json"))
    if not found:
        raise UserError(str(folder), "no results_*.json in it", "give a folder that `zhiling eval` wrote")
    if len(found) > 1:
        raise UserError(str(folder), f"{len(found)} results files", "keep one run in a folder")
    results = read_json(found[0])
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict):
        raise UserError(str(found[0]), "no lm-eval results", "make the file anew")
    manifest = read_manifest(folder, KIND) if (folder / MANIFEST).is_file() else {}
    _check_shape(found[0], results, ("results", "configs", "n-samples"))
    _check_shape(folder / MANIFEST, manifest, ("tasks",), ("model", "settings", "versions"))
    samples = [s for path in samples_files(folder) for s in _read_samples(path, results)]
    _check_counts(folder, results, samples)
    return Run(folder, _model_name(folder, manifest), manifest, results, tuple(samples))


def _model_name(folder: Path, manifest: Mapping[str, Any]) -> str:
    model = manifest.get("model")
    return str(model["name"]) if isinstance(model, dict) and "name" in model else folder.name


def samples_files(folder: Path, kind: str = "samples") -> list[Path]:
    """The samples (or `texts`) of a results folder, plain or gzipped, sorted."""
    return sorted(p for p in folder.glob(f"{kind}_*") if p.name.endswith((".jsonl", ".jsonl.gz")))


def task_of(path: Path, results: Mapping[str, Any], part: str = "results") -> str:
    """The task of `samples_<task>_<date or run>.jsonl[.gz]`."""
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl").partition("_")[2]
    known = results.get(part, {})
    return stem if stem in known else stem.rpartition("_")[0]


def sample_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values of a samples file, each with where it stands. Raises UserError where it is cut short."""
    where, left = str(path), MOST_BYTES
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as f:
            number = 0
            while line := f.readline(left):
                number, left = number + 1, left - len(line)
                where = f"{path}:{number}"
                if left <= 0:
                    raise UserError(where, f"more than {MOST_BYTES:,} bytes of samples", "give fewer in a file")
                if not line.endswith(b"\n"):
                    raise ValueError("cut short")
                yield where, json.loads(line)
    except (ValueError, OSError, EOFError, zlib.error) as error:  # no JSON, no UTF-8; a damaged .gz
        raise UserError(where, f"not a sample ({one_line(str(error))})", "run the evaluation again") from None


def _read_samples(path: Path, results: Mapping[str, Any]) -> Iterator[Sample]:
    task = task_of(path, results)
    told = results.get("configs", {}).get(task, {}).get("metadata", {}).get("shots")
    for where, row in sample_rows(path):
        try:
            sample = read_sample(task, row)
            yield replace(sample, shots=int(told)) if told is not None else sample
        except KeyError as error:
            raise UserError(where, f"no {error} in the sample", "give results of zhiling's tasks") from None
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise UserError(where, f"not a sample ({one_line(str(error))})", "run the evaluation again") from None


def read_sample(task: str, row: Mapping[str, Any]) -> Sample:
    """A sample as lm-eval writes it for one of our tasks. Raises KeyError or ValueError where it is none."""
    doc = row["doc"]
    metrics = {name: float(row[name]) for name in row["metrics"] if isinstance(row[name], int | float)}
    score = next((metrics[name] for name in SCORES if name in metrics), next(iter(metrics.values()), 0.0))
    choices = tuple(str(c) for c in doc.get("choices") or ())
    logprobs: tuple[float, ...] = ()
    if choices:
        logprobs = tuple(float(pair[0]) for pair in row["filtered_resps"][: len(choices)])
        if not all(map(isfinite, logprobs)):
            raise ValueError("a log-probability that is no number")
        prediction = choices[max(range(len(choices)), key=logprobs.__getitem__)]
        target = choices[int(row["target"])]
    else:
        said = row["filtered_resps"][0]
        prediction, target = str(said[0] if isinstance(said, list) else said), str(row["target"])
    return Sample(
        task=task, pack=str(doc["pack"]), template=str(doc["template"]), shots=int(doc["shots"]),
        source_id=str(doc["source_id"]), group_id=str(doc["group_id"]), prompt=str(doc.get("prompt", "")),
        prompt_sha256=str(row["prompt_hash"] if "prompt" in doc else ""), choices=choices, logprobs=logprobs,
        target=target.strip(), prediction=prediction.strip(), score=score, metrics=metrics,
        seed=int(doc.get("seed") or 0), shown=int(doc["shots"]),
    )


def _check_shape(file: Path, told: Mapping[str, Any], by_task: Sequence[str], plain: Sequence[str] = ()) -> None:
    """What is looked up by name is a mapping, and so is what it tells of each task."""
    for name in (*by_task, *plain):
        part = told.get(name, {})
        inner = part.values() if name in by_task and isinstance(part, dict) else ()
        metadata = (value.get("metadata", {}) for value in inner if isinstance(value, dict))
        if not all(isinstance(value, dict) for value in (part, *inner, *metadata)):
            saw = f"its '{name}' is not what lm-eval or zhiling writes"
            raise UserError(str(file), saw, "run the evaluation again")


def _check_counts(folder: Path, results: Mapping[str, Any], samples: list[Sample]) -> None:
    """As many samples of each task as its results were computed from."""
    found: dict[str, int] = {}
    for sample in samples:
        found[sample.task] = found.get(sample.task, 0) + 1
    for task, counts in results.get("n-samples", {}).items():
        wanted = counts.get("effective")
        if found.get(task, 0) != wanted:
            count = f"the results count {one_line(str(wanted), 20)}"
            saw = f"{found.get(task, 0)} samples of {one_line(task)} where {count}"
            raise UserError(str(folder), saw, "samples are missing or cut short: run the evaluation again")
