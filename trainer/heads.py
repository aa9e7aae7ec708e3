"""Classification heads: a model that labels texts or tokens, trained on the labels themselves.

In: a release, a checkpoint of any kind that `transformers` puts a head on, the `finetune` section with `head:
sequence` or `token`. Out: a `...ForSequenceClassification` or `...ForTokenClassification` folder with its label names,
and how it does on validation texts. The checkpoint is chosen by validation loss; the test split is never opened.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import UserError
from zhiling.seeds import draw
from zhiling.trainer.config import SIDES, FinetuneSettings, TrainSettings
from zhiling.trainer.labelled import Head, Labelled

if TYPE_CHECKING:
    from torch import Tensor

    from zhiling.trainer.loss import OnDevice
    from zhiling.trainer.stages import Stage

PEFT = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}  # peft's names of the tasks


def train_head(stage: "Stage", settings: TrainSettings) -> None:
    """Put a head on the parent's model, train both on a pack's labels, and export them."""
    from zhiling.trainer.adapters import Adapted, adapt
    from zhiling.trainer.batches import Drawn, Hidden
    from zhiling.trainer.data import write_rows
    from zhiling.trainer.labelled import encode_labelled, label_names, read_labelled, separator, the_pack
    from zhiling.trainer.model import context_of
    from zhiling.trainer.stages import fit
    from zhiling.trainer.tokenizer import load_tokenizer, pad_of

    own = settings.finetune
    assert stage.parent is not None and own.head != "lm"
    _require_texts(own)
    tokenizer = load_tokenizer(stage.parent)
    if own.hide and tokenizer.mask_token_id is None:
        raise UserError("train: finetune.hide", f"the tokenizer of {stage.parent} has no mask token", "leave it out")
    pack = the_pack(stage.release, own.head, own.packs)
    between = separator(tokenizer)
    rows = {side: read_labelled(stage.release, side, pack, own.head, own, settings.seed, between) for side in SIDES}
    names = label_names(pack, own.head, rows["train"])
    model = load_classifier(stage.parent, own.head, tokenizer, names, settings.seed)
    made = {}
    for side, found in rows.items():
        encoded = encode_labelled(found, tokenizer, context_of(model.config), names, own.head)
        made[side] = write_rows(stage.work / side, encoded, max(len(tokenizer), len(names)))
    pad = pad_of(tokenizer)
    drawn = (own.batch_rows, settings.seed, pad, own.average)
    held_out = Drawn(made["validation"], *drawn)
    batches = Hidden(made["train"], *drawn, own.hide, tokenizer) if own.hide else Drawn(made["train"], *drawn)
    loss = sequence_loss if own.head == "sequence" else labels_loss
    adapted = Adapted(model, loss, lambda: model)
    if own.adapter:
        adapted = adapt(model, own.adapter, settings.seed, loss, PEFT[own.head])
    about = {"head": own.head, "pack": pack.name, "labels": names}
    fit(
        stage, settings, own, model, tokenizer, batches, held_out.some(range(len(held_out.rows)), own.micro_tokens),
        {side: found.counts for side, found in made.items()}, adapted, about,
        lambda model: scores(model, tokenizer, rows["validation"], own.head),
    )


def _require_texts(own: FinetuneSettings) -> None:
    """Raise UserError for settings that ask for rendered rows, or for none, where a head learns texts."""
    ignored = [name for name in ("templates", "shots", "chat") if getattr(own, name)]
    if ignored:
        raise UserError(f"train: finetune.{ignored[0]}", f"a {own.head} head learns texts, not their renderings",
                        "leave it out")
    if own.shots_per_class == 0:
        raise UserError("--shots-per-class", "0, and a new head knows nothing", "give a number of texts, or all")


def load_classifier(folder: Path, head: Head, tokenizer: Any, names: list[str], seed: int) -> Any:
    """The model of a folder under a head for labels called `names`; a new head's weights hang on `seed` alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    from zhiling.trainer.adapters import is_adapter
    from zhiling.trainer.model import load_as, require_fit, require_safetensors
    from zhiling.trainer.tokenizer import frame_of, pad_of

    require_safetensors(folder)
    if is_adapter(folder):
        raise UserError(str(folder), "an adapter, on which no head can be put", "merge it, or give its base")
    kind = AutoModelForSequenceClassification if head == "sequence" else AutoModelForTokenClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(seed, "head", head) >> 1)
        model = load_as(
            kind, folder, new_head=True, num_labels=len(names), id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    require_fit(folder, model, tokenizer)
    config = model.config
    config.problem_type = "single_label_classification" if head == "sequence" else None
    config.pad_token_id = pad_of(tokenizer) if config.pad_token_id is None else config.pad_token_id
    if hasattr(config, "classifier_pooling") and frame_of(tokenizer) == ([], []):
        config.classifier_pooling = "mean"  # no token stands before a text that could gather it
    return model


def sequence_loss(model: Any, micro: "OnDevice") -> "Tensor":
    """Weighted cross-entropy of each row's label."""
    from zhiling.trainer.classify import text_logits
    from zhiling.trainer.loss import weighed

    return weighed(text_logits(model, micro.ids, micro.starts), micro)


def labels_loss(model: Any, micro: "OnDevice") -> "Tensor":
    """Weighted cross-entropy of the labels of tokens."""
    from zhiling.trainer.classify import token_logits
    from zhiling.trainer.loss import weighed

    return weighed(token_logits(model, micro.ids, micro.starts, micro.at), micro)


def scores(model: Any, tokenizer: Any, rows: list[Labelled], head: str) -> dict[str, float]:
    """How a classifier does: accuracy and macro-F1 of texts' labels, or F1 of exact spans."""
    from zhiling.trainer.classify import label_shares, spans

    texts = [row.text for row in rows]
    if head == "token":
        found = [{(s["start"], s["end"], s["label"]) for s in said} for said in spans(model, tokenizer, texts)]
        gold = [set(row.spans) for row in rows]
        right = sum(len(f & g) for f, g in zip(found, gold, strict=True))
        total = sum(map(len, found)) + sum(map(len, gold))
        return {"validation_span_f1": 2 * right / total if total else 1.0}
    said = [max(shares, key=lambda name: shares[name]) for shares in label_shares(model, tokenizer, texts)]
    return accuracy_and_f1([row.label for row in rows], said)


def accuracy_and_f1(gold: list[str], said: list[str]) -> dict[str, float]:
    """Accuracy, and F1 averaged over the labels that stand in `gold` or were said."""
    from sklearn.metrics import accuracy_score, f1_score

    macro = float(f1_score(gold, said, average="macro", zero_division=0.0))
    return {"validation_accuracy": float(accuracy_score(gold, said)), "validation_macro_f1": macro}
