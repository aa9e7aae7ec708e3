"""A byte-level BPE tokenizer, trained on train texts: the same texts give the same file, byte for byte.

In: texts and a size. Out: a `transformers` fast tokenizer without a beginning-of-text token, so that what
the trainer encodes is what lm-eval encodes. Refuses nothing: every byte is a token.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zhiling.trainer.config import TokenizerSettings

END, PAD, MASK, CUT = "<|end|>", "<|pad|>", "<|mask|>", "<|cut|>"
LONGEST = 24  # bytes a token may hold: eight Chinese characters


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings, context: int) -> Any:
    """A tokenizer of `settings.vocabulary` tokens learned from `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
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

    if is_adapter(folder) and not (folder / "tokenizer_config.json").is_file():
        folder = base_of(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
