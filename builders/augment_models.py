"""Texts said otherwise by models: words as a masked model guesses them, whole texts through two translation models.

In: folders of `transformers` models with safetensors, such as `zhiling train pretrain` makes. Out: functions from a
text to another. Which words a masked model guesses, and which of its guesses is taken, is drawn by the row's key; a
text is guessed alone on one thread, so that its copy does not depend on workers or neighbours.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from zhiling.builders.augmenters import COMMON, HAN, Part, Say, chosen_places, must_stay, without
from zhiling.errors import UserError, one_line
from zhiling.seeds import draw

GUESSES = 8       # of a masked model for a token that stands alone
LONGEST_WORD = 3  # in tokens
WHOLE = re.compile(r"[^\W\d_]+")


def contextual(folder: Path, language: str, share: float, seed: int) -> Say:
    """Replace about `share` of the words by guesses of the masked model in `folder`.

    Source: Kobayashi 2018, Contextual Augmentation (https://arxiv.org/abs/1805.06201). Raises UserError where the
    folder holds no masked model.
    """
    return partial(_guessed, *_masked_model(folder), language, share, seed)


@lru_cache(maxsize=2)
def _masked_model(folder: Path) -> tuple[Any, Any]:
    with _loading(folder, "masked"):
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForMaskedLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    if tokenizer.mask_token_id is None:
        raise UserError(str(folder), "its tokenizer has no mask token", "give the folder of a masked model")
    return model.eval(), tokenizer


def _guessed(
    model: Any, tokenizer: Any, language: str, share: float, seed: int,
    pieces: Sequence[tuple[str, bool]], key: str, kept: Sequence[str],
) -> list[Part]:
    lengths = {
        i: n for i, (text, protected) in enumerate(pieces)
        if not protected and WHOLE.fullmatch(text) and (n := _tokens(tokenizer, text)) <= LONGEST_WORD
    }
    chosen = chosen_places(lengths, share, seed, key)
    masked = "".join(tokenizer.mask_token * lengths[i] if i in chosen else t for i, (t, _) in enumerate(pieces))
    places = iter(_guesses(model, tokenizer, masked) if chosen else [])
    after = [text for text, _ in pieces]
    for i in sorted(chosen):
        tokens = [next(places, []) for _ in range(lengths[i])]
        words = without(kept, _words(tokens, language))
        options = [word for word in words if word != after[i] and not must_stay(word)][:GUESSES]
        if options:
            after[i] = options[draw(seed, "augment word", f"{key}\x1f{i}") % len(options)]
    return [Part(text, said) for (text, _), said in zip(pieces, after, strict=True)]


def _tokens(tokenizer: Any, word: str) -> int:
    """Tokens of a word, behind a space where that makes fewer."""
    return min(len(tokenizer.encode(text, add_special_tokens=False)) for text in (word, f" {word}"))


def _guesses(model: Any, tokenizer: Any, text: str) -> list[list[str]]:
    """For each mask that the model's context holds, its likeliest tokens in words, the best first."""
    import torch

    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            at = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
            logits = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits[0, at]
    finally:
        torch.set_num_threads(threads)
    best = logits.topk(min(4 * GUESSES, logits.shape[1])).indices.tolist()
    return [[tokenizer.decode([token]).strip() for token in place] for place in best]


def _words(places: Sequence[Sequence[str]], language: str) -> Iterator[str]:
    """Whole words out of the guesses for neighbouring masks; those of several tokens only where jieba knows them."""
    if len(places) == 1:
        yield from (w for w in places[0] if WHOLE.fullmatch(w) and (language != "zh" or HAN.match(w)))
    elif language == "zh":
        import jieba

        jieba.setLogLevel(60)
        jieba.initialize()
        found = product(*(place[:GUESSES] for place in places))
        yield from (w for w in map("".join, found) if WHOLE.fullmatch(w) and jieba.dt.FREQ.get(w, 0) >= COMMON)


@lru_cache(maxsize=4)
def back_translation(there: Path, back: Path) -> Callable[[str], str]:
    """A text through two translation models and back, by nlpaug's BackTranslationAug; folders with safetensors only."""
    for folder in (there, back):
        _require_weights(folder, "sequence-to-sequence")
    with _loading(there, "sequence-to-sequence"):
        from nlpaug.augmenter.word.back_translation import BackTranslationAug

        augmenter = BackTranslationAug(from_model_name=str(there), to_model_name=str(back), device="cpu")

    def translate(text: str) -> str:
        found = augmenter.augment(text)
        return str(found[0]) if found else text

    return translate


def _require_weights(folder: Path, kind: str) -> None:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UserError(str(folder), "no config.json with safetensors in it", f"give the folder of a {kind} model")


@contextmanager
def _loading(folder: Path, kind: str) -> Iterator[None]:
    """Say in one line what keeps a model from being loaded."""
    _require_weights(folder, kind)
    try:
        yield
    except ImportError:
        do = "pip install 'zhiling[augment,train]'"
        raise UserError("augment", "nlpaug, torch or transformers is not installed", do) from None
    except Exception as error:  # the libraries raise nothing narrower
        raise UserError(str(folder), f"cannot be loaded ({one_line(str(error), 100)})", "see the folder") from None
