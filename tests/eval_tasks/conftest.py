"""A real small release, and a tiny random model that scores it."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RecipeMaker

os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """600 real reviews, built into a release with zero and two shots."""
    from zhiling.builders.pipeline import build

    make = RecipeMaker(tmp_path_factory.mktemp("release"))
    make.corpus(reviews)
    return build(make.recipe(), make.folder / "out", 1)


def make_model(folder: Path, texts: list[str], seed: int = 0, **changes: Any) -> Path:
    """A random Llama of a few thousand parameters with a byte-level tokenizer, as transformers saves them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<eos>")
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.2,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings | changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """The tiny model's folder."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny", [r["text"] for r in reviews])
