"""The steps of a build, in order: read, judge, split, pick exemplars, render, write.

A killed build goes on where it was: each step's shards stand in a work folder named by the digest of
everything the release is made from, and a shard that is there is done (until the machine is started anew). The
release folder appears whole, by one rename, or not at all.
"""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.builders.workers import expect_workers
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.store import locked, read_manifest, write_text

if TYPE_CHECKING:  # what is heavy is imported once the workers' imports have begun
    from zhiling.builders import stages
    from zhiling.builders.duplicates import Leak
    from zhiling.builders.plan import Plan

BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one each time that Linux is started


@dataclass(frozen=True)
class Built:
    """What the steps left in the work folder, for the writer of the release."""

    plan: "Plan"
    splits: Mapping[str, list[Path]]  # by corpus: split rows
    examples: Mapping[str, list[Path]]  # by corpus: example rows
    leak: "Leak"
    counts: Mapping[str, dict[str, int]]  # by corpus: rows after each step
    rejecting: Mapping[str, list[Path]]   # by corpus: shards whose rejects count, in order
    personal: Mapping[str, dict[str, int]]  # by corpus: rows with each kind of personal data, as they stand
    scores: Mapping[str, dict[str, float]]  # by corpus: a linear model's, under a naive split and under this one
    review: Path                            # lists for a person to look at
    augmentation: Mapping[str, dict[str, Any]]  # by corpus: copies, variety and agreement


def run_steps(run: "stages.Run") -> Built:
    """All steps but the last, over shards."""
    from zhiling.builders import stages
    from zhiling.builders.engines import count_rows

    read = stages.read(run)
    verdicts, leak = stages.judge(run, read)
    splits = stages.split(run, read, verdicts)
    scores = stages.review(run, read, splits)
    kept = stages.decontaminate(run, splits)
    filled = stages.retrieve(run, kept)
    grown, augmentation = stages.augment(run, filled)
    pools = stages.pool(run, filled)
    examples = stages.render(run, grown, pools)
    mixed = stages.mix(run, examples)
    steps = {
        "read": read, "split": splits, "kept": kept, "filled": filled, "grown": grown, "examples": examples,
        "mixed": mixed,
    }
    names = [c.name for c in run.plan.recipe.corpora]
    counts = {name: {step: count_rows(tables[name]) for step, tables in steps.items()} for name in names}
    rejecting = {name: list(dict.fromkeys(path for t in steps.values() for path in t[name])) for name in names}
    return Built(
        run.plan, grown, mixed, leak, counts, rejecting,
        stages.personal_data(run, read), scores, run.work / "review", augmentation,
    )


def build(recipe_path: Path, out: Path, workers: int = 1) -> Path:
    """Build the recipe's release below `out` and return its folder; one that is up to date is kept.

    Raises UserError where the recipe or its sources are wrong, or the version exists from other settings.
    """
    expect_workers(workers)
    from zhiling.builders.plan import make_plan

    return build_plan(make_plan(recipe_path), out, workers)


def build_plan(plan: "Plan", out: Path, workers: int = 1) -> Path:
    """Build what has been planned below `out` and return its folder; one that is up to date is kept."""
    from zhiling.builders import stages
    from zhiling.builders.leak import measure
    from zhiling.builders.release import write_release
    from zhiling.cards.plots import make_ready

    home = home_of(plan, out)
    folder = home / plan.recipe.version
    with locked(home):
        if is_current(folder, plan.made_from):
            note(f"{folder} is up to date")
        else:
            with under_way(plan, home, workers) as run, ThreadPoolExecutor(1) as aside:
                built = run_steps(run)
                # while workers write, this process does what its last part would wait for
                leaked = aside.submit(measure, [path for paths in built.splits.values() for path in paths])
                aside.submit(make_ready)
                files = stages.write(run, built.splits, built.examples)
            write_release(built, files, leaked.result(), folder)
        shutil.rmtree(work_of(plan, home), ignore_errors=True)
    return folder


def home_of(plan: "Plan", out: Path) -> Path:
    """The folder of a dataset's releases below `out`. Raises UserError where it cannot be made."""
    home = out / plan.recipe.name
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(home), f"cannot be made ({error.strerror})", "build into another place (--out)") from None
    return home


def work_of(plan: "Plan", home: Path) -> Path:
    """Where the shards of this very plan stand."""
    return home / f".work-{plan.recipe.version}-{plan.made_from[:16]}"


@contextmanager
def under_way(plan: "Plan", home: Path, workers: int) -> Iterator["stages.Run"]:
    """A run that goes on from the plan's shards; those that another plan of this version left are removed."""
    from zhiling.builders import stages
    from zhiling.builders.engines import make_engine

    work = work_of(plan, home)
    for stale in home.glob(f".work-{plan.recipe.version}-*"):
        if stale != work:
            shutil.rmtree(stale)
    begin(work)
    with closing(make_engine(plan.recipe.engine, workers, plan.recipe.ray_address)) as engine:
        yield stages.Run(plan, work, engine)


def begin(work: Path) -> None:
    """Go on with the work that stands there, unless the machine was started anew: shards are not forced to its disk."""
    marker, boot = work / "boot", BOOT.read_text() if BOOT.is_file() else ""
    if work.exists() and not (marker.is_file() and marker.read_text() == boot):
        shutil.rmtree(work)
    write_text(marker, boot)


def is_current(folder: Path, made_from: str) -> bool:
    """Whether `folder` holds this very release. Raises UserError where it holds anything else."""
    if not folder.exists():
        return False
    found = read_manifest(folder, "release").get("made_from")
    if found != made_from:
        raise UserError(
            str(folder),
            f"this version exists, made from other settings or sources ({str(found)[:12]}, now {made_from[:12]})",
            "raise `version` in the recipe, or remove the folder",
        )
    return True
