"""Choices at the mask, texts token by token, against the model asked by hand."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.masked_lm import MaskedLM
from zhiling.eval_tasks.results import read_run
from zhiling.eval_tasks.run import evaluate


def make_masked(folder: Path, reviews: list[dict[str, str]], family: str = "bert", **changes: Any) -> Path:
    """A tiny random masked model over the reviews' characters."""
    from transformers import AutoConfig, AutoModelForMaskedLM, BertTokenizerFast

    characters = sorted({c for r in reviews for c in r["text"] + "正负面" if not c.isspace()})
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])}
    torch.manual_seed(0)
    small = {"vocab_size": len(vocabulary), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 64, "max_position_embeddings": 128, "initializer_range": 0.3, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **small | changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
        BertTokenizerFast(vocab=vocabulary, model_max_length=128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    return make_masked(tmp_path_factory.mktemp("bert"), reviews)


def by_hand(lm: MaskedLM, text: str, place: int, token: str) -> float:
    """Log-probability of a token at the place of a text's masks."""
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logprobs = lm.model(ids).logits[0].log_softmax(-1)
    masks = (ids[0] == lm.tokenizer.mask_token_id).nonzero()[:, 0]
    return float(logprobs[masks[place], lm.tokenizer.convert_tokens_to_ids(token)])


def test_a_word_of_two_tokens_does_not_give_itself_away(bert: Path) -> None:
    lm = MaskedLM(str(bert))
    pairs = [("很好看。情感：", "正面"), ("很好看。", "好")]
    (score, _), (one, _) = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    first = by_hand(lm, "很好看。情感：[MASK][MASK]", 0, "正")
    second = by_hand(lm, "很好看。情感：正[MASK]", 0, "面")
    assert score == pytest.approx(first + second, abs=1e-5)
    assert one == pytest.approx(by_hand(lm, "很好看。[MASK]", 0, "好"), abs=1e-5)


@pytest.mark.parametrize(("family", "changes"), [
    ("roberta", {}), ("electra", {"embedding_size": 32}), ("deberta-v2", {}), ("modernbert", {"cls_token_id": 2}),
    ("distilbert", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}),
])
def test_families_of_other_output_layers_give_the_same(
    family: str, changes: dict[str, Any], tmp_path: Path, reviews: list[dict[str, str]]
) -> None:
    lm = MaskedLM(str(make_masked(tmp_path, reviews, family, **changes)))
    ((score, _),) = lm.loglikelihood([Instance("loglikelihood", {}, ("很好看。", "好"), 0)])
    assert score == pytest.approx(by_hand(lm, "很好看。[MASK]", 0, "好"), abs=1e-5)


def test_a_text_is_scored_token_by_token(bert: Path) -> None:
    lm = MaskedLM(str(bert))
    (score,) = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("很好看",), 0)])
    masked = (("[MASK]好看", "很"), ("很[MASK]看", "好"), ("很好[MASK]", "看"))
    wanted = sum(by_hand(lm, text, 0, token) for text, token in masked)
    assert score == pytest.approx(wanted, abs=1e-5)


def test_scores_do_not_hang_on_batches(bert: Path, reviews: list[dict[str, str]]) -> None:
    pairs = [(f"{r['text'][:200]}情感：", word) for r in reviews[:6] for word in ("正面", "负")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    together = MaskedLM(str(bert)).loglikelihood(requests)
    alone = MaskedLM(str(bert), batch_tokens=1).loglikelihood(requests)
    assert [s for s, _ in together] == pytest.approx([s for s, _ in alone], abs=1e-5)


def test_a_masked_model_is_scored_like_any_other(bert: Path, release: Path, tmp_path: Path) -> None:
    settings = EvalSettings(templates=["cloze", "write_review"], limit=5, generation=True)
    run = read_run(evaluate(str(bert), release, settings, tmp_path))
    assert run.manifest["model"]["kind"] == "masked"
    assert {s.template for s in run.samples} == {"cloze"}  # it cannot write reviews
