"""Trying settings: trials of one stage by Optuna, each chosen by the validation loss; the test split is never opened.

In: the recipe's `train` and `sweep` sections, a release, the model before the stage. Out: in a folder the study
(SQLite), `trials.jsonl`, `trials.csv`, plots, and the best settings. Trials are proposed in rounds, each from all
rounds before it and its own number, so neither the number of workers nor the clock changes what is tried; a killed
sweep goes on inside the trial where it was. A trial that fails is recorded with its reason; refused is a folder of
another sweep.
"""

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.console import note, progress
from zhiling.errors import UserError, one_line
from zhiling.seeds import draw
from zhiling.store import MANIFEST, file_digest, locked, read_json, read_manifest, write_json, write_jsonl, write_text
from zhiling.trainer.checkpoint import METRICS, claim
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.sweep_space import SweepSettings, Value, Values, with_params

STUDY = "sweep"


@dataclass(frozen=True)
class Job:
    """One trial, as a worker gets it."""

    number: int
    params: dict[str, Value]
    train: dict[str, Any]
    sweep: SweepSettings
    release: Path
    parent: Path | None
    folder: Path

    @property
    def home(self) -> Path:
        """Where its log and its outcome go."""
        return self.folder / "trials" / f"{self.number:04d}"


def sweep(
    settings: SweepSettings, train: Mapping[str, Any], release: Path, parent: Path | None, folder: Path,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Run what is left of a sweep; return all trials, the best first. Raises UserError where all failed."""
    from zhiling.trainer.stages import identity

    read_manifest(release, "release")
    made_from = {
        "train": dict(train), "sweep": settings.model_dump(mode="json", exclude={"trials"}),
        "release": file_digest(release / MANIFEST), "parent": identity(parent) if parent else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "another sweep"):
        claim(folder, made_from)
        return _sweep(settings, train, release, parent, folder, workers)


def _sweep(
    settings: SweepSettings, train: Mapping[str, Any], release: Path, parent: Path | None, folder: Path, workers: int
) -> list[dict[str, Any]]:
    from zhiling.trainer.sweep_plots import draw_plots
    from zhiling.trainer.sweep_workers import Workers

    study, _ = open_study(folder, settings)
    with Workers(min(workers, settings.together)) as crew, progress("sweep", settings.trials) as bar:
        for numbers in _rounds(settings):
            trials = [_ask(study, settings, number) for number in numbers]
            waiting = [t for t in trials if not t.state.is_finished()]
            jobs = [Job(t.number, t.params, dict(train), settings, release, parent, folder) for t in waiting]
            for trial, found in zip(waiting, crew.run(jobs), strict=True):
                _tell(study, trial, found)
            bar(len(trials), _best_so_far(study))
    rows = sorted((_row(trial, folder) for trial in study.trials), key=_rank)
    write_jsonl(folder / "trials.jsonl", sorted(rows, key=lambda row: int(row["trial"])))
    _write_csv(folder / "trials.csv", sorted(rows, key=lambda row: int(row["trial"])))
    draw_plots(study, folder)
    if rows[0]["state"] != "complete":
        raise UserError(str(folder), f"no trial came to an end (trial 0: {rows[0].get('reason', rows[0]['state'])})",
                        "mend the recipe and remove the folder")
    return rows


def prepared(
    settings: SweepSettings, train: TrainSettings, release: Path, model: Path | None, folder: Path
) -> Path | None:
    """The model before the swept stage: the one given, or one made by the recipe's own settings."""
    from zhiling.trainer.stages import instruct, pretrain

    if model or settings.stage == "pretrain":
        return model
    before = pretrain(release, train, folder / "models" / "pretrained")
    if settings.stage == "instruct":
        return before
    return instruct(release, before, train, folder / "models" / "instructed")


def open_study(folder: Path, settings: SweepSettings) -> tuple[Any, Any]:
    """The study in a sweep's folder, and its storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    pruners = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=4), "hyperband": optuna.pruners.HyperbandPruner(),
        "none": optuna.pruners.NopPruner(),
    }
    study = optuna.create_study(
        study_name=STUDY, storage=storage, load_if_exists=True, pruner=pruners[settings.pruner]
    )
    return study, storage


def _rounds(settings: SweepSettings) -> Iterator[range]:
    for start in range(0, settings.trials, settings.together):
        yield range(start, min(start + settings.together, settings.trials))


def _ask(study: Any, settings: SweepSettings, number: int) -> Any:
    """Trial `number`: as it was proposed already, or proposed from the rounds before and its number alone."""
    import optuna

    known = study.trials
    if number < len(known):
        return known[number]
    kind = optuna.samplers.TPESampler if settings.sampler == "tpe" else optuna.samplers.RandomSampler
    study.sampler = kind(seed=draw(settings.seed, "trial", str(number)) % 2**32)
    study.ask({key: _distribution(values) for key, values in settings.search.items()})
    return study.trials[number]


def _distribution(values: Values) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices:
        return CategoricalDistribution(values.choices)
    assert values.low is not None and values.high is not None
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    return (IntDistribution if whole else FloatDistribution)(values.low, values.high, log=values.log)


def _tell(study: Any, trial: Any, found: Mapping[str, Any]) -> None:
    from optuna.trial import TrialState

    if found["state"] == "complete":
        study.tell(trial.number, found["value"])
    else:
        study.tell(trial.number, state=TrialState.PRUNED if found["state"] == "pruned" else TrialState.FAIL)
    if found["state"] == "failed":
        note(f"trial {trial.number} failed: {found['reason']}")


def _best_so_far(study: Any) -> str:
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    best = min(done, key=lambda t: float(t.value), default=None)
    return f"best {best.value:.4f} (trial {best.number})" if best else ""


def run_trial(job: Job) -> dict[str, Any]:
    """Train by a trial's settings, from where it was; what came of it, which stays in its folder."""
    from zhiling.trainer import stages
    from zhiling.trainer.loop import Stop

    outcome, model = job.home / "result.json", job.home / "model"
    if outcome.is_file():
        found: dict[str, Any] = read_json(outcome)
        return found
    study, storage = open_study(job.folder, job.sweep)
    key = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(STUDY), job.number)
    last = 0.0

    def watch(number: int, value: float) -> None:
        nonlocal last
        last = value
        storage.set_trial_intermediate_value(key, number, value)
        if study.pruner.prune(study, storage.get_trial(key)):
            raise Stop

    try:
        train = TrainSettings.model_validate(with_params(job.train, job.params))
        if job.sweep.stage == "pretrain":
            stages.pretrain(job.release, train, model, watch=watch)
        else:
            assert job.parent is not None
            stage = stages.instruct if job.sweep.stage == "instruct" else stages.finetune
            stage(job.release, job.parent, train, model, watch=watch)
        about = read_manifest(model, "model")["training"]
        found = {"state": "complete", "value": about["validation_loss"], "best_step": about["best_step"]}
    except Stop:
        found = {"state": "pruned", "value": last}
    except Exception as error:  # whatever ends a trial is that trial's outcome; the sweep goes on
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        found = {"state": "failed", "reason": one_line(said.replace(f"{job.home}/", ""), 200)}
    made = (model, model.with_name(f".{model.name}.work"))
    for log in made:
        if (log / METRICS).is_file():
            shutil.copyfile(log / METRICS, job.home / METRICS)
    write_json(outcome, found)
    for left in made:  # numbers stay, weights go: the best settings make them again
        shutil.rmtree(left, ignore_errors=True)
    return found


def _row(trial: Any, folder: Path) -> dict[str, Any]:
    path = folder / "trials" / f"{trial.number:04d}" / "result.json"
    found = read_json(path) if path.is_file() else {"state": "unfinished"}
    return {"trial": trial.number, **found, **trial.params, "validations": len(trial.intermediate_values)}


def _rank(row: Mapping[str, Any]) -> tuple[bool, float, int]:
    return row["state"] != "complete", row.get("value", 0.0), row["trial"]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
