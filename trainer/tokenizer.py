"""A byte-level BPE tokenizer, trained on train texts: the same texts give the same file, byte for byte.

In: texts and a size. Out: a `transformers` fast tokenizer without a beginning-of-text token, so that what
the trainer encodes is what lm-eval encodes. Refuses nothing: every byte is a token. Of kind `characters` it joins
no Chinese character with another. What other tokenizers put around a text, and how they close one, is asked here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zhiling.errors import UserError
from zhiling.trainer.config import TokenizerSettings

END, PAD, MASK, CUT = "<|end|>", "<|pad|>", "<|mask|>", "<|cut|>"
LONGEST = 24  # bytes a token may hold: eight Chinese characters


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings, context: int) -> Any:
    """A tokenizer of `settings.vocabulary` tokens learned from `texts`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if settings.kind == "characters":
        alone = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")
        bpe.pre_tokenizer = pre_tokenizers.Sequence([alone, bpe.pre_tokenizer])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary, special_tokens=[END, PAD, MASK, CUT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), max_token_length=LONGEST, min_frequency=2,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, mask_token=MASK, additional_special_tokens=[CUT],
        model_max_length=context, clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; of an adapter without one, its base's."""
    from transformers import AutoTokenizer

    from zhiling.trainer.adapters import base_of, is_adapter
    from zhiling.trainer.model import readable

    if is_adapter(folder) and not (folder / "tokenizer_config.json").is_file():
        folder = base_of(folder)
    with readable(folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def end_of(tokenizer: Any) -> int:
    """The token that closes a text: its end, or, as in BERT, its separator."""
    found = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if found is None:
        raise UserError(str(tokenizer.name_or_path), "its tokenizer has no end and no separator token",
                        "set eos_token in its tokenizer_config.json")
    return int(found)


def pad_of(tokenizer: Any) -> int:
    """The token that fills up, which no loss ever sees."""
    return int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else end_of(tokenizer)


def require_mask(tokenizer: Any) -> None:
    """Raise UserError for a tokenizer without the token that hides others."""
    if tokenizer.mask_token_id is None:
        raise UserError(str(tokenizer.name_or_path), "its tokenizer has no mask token",
                        "set mask_token in its tokenizer_config.json, or give the model's own tokenizer")


def cut_mark_of(tokenizer: Any) -> int:
    """The token that stands where a text too long was cut."""
    return int(tokenizer.convert_tokens_to_ids(CUT)) if CUT in tokenizer.get_vocab() else end_of(tokenizer)


def frame_of(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text of its own accord, as BERT's [CLS] and [SEP]; ours nothing."""
    bare, whole = (tokenizer("一", add_special_tokens=own)["input_ids"] for own in (False, True))
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]
