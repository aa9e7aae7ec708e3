"""Optional trackers beside `metrics.jsonl`: TensorBoard, trackio, Weights & Biases, imported when asked for.

In: their names, the run's name, settings and folder. Out: functions that take a step's numbers. All stay on this
machine: wandb is offline unless the environment sets WANDB_MODE, trackio keeps its own local files. Refuses a
tracker whose package is not installed. No token is read here or printed.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zhiling.errors import UserError
from zhiling.store import canonical_json

Tracker = Callable[[int, Mapping[str, Any]], None]
NUMBERS = ("loss", "validation_loss", "lr", "tokens", "tokens_per_s")


@contextmanager
def trackers(names: Sequence[str], name: str, settings: Mapping[str, Any], folder: Path) -> Iterator[list[Tracker]]:
    """The trackers called `names`, open during the block; their files lie in `folder`."""
    openers = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}
    for one in names:  # before any has begun to write
        if find_spec(one) is None:
            raise UserError("train.log_to", f"{one} is not installed", f"pip install {one}, or take it out")
    with ExitStack() as stack:
        yield [stack.enter_context(openers[one](name, settings, folder / one)) for one in names]


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {key: line[key] for key in NUMBERS if key in line}


@contextmanager
def _tensorboard(name: str, settings: Mapping[str, Any], folder: Path) -> Iterator[Tracker]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / name)) as writer:
        writer.add_text("settings", canonical_json(settings), 0)

        def track(step: int, line: Mapping[str, Any]) -> None:
            for key, value in _numbers(line).items():
                writer.add_scalar(key, value, step)

        yield track


@contextmanager
def _trackio(name: str, settings: Mapping[str, Any], folder: Path) -> Iterator[Tracker]:
    os.environ.setdefault("TRACKIO_DIR", str(folder))  # read when it is imported
    trackio = import_module("trackio")
    with redirect_stdout(sys.stderr):  # what it says is no result
        trackio.init(project="zhiling", name=name, config=dict(settings), resume="allow")
    try:
        yield lambda step, line: trackio.log(_numbers(line), step=step)
    finally:
        with redirect_stdout(sys.stderr):
            trackio.finish()


@contextmanager
def _wandb(name: str, settings: Mapping[str, Any], folder: Path) -> Iterator[Tracker]:
    wandb = import_module("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    run = wandb.init(project="zhiling", name=name, config=dict(settings), dir=str(folder), mode=mode)
    try:
        yield lambda step, line: run.log(_numbers(line), step=step)
    finally:
        run.finish()
