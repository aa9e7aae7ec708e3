"""Contexts are encoded once, and cut where lm-eval cuts them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from zhiling.eval_tasks.encoding import encode_pairs

TEXT = st.text(st.sampled_from("正面好 \n\t。a1,Z’é　"), min_size=1, max_size=12)


def lm_of(tokenizer: Any, add_bos: bool | None = None) -> Any:
    lm = SimpleNamespace(tokenizer=tokenizer, backend="causal", add_bos_token=add_bos, prefix_token_id=1)
    lm.tok_encode = lambda *args, **kwargs: HFLM.tok_encode(lm, *args, **kwargs)
    return lm


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=8))
@settings(deadline=None)
def test_pairs_are_cut_as_lm_eval_cuts_them(tokenizer: Any, texts: list[tuple[str, str, str]]) -> None:
    lm = lm_of(tokenizer)
    pairs = [(f"{a}\n{b}", k) for a, b, k in texts if f"{a}\n{b}".strip()]
    found = encode_pairs(lm, pairs)
    if found is not None:
        assert [(c, k) for _, c, k in found] == [HFLM._encode_pair(lm, *pair) for pair in pairs]


def test_real_prompts_take_the_short_way(tokenizer: Any, reviews: list[dict[str, str]]) -> None:
    pairs = [(f"评论：{r['text']}\n这条评论的情感是：", k) for r in reviews[:50] for k in ("正面", "负面")]
    lm = lm_of(tokenizer)
    found = encode_pairs(lm, pairs)
    assert found is not None
    assert [(c, k) for _, c, k in found] == [HFLM._encode_pair(lm, *pair) for pair in pairs]


def test_a_tokenizer_that_looks_across_lines_goes_lm_evals_way() -> None:
    from tokenizers import Tokenizer, models

    # no pieces: "\n答" is one token, so a line alone is not what it is in its place
    vocabulary = {c: i for i, c in enumerate(["<eos>", "\n", "答", "：", "是", "问", "题", "\n答"])}
    bare = Tokenizer(models.BPE(vocabulary, [("\n", "答")]))
    fast = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<eos>")
    assert encode_pairs(lm_of(fast), [("问题\n答：是是是是是是", "是")]) is None


def test_without_a_context_there_is_nothing_to_share(tokenizer: Any) -> None:
    assert encode_pairs(lm_of(tokenizer), [("", "好")]) is None
