"""What a model with a classification head says of texts: a probability for each label, or labelled spans.

In: a classifier, its tokenizer, texts. Out: one answer a text, read as in training: a text too long loses its middle.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.templates.pack import Pack
from zhiling.trainer.data import cut_middle
from zhiling.trainer.labelled import join, separator, spans_of
from zhiling.trainer.model import context_of
from zhiling.trainer.tokenizer import cut_mark_of, frame_of

Read = tuple[list[int], list[tuple[int, int]]]  # tokens, and each one's place in the text (empty for what is no text)


def open_classifier(folder: Path) -> tuple[Any, Any]:
    """A classifier and its tokenizer. Raises UserError for weights that are not safetensors or not there."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    from zhiling.trainer.model import load_as, require_fit, require_safetensors
    from zhiling.trainer.tokenizer import load_tokenizer

    require_safetensors(folder)
    kind = AutoModelForTokenClassification if labels_tokens(folder) else AutoModelForSequenceClassification
    model, tokenizer = load_as(kind, folder).eval(), load_tokenizer(folder)
    require_fit(folder, model, tokenizer)
    return model, tokenizer


def label_rows(folder: Path, pack: Pack, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows with what a classifier says of their texts: a label and its probability, or labelled spans."""
    model, tokenizer = open_classifier(folder)
    texts = texts_of(pack, rows, tokenizer)
    if labels_tokens(folder):
        for row, found in zip(rows, spans(model, tokenizer, texts), strict=True):
            yield {**row, "spans": found}
        return
    for row, shares in zip(rows, label_shares(model, tokenizer, texts), strict=True):
        best = max(shares, key=lambda name: shares[name])
        yield {**row, "label": best, "probability": round(shares[best], 4)}


def texts_of(pack: Pack, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[str]:
    """The one text of each row, as in training."""
    return [join(pack, row, separator(tokenizer)) for row in rows]


def labels_tokens(folder: Path) -> bool:
    """Whether the classifier of a folder labels tokens, not texts."""
    from zhiling.store import read_json

    return any(str(n).endswith("ForTokenClassification") for n in read_json(folder / "config.json")["architectures"])


def label_shares(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[dict[str, float]]:
    """For each text the probability of each label."""
    names = model.config.id2label
    found: list[dict[str, float]] = [{} for _ in texts]
    for members, logits in _answers(model, tokenizer, _read(tokenizer, texts, context_of(model.config))):
        for i, row in zip(members, logits.softmax(-1).tolist(), strict=True):
            found[i] = {names[k]: share for k, share in enumerate(row)}
    return found


def spans(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """For each text its labelled spans: `start`, `end`, `text`, `label`."""
    names, rows = model.config.id2label, _read(tokenizer, texts, context_of(model.config))
    found: list[list[dict[str, Any]]] = [[] for _ in texts]
    for members, logits in _answers(model, tokenizer, rows):
        best = logits.argmax(-1).tolist()
        for i, labels in zip(members, best, strict=True):
            places = rows[i][1]
            said = spans_of(places, [names[k] for k in labels[: len(places)]])
            found[i] = [{"start": a, "end": b, "text": texts[i][a:b], "label": label} for a, b, label in said]
    return found


def _read(tokenizer: Any, texts: Sequence[str], context: int) -> list[Read]:
    (before, after), mark = frame_of(tokenizer), cut_mark_of(tokenizer)
    room = context - len(before) - len(after)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    rows = []
    for tokens, places in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        kept = cut_middle(list(range(len(tokens))), room, -1)
        inner = [tokens[k] if k >= 0 else mark for k in kept]
        inside = [places[k] if k >= 0 else (0, 0) for k in kept]
        around = [(0, 0)] * len(before), [(0, 0)] * len(after)
        rows.append(([*before, *inner, *after] or [mark], [*around[0], *inside, *around[1]]))
    return rows


def _answers(model: Any, tokenizer: Any, rows: Sequence[Read]) -> Iterator[tuple[list[int], Any]]:
    """Logits of rows of like length together, with the rows' places."""
    import torch

    from zhiling.trainer.forward import padded
    from zhiling.trainer.scoring import length_batches

    lengths = [len(tokens) for tokens, _ in rows]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else model.config.pad_token_id
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for members in length_batches(lengths):
            starts = [0]
            for i in members:
                starts.append(starts[-1] + lengths[i])
            ids = torch.tensor([token for i in members for token in rows[i][0]], device=model.device)
            ids_BT, real_BT, _ = padded(ids, starts, pad)
            yield members, model(input_ids=ids_BT, attention_mask=real_BT).logits.float().cpu()
    model.train(was_training)
