"""The stages of training, each a function from a release and settings to a model folder.

In: a release, settings, where the model goes, for later stages the model before. Out: the folder, with its
lineage in the manifest. A folder made from the same inputs and settings is kept; one of others is refused,
field by field, and nothing is overwritten.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zhiling.console import note, table
from zhiling.errors import UserError
from zhiling.store import MANIFEST, digest, file_digest, files_below, read_manifest
from zhiling.trainer.checkpoint import changes, claim
from zhiling.trainer.config import InstructSettings, StageSettings, TrainSettings

if TYPE_CHECKING:
    from zhiling.trainer.adapters import Adapted
    from zhiling.trainer.batches import Batches, Drawn, Micro
    from zhiling.trainer.loss import Loss

    Change = Callable[["Stage", Any, Any, Drawn], tuple[Batches, Loss]]


@dataclass(frozen=True)
class Stage:
    """One stage of one model: what it is made from and where; `dry` only says what it would cost."""

    name: str
    release: Path
    folder: Path
    settings: dict[str, Any]
    parent: Path | None
    dry: bool = False

    @property
    def work(self) -> Path:
        """Where an unfinished run lies."""
        return self.folder.with_name(f".{self.folder.name}.work")

    def made_from(self) -> dict[str, Any]:
        """Everything that the model depends on."""
        read_manifest(self.release, "release")
        return {
            "stage": self.name,
            "release": file_digest(self.release / MANIFEST),
            "parent": identity(self.parent) if self.parent else None,
            **self.settings,
        }


def identity(model: Path) -> str:
    """What tells one model folder from another: its manifest's digest, or that of all files in a foreign one."""
    from zhiling.trainer.adapters import base_of, is_adapter
    from zhiling.trainer.model import require_safetensors

    require_safetensors(model)
    if is_adapter(model):
        return digest([identity(base_of(model)), files_below(model)])
    return file_digest(model / MANIFEST) if (model / MANIFEST).is_file() else digest(files_below(model))


def pretrain(release: Path, settings: TrainSettings, folder: Path, dry: bool = False) -> Path:
    """Train a tokenizer and a model from scratch on the train texts of a release's corpora."""
    chosen = settings.model_dump(mode="json", include={"seed", "tokenizer", "model", "pretrain", "precision"})
    stage = Stage("pretrain", Path(release), Path(folder), chosen, None, dry)
    return make(stage, lambda stage: _pretrain(stage, settings))


def instruct(release: Path, pretrained: Path, settings: TrainSettings, folder: Path, dry: bool = False) -> Path:
    """Train a model on the rows of a release, with the loss on completions."""
    chosen = settings.model_dump(mode="json", include={"seed", "instruct", "precision"})
    stage = Stage("instruct", Path(release), Path(folder), chosen, Path(pretrained), dry)
    return make(stage, lambda stage: on_rows(stage, settings, settings.instruct))


def finetune(release: Path, model: Path, settings: TrainSettings, folder: Path, dry: bool = False) -> Path:
    """Train a model on one task's rows, perhaps on a few texts of each class only."""
    chosen = settings.model_dump(mode="json", include={"seed", "finetune", "precision"})
    stage = Stage("finetune", Path(release), Path(folder), chosen, Path(model), dry)
    return make(stage, lambda stage: on_rows(stage, settings, settings.finetune))


def make(stage: Stage, run: Callable[[Stage], None]) -> Path:
    """Run a stage unless its folder is up to date; a dry one in a folder that is thrown away."""
    made_from = stage.made_from()
    if (stage.folder / MANIFEST).is_file():
        found = read_manifest(stage.folder, "model")
        if found["made_from"] == digest(made_from):
            note(f"{stage.folder} is up to date")
            return stage.folder
        changed = changes(found.get("inputs", {}), made_from)
        raise UserError(str(stage.folder), f"made from other settings ({'; '.join(changed[:4])})",
                        "choose another folder or remove this one")
    if stage.folder.exists():
        raise UserError(str(stage.folder), "exists and is no model of zhiling's", "choose another folder")
    if stage.dry:
        with TemporaryDirectory() as folder:
            stage = replace(stage, folder=Path(folder) / "model")
            run(stage)
        return stage.folder
    claim(stage.work, made_from)
    run(stage)
    shutil.rmtree(stage.work, ignore_errors=True)
    return stage.folder


def _pretrain(stage: Stage, settings: TrainSettings) -> None:
    from zhiling.trainer.batches import Packed
    from zhiling.trainer.data import encode_texts, read_texts, write_rows
    from zhiling.trainer.masked import Masked, encode_words
    from zhiling.trainer.model import new_model
    from zhiling.trainer.tokenizer import load_tokenizer, train_tokenizer

    texts = list(read_texts(stage.release, "train"))
    home = stage.work / "tokenizer"
    if not home.exists():
        learned = train_tokenizer(_tokenizer_texts(stage, settings, texts), settings.tokenizer, settings.model.context)
        learned.save_pretrained(stage.work / "tokenizer.part")
        (stage.work / "tokenizer.part").rename(home)
    tokenizer = load_tokenizer(home)
    own = settings.pretrain
    held_out = list(read_texts(stage.release, "validation"))
    masked, context, end = own.objective == "masked", settings.model.context, tokenizer.eos_token_id
    made = {}
    for side, found in (("train", texts), ("validation", held_out)):
        encoded = encode_words(found, tokenizer, own.mask.whole_words) if masked else encode_texts(found, tokenizer)
        made[side] = write_rows(stage.work / side, encoded, len(tokenizer))

    def blocks(side: str, tokens: int) -> Packed:
        if masked:
            return Masked(made[side], context, tokens, settings.seed, end, tokenizer.mask_token_id, own.mask)
        return Packed(made[side], context, tokens, settings.seed, end)

    batches = blocks("train", own.batch_tokens)
    validation = blocks("validation", own.validation_rows * context).batch(0, own.micro_tokens)
    model = new_model(settings.model, tokenizer, settings.seed)
    counts = {side: rows.counts for side, rows in made.items()}
    _train(stage, settings, own, model, tokenizer, batches, validation, counts)


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
    from zhiling.trainer.batches import Drawn
    from zhiling.trainer.data import SIDES, encode_examples, write_rows
    from zhiling.trainer.model import load_model
    from zhiling.trainer.select_rows import select_rows
    from zhiling.trainer.tokenizer import load_tokenizer

    assert stage.parent is not None
    model, tokenizer = load_model(stage.parent), load_tokenizer(stage.parent)
    prompt = own.adapter.virtual_tokens if own.adapter and own.adapter.method == "prompt" else 0
    context, whole = model.config.max_position_embeddings - prompt, own.loss_on == "prompt_and_completion"
    made = {}
    for side in SIDES if own.shots_per_class != 0 else SIDES[1:]:
        table = select_rows(stage.release, side, own, settings.seed)
        encoded = encode_examples(table, tokenizer, context, whole)
        made[side] = write_rows(stage.work / side, encoded, len(tokenizer))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    batches = Drawn(made["train"], own.batch_rows, settings.seed, pad, own.average) if "train" in made else None
    held_out = Drawn(made["validation"], own.batch_rows, settings.seed, pad, own.average)
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
    counts: dict[str, Any] = {side: rows.counts for side, rows in made.items()}
    _train(stage, settings, own, model, tokenizer, learned, validation, counts, adapted)


def _train(
    stage: Stage, settings: TrainSettings, own: StageSettings, model: Any, tokenizer: Any, batches: "Batches | None",
    validation: "list[Micro]", counts: dict[str, Any], adapted: "Adapted | None" = None,
) -> None:
    """Run the loop and export what it found; without batches (no row to learn from) the model as it is."""
    from zhiling.trainer.device import bf16_wanted, flops_per_token, peak_flops, pick_device, use_threads
    from zhiling.trainer.export import export
    from zhiling.trainer.loop import Outcome, Run, evaluate, train
    from zhiling.trainer.loss import token_loss
    from zhiling.trainer.plan import plan

    device = pick_device()
    use_threads(sum(p.numel() for p in model.parameters()), device)
    bf16 = bf16_wanted(settings.precision, device)
    model, loss = (adapted.model, adapted.loss) if adapted else (model, token_loss)
    model.to(device)
    if batches is None:
        outcome = Outcome(0, 0, 0, evaluate(model, validation, loss, bf16))
    else:
        share = counts["train"]["learned"] / counts["train"]["tokens"]
        flops = flops_per_token(model, share, counts["train"]["tokens"] / counts["train"]["rows"])
        run = Run(stage.name, batches, validation, loss, own, stage.work, bf16, flops, peak_flops(device, bf16))
        if stage.dry:
            table(f"{stage.name}, not run", ["what", "how much"], plan(model, run).lines())
            return
        outcome = train(model, run)
        model = adapted.finish() if adapted else model
    export(stage, model, tokenizer, outcome, counts)
