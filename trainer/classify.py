"""What a model with a classification head says of texts: a probability for each label, or labelled spans.

In: a classifier, its tokenizer, texts. Out: one answer a text, read as in training: a text too long loses its middle.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.templates.pack import Pack
from zhiling.trainer.data import cut_middle
from zhiling.trainer.labelled import join, separator, spans_of
from zhiling.trainer.model import context_of
from zhiling.trainer.tokenizer import cut_mark_of, frame_of

if TYPE_CHECKING:
    from torch import Tensor

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
    if not texts:
        return
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
    for members, _, logits in _answers(model, _read(tokenizer, texts, context_of(model.config)), text_logits):
        for i, row in zip(members, logits.softmax(-1).tolist(), strict=True):
            found[i] = {names[k]: share for k, share in enumerate(row)}
    return found


def spans(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """For each text its labelled spans: `start`, `end`, `text`, `label`."""
    names, rows = model.config.id2label, _read(tokenizer, texts, context_of(model.config))
    found: list[list[dict[str, Any]]] = [[] for _ in texts]
    for members, starts, logits in _answers(model, rows, token_logits):
        best = logits.argmax(-1).tolist()
        for i, start in zip(members, starts, strict=False):
            places = rows[i][1]
            said = spans_of(places, [names[k] for k in best[start : start + len(places)]])
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


def text_logits(model: Any, ids: "Tensor", starts: list[int]) -> "Tensor":
    """A number for each label of each of some texts that lie end to end: what the model's own forward gives."""
    from zhiling.trainer.forward import padded
    from zhiling.trainer.loss import below_words

    logits: Tensor
    pooled = _pooled(model, ids, starts)
    if pooled is None:
        ids_BT, real_BT, _ = padded(ids, starts, int(model.config.pad_token_id or 0))
        logits = model(input_ids=ids_BT, attention_mask=real_BT).logits
    else:
        pooled, head = below_words(model, pooled)
        logits = head(pooled)
    return logits


def token_logits(model: Any, ids: "Tensor", starts: list[int], at: "Tensor | None" = None) -> "Tensor":
    """A number for each label of each token at `at`, or of all, of texts that lie end to end."""
    from zhiling.trainer.forward import hidden_states
    from zhiling.trainer.loss import below_words

    hidden, head = below_words(model, hidden_states(model, ids, starts, at))
    logits: Tensor = head(hidden)
    return logits


def _pooled(model: Any, ids: "Tensor", starts: list[int]) -> "Tensor | None":
    """One hidden state for each text, gathered as its family does; None where the library must gather it."""
    import torch

    from zhiling.trainer.forward import unpadded_states

    at = None
    if model.config.model_type == "llama":  # its last token, but for the padding's, which may end texts too
        at = torch.tensor(starts[1:], device=ids.device) - 1
        if (ids[at] == model.config.pad_token_id).any():
            return None
    elif getattr(model.config, "classifier_pooling", None) == "cls":
        at = torch.tensor(starts[:-1], device=ids.device)
    found = unpadded_states(model, ids, starts, at)
    if found is None or at is not None:
        return found
    return torch.stack([found[a:b].mean(0) for a, b in pairwise(starts)])


def _answers(
    model: Any, rows: Sequence[Read], logits_of: "Callable[[Any, Tensor, list[int]], Tensor]"
) -> "Iterator[tuple[list[int], list[int], Tensor]]":
    """Which rows, where each begins, and their logits: rows of like length at a time."""
    import torch

    from zhiling.trainer.scoring import end_to_end

    was_training = model.training
    model.eval()
    for members, starts, ids in end_to_end([tokens for tokens, _ in rows], model.device):
        with torch.inference_mode():
            yield members, starts, logits_of(model, ids, starts).float().cpu()
    model.train(was_training)
