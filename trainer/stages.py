"""The stages of training, each a function from a release and settings to a model folder.

In: a release, settings, where the model goes, for later stages the model before. Out: the folder, with its
lineage in the manifest. A folder made from the same inputs and settings is kept; one of others is refused,
field by field, and nothing is overwritten.
"""

import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zhiling.console import note
from zhiling.errors import UserError
from zhiling.seeds import draw
from zhiling.store import MANIFEST, digest, file_digest, files_below, locked, read_manifest
from zhiling.trainer.checkpoint import METRICS, changes, claim, unclaim
from zhiling.trainer.config import SIDES, InstructSettings, Side, StageSettings, TrainSettings
from zhiling.trainer.distributed import alone, joined, leader_first, team

if TYPE_CHECKING:
    from zhiling.trainer.adapters import Adapted
    from zhiling.trainer.batches import Batches, Drawn, Micro
    from zhiling.trainer.loop import Watch
    from zhiling.trainer.loss import Loss
    from zhiling.trainer.plan import Plan

    Change = Callable[["Stage", Any, Any, Drawn], tuple[Batches, Loss]]


@dataclass(frozen=True)
class Stage:
    """One stage of one model: what it is made from and where; `dry` is told what it would cost, and nothing is run;
    `watch` is told of each validation.
    """

    name: str
    release: Path
    folder: Path
    settings: dict[str, Any]
    parent: Path | None
    dry: "Callable[[Plan], None] | None" = None
    watch: "Watch | None" = None

    @property
    def work(self) -> Path:
        """Where an unfinished run lies."""
        return self.folder.with_name(f".{self.folder.name}.work")

    def made_from(self) -> dict[str, Any]:
        """Everything that the model depends on."""
        read_manifest(self.release, "release", "files", "corpora", "packs")
        return {
            "stage": self.name,
            "release": file_digest(self.release / MANIFEST),
            "parent": identity(self.parent) if self.parent else None,
            **self.settings,
        }


def _shown(stage: str, dry: bool) -> "Callable[[Plan], None] | None":
    """What prints a stage's cost, where it is only asked for that."""
    return (lambda cost: cost.show(stage)) if dry else None


def identity(model: Path) -> str:
    """What tells one model folder from another: its manifest's digest, or that of all files in a foreign one."""
    from zhiling.trainer.adapters import base_of, is_adapter
    from zhiling.trainer.model import manifest_of, require_safetensors

    require_safetensors(model)
    if is_adapter(model):
        return digest([identity(base_of(model)), files_below(model)])
    return file_digest(model / MANIFEST) if manifest_of(model) else digest(files_below(model))


def pretrain(
    release: Path, settings: TrainSettings, folder: Path, dry: bool = False,
    watch: "Watch | None" = None,
) -> Path:
    """Train a tokenizer and a model from scratch, or a checkpoint, on the train texts of a release's corpora."""
    start = settings.pretrain.start
    if start:
        settings = _with_objective_of(start, settings)
    own = {"seed", "pretrain", "precision"} | (set() if start else {"tokenizer", "model"})
    chosen = settings.model_dump(mode="json", include=own) | ({"context": settings.model.context} if start else {})
    stage = Stage("pretrain", Path(release), Path(folder), chosen, start, _shown("pretrain", dry), watch)
    return make(stage, lambda stage: _pretrain(stage, settings))


def instruct(
    release: Path, pretrained: Path, settings: TrainSettings, folder: Path, dry: bool = False,
    watch: "Watch | None" = None,
) -> Path:
    """Train a model on the rows of a release, with the loss on completions."""
    chosen = settings.model_dump(mode="json", include={"seed", "instruct", "precision"})
    stage = Stage("instruct", Path(release), Path(folder), chosen, Path(pretrained), _shown("instruct", dry), watch)
    return make(stage, lambda stage: on_rows(stage, settings, settings.instruct))


def finetune(
    release: Path, model: Path, settings: TrainSettings, folder: Path, dry: bool = False,
    watch: "Watch | None" = None,
) -> Path:
    """Train a model on one task's rows, or a head on its labels, perhaps on a few texts of each class only."""
    chosen = settings.model_dump(mode="json", include={"seed", "finetune", "precision"})
    stage = Stage("finetune", Path(release), Path(folder), chosen, Path(model), _shown("finetune", dry), watch)
    if settings.finetune.head != "lm":
        from zhiling.trainer.heads import train_head

        return make(stage, lambda stage: train_head(stage, settings))
    return make(stage, lambda stage: on_rows(stage, settings, settings.finetune))


def make(stage: Stage, run: Callable[[Stage], None]) -> Path:
    """Run a stage unless its folder is up to date; a dry one in a folder that is thrown away."""
    made_from = stage.made_from()
    if (stage.folder / MANIFEST).is_file():
        found = read_manifest(stage.folder, "model")
        if found["made_from"] == digest(made_from):
            note(f"{stage.folder} is up to date")
            shutil.rmtree(stage.work, ignore_errors=True)  # of a run killed after its last write
            return stage.folder
        changed = changes(found.get("inputs", {}), made_from)
        raise UserError(str(stage.folder), f"made from other settings ({'; '.join(changed[:4])})",
                        "choose another folder or remove this one")
    if stage.folder.exists():
        raise UserError(str(stage.folder), "exists and is no model of zhiling's", "choose another folder")
    if stage.dry:
        alone(f"{stage.name} --dry-run")
        with TemporaryDirectory() as folder:
            stage = replace(stage, folder=Path(folder) / "model")
            run(stage)
        return stage.folder
    if team().leads:
        stage.work.mkdir(parents=True, exist_ok=True)
    with joined() as ranks, locked(stage.work, "another training") if ranks.leads else nullcontext():
        with leader_first():
            claim(stage.work, made_from, begun=METRICS)
        try:
            run(stage)
        except UserError:
            unclaim(stage.work)
            raise
        if ranks.leads:
            shutil.rmtree(stage.work, ignore_errors=True)
    return stage.folder


def _pretrain(stage: Stage, settings: TrainSettings) -> None:
    from zhiling.trainer.batches import Packed
    from zhiling.trainer.data import encode_texts, read_texts, write_rows
    from zhiling.trainer.masked import Masked, encode_words
    from zhiling.trainer.model import context_of
    from zhiling.trainer.tokenizer import end_of, frame_of

    own, made = settings.pretrain, {}
    texts = {side: list(read_texts(stage.release, side)) for side in SIDES}
    model, tokenizer = _started(stage, settings, texts["train"])
    masked, end = own.objective == "masked", end_of(tokenizer)
    context = min(settings.model.context, context_of(model.config))
    for side, found in texts.items():
        encoded = encode_words(found, tokenizer, own.mask.whole_words) if masked else encode_texts(found, tokenizer)
        made[side] = write_rows(stage.work / side, encoded, len(tokenizer))

    def blocks(side: Side, tokens: int) -> Packed:
        shape = (made[side], context, tokens, settings.seed, end)
        if masked:
            return Masked(*shape, tokenizer.mask_token_id, own.mask, own.document_masks, frame_of(tokenizer))
        return Packed(*shape, own.document_masks)

    batches = blocks("train", own.batch_tokens)
    validation = blocks("validation", own.validation_rows * context).batch(0, own.micro_tokens)
    counts: dict[str, Any] = {side: rows.counts for side, rows in made.items()}
    fit(stage, settings, own, model, tokenizer, batches, validation, counts)


def _started(stage: Stage, settings: TrainSettings, texts: list[tuple[str, str]]) -> tuple[Any, Any]:
    """The model to pretrain and its tokenizer: a checkpoint's, or new ones."""
    from zhiling.trainer.model import load_pair, new_model
    from zhiling.trainer.tokenizer import load_tokenizer, require_mask, train_tokenizer

    if stage.parent:
        model, tokenizer = load_pair(stage.parent)
        if settings.pretrain.objective == "masked":
            require_mask(tokenizer)
        return model, tokenizer
    home = stage.work / "tokenizer"
    with leader_first():
        if not home.exists():
            some = _tokenizer_texts(stage, settings, texts)
            learned = train_tokenizer(some, settings.tokenizer, settings.model.context)
            learned.save_pretrained(stage.work / "tokenizer.part")
            (stage.work / "tokenizer.part").rename(home)
    tokenizer = load_tokenizer(home)
    return new_model(settings.model, tokenizer, settings.seed), tokenizer


def _with_objective_of(checkpoint: Path, settings: TrainSettings) -> TrainSettings:
    """Settings with the objective that a checkpoint is made for. Raises UserError where they ask for the other."""
    from zhiling.trainer.model import is_encoder, require_safetensors

    require_safetensors(checkpoint)
    own, wanted = settings.pretrain, "masked" if is_encoder(checkpoint) else "causal"
    if "objective" in own.model_fields_set and own.objective != wanted:
        raise UserError(str(checkpoint), f"its objective is {wanted}, not {own.objective}",
                        "leave pretrain.objective out, or give another checkpoint")
    return settings.model_copy(update={"pretrain": own.model_copy(update={"objective": wanted})})


def _tokenizer_texts(stage: Stage, settings: TrainSettings, texts: list[tuple[str, str]]) -> list[str]:
    from zhiling.trainer.data import read_examples

    found = [text for _, text in texts]
    if settings.tokenizer.learn_from == "texts_and_prompts":
        rows = read_examples(stage.release, "train")
        found += [p + c for p, c in zip(rows["prompt"].to_pylist(), rows["completion"].to_pylist(), strict=True)]
    return found


def on_rows(
    stage: Stage, settings: TrainSettings, own: InstructSettings, change: "Change | None" = None
) -> None:
    """Train on rows of a release, from the parent's weights; `change` may give other batches and another loss."""
    from zhiling.trainer.model import load_pair
    from zhiling.trainer.select_rows import select_rows
    from zhiling.trainer.stage_rows import drawn_rows

    assert stage.parent is not None
    model, tokenizer = load_pair(stage.parent)
    if own.chat:
        from zhiling.trainer.chat import with_chat

        with_chat(model, tokenizer, settings.seed, whole=own.adapter is None)
    sides = SIDES if own.shots_per_class != 0 else SIDES[1:]  # read both before either is written
    tables = {side: select_rows(stage.release, side, own, settings.seed) for side in sides}
    drawn = {side: drawn_rows(stage.work / side, table, model, tokenizer, own, settings.seed)
             for side, table in tables.items()}
    batches, held_out = drawn.get("train"), drawn["validation"]
    validation = held_out.some(range(len(held_out.rows)), own.micro_tokens)
    adapted = None
    if own.adapter and batches:
        from zhiling.trainer.adapters import adapt

        adapted = adapt(model, own.adapter, settings.seed)
    learned: Batches | None = batches
    if change and batches:
        from zhiling.trainer.adapters import Adapted

        learned, loss = change(stage, model, tokenizer, batches)
        adapted = Adapted(model, loss, lambda: model)
    counts: dict[str, Any] = {side: found.rows.counts for side, found in drawn.items()}
    fit(stage, settings, own, model, tokenizer, learned, validation, counts, adapted)


def fit(
    stage: Stage, settings: TrainSettings, own: StageSettings, model: Any, tokenizer: Any, batches: "Batches | None",
    validation: "list[Micro]", counts: dict[str, Any], adapted: "Adapted | None" = None,
    about: dict[str, Any] | None = None, score: Callable[[Any], dict[str, float]] | None = None,
) -> None:
    """Run the loop and export what it found; without batches (no row to learn from) the model as it is.

    `about` is what more its manifest says, `score` how the best weights do on validation.
    """
    import torch

    from zhiling.trainer.device import (
        bf16_wanted,
        checkpoint_activations,
        flops_per_token,
        keep_memory,
        peak_flops,
        pick_device,
        use_threads,
    )
    from zhiling.trainer.export import export
    from zhiling.trainer.loop import Outcome, Run, evaluate, train
    from zhiling.trainer.loss import token_loss
    from zhiling.trainer.plan import plan
    from zhiling.trainer.tracking import trackers

    ranks = team(settings.parallel)
    device = pick_device()
    keep_memory()
    torch.manual_seed(draw(settings.seed, "dropout", stage.name) >> 1)
    workers = use_threads(sum(p.numel() for p in model.parameters()), device)
    bf16 = bf16_wanted(settings.precision, device)
    model, loss = (adapted.model, adapted.loss) if adapted else (model, token_loss)
    model.to(device)
    if settings.activation_checkpointing:
        checkpoint_activations(model)
    if batches is None:
        if stage.dry:
            note(f"{stage.name}, not run: no rows to learn from; the model would be scored as it is")
            return
        outcome = Outcome(0, 0, 0, evaluate(model, validation, loss, bf16))
        if not math.isfinite(outcome.best_loss):
            raise UserError(str(stage.parent), f"its loss on validation is not finite ({outcome.best_loss})",
                            "give a model whose weights are")
    else:
        share = counts["train"]["learned"] / counts["train"]["tokens"]
        flops = flops_per_token(model, share, counts["train"]["tokens"] / counts["train"]["rows"])
        run = Run(
            stage.name, batches, validation, loss, own, stage.work, bf16, flops, peak_flops(device, bf16), ranks,
            stage.watch, workers=workers,
            compiled=device.type == "cuda" if settings.compile == "auto" else settings.compile,
        )
        if stage.dry:
            stage.dry(plan(model, run))
            return
        logs = settings.log_to if ranks.leads else []
        with trackers(logs, stage.folder.name, stage.settings, stage.folder.parent / "logs") as found:
            outcome = train(model, replace(run, trackers=found))
        model = adapted.finish() if adapted else model
    if ranks.leads:
        export(stage, model, tokenizer, outcome, counts, about or {}, score(model) if score else {})
