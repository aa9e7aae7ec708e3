"""A small real release and models of a few thousand parameters, made once for this folder's tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

TINY: dict[str, Any] = {
    "tokenizer": {"vocabulary": 400},
    "model": {"preset": "pico", "hidden": 32, "layers": 2, "context": 256},
    "precision": "fp32",
    "pretrain": {"max_steps": 6, "batch_tokens": 1024, "micro_tokens": 512, "validation_rows": 4},
    "instruct": {"max_steps": 6, "batch_rows": 8, "micro_tokens": 1024, "validation_rows": 8},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests share the cores: one thread each, and the same sums every time."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def release(reviews: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 240 real reviews."""
    from zhiling.builders.pipeline import build

    folder = tmp_path_factory.mktemp("release")
    rows = [json.dumps(r, ensure_ascii=False) for r in reviews[180:420]]
    (folder / "reviews.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = {
        "name": "tiny", "version": "1.0.0", "title": "小样", "summary": "测试用的小数据集", "seed": 7,
        "corpora": [
            {"name": "reviews", "pack": "zh/sentiment", "license": "MIT", "files": [{"path": "reviews.jsonl"}]}
        ],
        "render": {"templates_per_row": 2, "shots": {0: 0.8, 2: 0.2}, "exemplar_characters": 40},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return build(folder / "recipe.yaml", folder / "out")


@pytest.fixture(scope="session")
def pretrained(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model pretrained for six steps."""
    from zhiling.trainer.config import TrainSettings
    from zhiling.trainer.stages import pretrain

    return pretrain(release, TrainSettings.model_validate(TINY), tmp_path_factory.mktemp("models") / "pretrained")


@pytest.fixture(scope="session")
def tokenizer(pretrained: Path) -> Any:
    """The pretrained model's tokenizer."""
    from zhiling.trainer.tokenizer import load_tokenizer

    return load_tokenizer(pretrained)


@pytest.fixture(scope="session")
def encoder(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model of ours, pretrained for six steps."""
    from zhiling.trainer.config import TrainSettings
    from zhiling.trainer.stages import pretrain

    small = {**TINY["model"], "hidden": 64, "family": "encoder"}
    own = {**TINY, "model": small, "pretrain": {**TINY["pretrain"], "objective": "masked"}}
    return pretrain(release, TrainSettings.model_validate(own), tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def bert(reviews: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's checkpoint: a BERT of random weights whose tokenizer has a token for each character."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    from zhiling.trainer.model import quiet

    quiet()
    home = tmp_path_factory.mktemp("models") / "bert"
    characters = sorted({c for row in reviews for c in row["text"].lower() if c.strip()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(home)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        BertForMaskedLM(config).save_pretrained(home)
    return home


@pytest.fixture
def model(pretrained: Path) -> Any:
    """A fresh copy of the pretrained model."""
    from zhiling.trainer.model import load_model

    return load_model(pretrained)
