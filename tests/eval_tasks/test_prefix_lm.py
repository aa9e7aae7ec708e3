"""Shared contexts give what lm-eval's own model gives, whatever the batches, the order and the shares."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from tests.eval_tasks.conftest import make_model
from zhiling.eval_tasks.prefix_lm import PrefixLM

CHOICES = ["正面", "负面", "正", '{"sentiment": "positive"}', '{"sentiment": "negative"}', " good", "好极了！"]


@pytest.fixture(scope="module")
def ours(model: Path) -> PrefixLM:
    return PrefixLM(str(model), device="cpu", batch_tokens=2048)


@pytest.fixture(scope="module")
def theirs(model: Path) -> HFLM:
    return HFLM(str(model), device="cpu", batch_size=8)


def prompts(reviews: list[dict[str, str]], shots: int, count: int = 10) -> list[str]:
    """Real reviews asked about, behind fixed shots."""
    before = "".join(f"评论：{r['text'][:60]}\n情感：{'正面'}\n\n" for r in reviews[100 : 100 + shots])
    return [f"{before}评论：{r['text'][:120]}\n情感：" for r in reviews[:count]]


def asked(contexts: list[str], choices: list[str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, (c, k), i) for c in contexts for i, k in enumerate(choices)]


def agree(mine: list[Any], others: list[Any], within: float = 1e-4) -> None:
    assert [m[0] for m in mine] == pytest.approx([o[0] for o in others], abs=within)
    assert [m[1] for m in mine] == [o[1] for o in others]


@pytest.mark.parametrize("shots", [0, 5])
def test_every_log_likelihood_is_that_of_hf(
    ours: PrefixLM, theirs: HFLM, reviews: list[dict[str, str]], shots: int
) -> None:
    assert ours.shares
    requests = asked([*prompts(reviews, shots), "How good was it?", "结尾有空格  ", ""], CHOICES)
    mine, others = ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
    agree(mine, others)
    for i in range(0, len(requests), len(CHOICES)):
        both = [max(range(len(CHOICES)), key=lambda k: scores[i + k][0]) for scores in (mine, others)]
        assert both[0] == both[1]


def test_scores_do_not_hang_on_batches_order_or_company(ours: PrefixLM, reviews: list[dict[str, str]]) -> None:
    requests = asked([*prompts(reviews, 0, 6), *prompts(reviews, 4, 6)], CHOICES)
    scores = ours.loglikelihood(requests)
    shuffled = random.Random(1).sample(range(len(requests)), len(requests))
    again = ours.loglikelihood([requests[i] for i in shuffled])
    agree(again, [scores[i] for i in shuffled], 1e-5)
    halves = [*ours.loglikelihood(requests[:40]), *ours.loglikelihood(requests[40:])]
    agree(halves, scores, 1e-5)
    alone = [ours.loglikelihood([request])[0] for request in requests[::5]]
    agree(alone, scores[::5], 1e-5)
    ours.batch_tokens, before = 64, ours.batch_tokens
    try:
        agree(ours.loglikelihood(requests), scores, 1e-5)
    finally:
        ours.batch_tokens = before


def test_prompts_beyond_the_context_are_cut_as_hf_cuts_them(
    tmp_path: Path, reviews: list[dict[str, str]]
) -> None:
    small = make_model(tmp_path / "small", [r["text"] for r in reviews], max_position_embeddings=64)
    requests = asked(prompts(reviews, 1, 3), CHOICES[:2])
    mine = PrefixLM(str(small), device="cpu").loglikelihood(requests)
    agree(mine, HFLM(str(small), device="cpu", batch_size=1).loglikelihood(requests, disable_tqdm=True))


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gemma2", "mamba"])
def test_models_of_other_families_agree_or_go_the_way_of_hf(
    family: str, model: Path, tmp_path: Path, reviews: list[dict[str, str]]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    changes: dict[str, Any] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
        "mistral": {"sliding_window": 16, "num_key_value_heads": 2},
        "gemma2": {"sliding_window": 16, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8},
        "mamba": {"state_size": 4, "num_hidden_layers": 1},
    }[family]
    small = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 1,
             "pad_token_id": 0}
    if family == "gpt2":
        small = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 1}
    torch.manual_seed(0)
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small | changes))
    requests = asked(prompts(reviews, 2, 3), CHOICES)
    mine, theirs = (kind(other, tokenizer=tokenizer, batch_size=4, max_length=512) for kind in (PrefixLM, HFLM))
    agree(mine.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True))
    assert mine.shares == (family == "gpt2")


def said(contexts: list[str], **arguments: Any) -> list[Instance]:
    return [Instance("generate_until", {}, (c, {"do_sample": False, **arguments}), 0) for c in contexts]


@pytest.mark.parametrize("shots", [0, 4])
def test_generated_texts_are_those_of_hf(
    ours: PrefixLM, theirs: HFLM, reviews: list[dict[str, str]], shots: int
) -> None:
    contexts = prompts(reviews, shots, 6)
    free = ours.generate_until(said(contexts, until=["\n\n"], max_gen_toks=12))
    assert free == theirs.generate_until(said(contexts, until=["\n\n"], max_gen_toks=12), disable_tqdm=True)
    stop = next(text[3:5] for text in free if len(text) > 5)
    cut = ours.generate_until(said(contexts, until=[stop], max_gen_toks=12))
    assert cut == theirs.generate_until(said(contexts, until=[stop], max_gen_toks=12), disable_tqdm=True)
    assert cut != free


def test_texts_do_not_hang_on_batches_or_order(ours: PrefixLM, reviews: list[dict[str, str]]) -> None:
    requests = said([*prompts(reviews, 0, 4), *prompts(reviews, 4, 4)], until=["\n\n"], max_gen_toks=8)
    texts = ours.generate_until(requests)
    shuffled = random.Random(1).sample(range(len(requests)), len(requests))
    assert ours.generate_until([requests[i] for i in shuffled]) == [texts[i] for i in shuffled]
    ours.cache_tokens, before = 1, ours.cache_tokens
    try:
        assert ours.generate_until(requests) == texts
    finally:
        ours.cache_tokens = before


def test_generation_ends_at_the_end_token(
    tmp_path: Path, reviews: list[dict[str, str]], ours: PrefixLM
) -> None:
    contexts = prompts(reviews, 0, 4)
    texts = [r["text"] for r in reviews]
    with torch.inference_mode():
        likely = ours.model(ours.tok_batch_encode(contexts[:1])[0]).logits[0, -1].argmax().item()
    folder = make_model(tmp_path / "ends", texts)
    config = folder / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [1, likely]}))
    requests = said(contexts, until=["\n\n"], max_gen_toks=10)
    mine = PrefixLM(str(folder), device="cpu").generate_until(requests)
    assert len(mine[0]) < len(ours.generate_until(requests)[0])
    assert mine == HFLM(str(folder), device="cpu", batch_size=4).generate_until(requests, disable_tqdm=True)


def test_what_is_not_greedy_goes_the_way_of_hf(model: Path, reviews: list[dict[str, str]]) -> None:
    lm = PrefixLM(str(model), device="cpu")
    lm.model.generation_config.repetition_penalty = 1.5
    theirs = HFLM(str(model), device="cpu", batch_size=3)
    theirs.model.generation_config.repetition_penalty = 1.5
    requests = said(prompts(reviews, 0, 3), until=["\n\n"], max_gen_toks=8)
    assert lm.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)
