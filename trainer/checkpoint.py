"""Checkpoints to resume from: whole or absent, with digests, safetensors and JSON only.

In: a training state. Out: `step-00000120/` folders, written by a thread from copies, the newest two kept. Several
ranks write one together, by torch.distributed.checkpoint, each its part; any number of ranks reads either kind.
A damaged one is passed over with a line that says so. Refuses a folder of other settings, field by field.
"""

import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling.console import note
from zhiling.errors import UserError, one_line
from zhiling.store import atomic_folder, differences, read_json, write_json, write_manifest
from zhiling.trainer.distributed import ALONE, Team

KEEP = 2
FREE = {"micro_tokens", "checkpoint_seconds"}  # how much at once and how often: may change while a run is under way
METRICS = "metrics.jsonl"  # the log of a run, in its work folder once it has begun
BEST = "best"  # folder beside the checkpoints': the weights that did best on validation
WHOLE = "state.safetensors"  # all tensors; in its place the parts that ranks wrote


@dataclass
class State:
    """Everything that the rest of a run depends on."""

    step: int = 0
    tokens: int = 0
    micro_tokens: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    tensors: dict[str, Any] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """The part that goes into JSON."""
        return {k: v for k, v in vars(self).items() if k != "tensors"}


class Checkpoints:
    """The checkpoints of one run, in `folder`; use as a context, so that the writer ends with it."""

    def __init__(self, folder: Path, team: Team = ALONE) -> None:
        self.folder, self.team = folder, team
        self._writer = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(wait=True)

    def save(self, state: State) -> None:
        """Copy the tensors and write them in the background; raises what the write before this one raised.

        Ranks write together, and training waits for it.
        """
        if self.team.world > 1:
            if self.team.leads:
                shutil.rmtree(self._target(state.step), ignore_errors=True)
            _write_together(self.team, self._target(state.step), state)
            self._forget(state.step)
            return
        self.wait()
        copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.tensors.items()}
        self._last = self._writer.submit(self._write, state.numbers(), copies)

    def wait(self) -> None:
        """Return when the last checkpoint is on disk."""
        if self._last is not None:
            self._last.result()

    def _write(self, numbers: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        target = self._target(numbers["step"])
        shutil.rmtree(target, ignore_errors=True)
        write_tensors(target, numbers, tensors)
        self._forget(numbers["step"])

    def _target(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _forget(self, step: int) -> None:
        """Leave the newest checkpoints, and the best weights that they name or that came after that of `step`."""
        if not self.team.leads:
            return
        found = sorted(self.folder.glob("step-*"))
        for old in found[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)
        with suppress(UserError):  # a damaged one: what it named is not known
            numbers = [read_json(kept / "state.json") for kept in found[-KEEP:]]
            named = {self._target(n["best_step"]).name for n in numbers if n["best_step"] is not None}
            for best in self.folder.with_name(BEST).glob("step-*"):
                if best.name not in named and best.name <= self._target(step).name:
                    shutil.rmtree(best, ignore_errors=True)

    def newest(self) -> State | None:
        """The newest undamaged checkpoint, or None; to several ranks without its tensors, which `restore` reads."""
        found = self._newest() if self.team.leads else None
        if self.team.world > 1:
            numbers = self.team.agree(found and found.numbers())
            return State(**numbers) if numbers else None
        return found

    def _newest(self) -> State | None:
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            state = read_state(folder, tensors=self.team.world == 1)
            if state is not None:
                return state
        return None

    def restore(self, model: Any, optimizers: list[Any], state: State) -> None:
        """Put the state that `newest` gave in place."""
        if self.team.world == 1:
            restore(model, optimizers, state.tensors)
            state.tensors = {}
        else:
            _restore_together(model, optimizers, self._target(state.step))


def write_tensors(folder: Path, numbers: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """A folder of tensors and numbers with a manifest of their digests, whole or not at all."""
    from safetensors.torch import save_file

    with atomic_folder(folder) as part:
        save_file(dict(tensors), part / WHOLE)
        write_json(part / "state.json", dict(numbers))
        write_manifest(part, "checkpoint", {})


def _write_together(team: Team, folder: Path, state: State) -> None:
    """As `write_tensors`, each rank the part that it holds."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with atomic_folder(folder) if team.leads else nullcontext(folder.with_name(f".{folder.name}.part")) as part:
        team.wait()  # until the leader has made the folder
        save(dict(state.tensors), storage_writer=HuggingFaceStorageWriter(str(part), save_distributed=True))
        if team.leads:
            write_json(part / "state.json", state.numbers())
            write_manifest(part, "checkpoint", {})
    team.wait()


def read_state(folder: Path, tensors: bool = True) -> State | None:
    """The state in a checkpoint folder; None, and a line, where it is damaged."""
    try:
        damage = differences(folder, "checkpoint")
        if not damage:
            return State(**read_json(folder / "state.json"), tensors=_read_tensors(folder) if tensors else {})
    except UserError as error:
        damage = [str(error)]
    note(f"checkpoint {folder.name} is damaged ({damage[0]}); going back to the one before")
    return None


def _read_tensors(folder: Path) -> dict[str, Any]:
    """All tensors of a checkpoint, put together where several ranks wrote it."""
    from safetensors.torch import load_file

    if (folder / WHOLE).is_file():
        return load_file(folder / WHOLE)
    with warnings.catch_warnings():  # that one process reads alone is meant
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        return _read_parts(folder, {}, no_dist=True)


def _restore_together(model: Any, optimizers: list[Any], folder: Path) -> None:
    """Each rank reads what it holds, whoever wrote it."""
    restore(model, optimizers, _read_parts(folder, dict(model.named_parameters())))


def _read_parts(folder: Path, like: Mapping[str, Any], no_dist: bool = False) -> dict[str, Any]:
    """The tensors of a checkpoint, whole, or in the parts in which this rank holds the parameters in `like`."""
    import torch
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    held: dict[str, Any] = dict(reader.read_metadata().state_dict_metadata)
    found = {}
    for name, about in held.items():
        own = like.get(name.split(".", 3)[-1] if name.startswith("optimizer.") else name.removeprefix("model."))
        if own is not None and about.size == own.shape:
            found[name] = torch.empty_like(own)
        else:
            found[name] = torch.empty(about.size, dtype=about.properties.dtype)
    load(found, storage_reader=reader, no_dist=no_dist)
    return found


def training_state(model: Any, optimizers: list[Any]) -> dict[str, Any]:
    """Weights, optimizer states and the random state as named tensors."""
    import torch

    names = {p: name for name, p in model.named_parameters()}
    tensors = {f"model.{name}": p for p, name in names.items()}
    for o, optimizer in enumerate(optimizers):
        for p, values in optimizer.state.items():
            tensors |= {f"optimizer.{o}.{key}.{names[p]}": torch.as_tensor(value) for key, value in values.items()}
    return tensors | {"rng": torch.get_rng_state()}


def restore(model: Any, optimizers: list[Any], tensors: Mapping[str, Any]) -> None:
    """Put what `training_state` gave back in place."""
    import torch

    torch.set_rng_state(tensors["rng"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
    named = dict(model.named_parameters())
    of = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for full in tensors:
        if full.startswith("optimizer."):
            _, _, key, name = full.split(".", 3)  # whichever optimizer had it: a parameter has one
            p, optimizer = named[name], of[id(named[name])]
            kept_on = "cpu" if key == "step" and not optimizer.defaults.get("fused") else p.device
            optimizer.state[p][key] = tensors[full].to(kept_on)


def claim(work: Path, settings: Mapping[str, Any], begun: str | None = None) -> None:
    """Make `work` the folder of a run with these settings. Raises UserError where it is of others; but where its file
    `begun` is not there yet, that run had done nothing to go on from, and gives way.
    """
    path = work / "settings.json"
    changed = changes(_binding(read_json(path)), _binding(dict(settings))) if path.is_file() else []
    if changed and begun and not (work / begun).exists():
        for left in work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    elif changed:
        raise UserError(str(work), f"an unfinished run of other settings ({'; '.join(changed[:4])})",
                        "finish it with its own settings, remove it, or choose another folder")
    write_json(path, dict(settings))


def _binding(settings: Any) -> Any:
    """Settings without those that a run may go on with others of: its weights hang on none, but for rounding."""
    if not isinstance(settings, dict):
        return settings
    return {key: _binding(value) for key, value in settings.items() if key not in FREE}


def unclaim(work: Path) -> None:
    """Leave `work` to any run again where nothing has been done in it yet."""
    if work.is_dir() and [path.name for path in work.iterdir()] == ["settings.json"]:
        shutil.rmtree(work, ignore_errors=True)


def changes(old: Any, new: Any, key: str = "") -> list[str]:
    """How settings differ, field by field: `pretrain.epochs 2 → 3`."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(n for n in new if n not in old)]
        return [line for n in names for line in changes(old.get(n), new.get(n), f"{key}.{n}".lstrip("."))]
    return [] if old == new else [f"{key} {one_line(str(old), 40)} → {one_line(str(new), 40)}"]
