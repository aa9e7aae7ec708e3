"""The tokenizer: the same texts give the same file, every text comes back, lm-eval encodes as the trainer does."""

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import UserError
from zhiling.trainer.config import TokenizerSettings
from zhiling.trainer.tokenizer import (
    LONGEST,
    cut_mark_of,
    end_of,
    frame_of,
    load_tokenizer,
    pad_of,
    train_tokenizer,
)

TEXTS = ["这家酒店很好，下次还来。", "The screen broke after two days.", "屏幕坏了，客服不理人！", "很好很好很好"] * 5


def test_the_same_texts_give_the_same_file_in_any_order() -> None:
    made = [train_tokenizer(texts, TokenizerSettings(vocabulary=330), 64) for texts in (TEXTS, TEXTS[::-1])]
    assert made[0].backend_tokenizer.to_str() == made[1].backend_tokenizer.to_str()


def test_it_adds_no_token_of_its_own(tokenizer: Any) -> None:
    """No beginning-of-text token: prompt and completion encode alike alone and under lm-eval."""
    assert tokenizer("好")["input_ids"] == tokenizer("好", add_special_tokens=False)["input_ids"]


def test_no_token_is_longer_than_it_may_be(tokenizer: Any) -> None:
    special = set(tokenizer.all_special_tokens)
    assert max(len(token) for token in tokenizer.get_vocab() if token not in special) <= LONGEST


MADE: dict[Literal["bytes", "characters"], Any] = {
    "bytes": train_tokenizer(TEXTS, TokenizerSettings(vocabulary=330), 64),
    "characters": train_tokenizer(TEXTS, TokenizerSettings(kind="characters", vocabulary=500), 64),
}


@pytest.mark.parametrize("kind", ["bytes", "characters"])
@given(text=st.text(max_size=40))
def test_every_text_comes_back(kind: Literal["bytes", "characters"], text: str) -> None:
    assert MADE[kind].decode(MADE[kind](text)["input_ids"]) == text or "<|" in text


def test_characters_are_tokens_of_their_own_and_rare_ones_bytes() -> None:
    tokenizer = MADE["characters"]
    assert [tokenizer.decode([t]) for t in tokenizer("很好，下次 broke 坏")["input_ids"]] == [
        "很", "好", "，", "下", "次", " broke", " ", "坏",
    ]
    assert len(tokenizer("饕")["input_ids"]) == 3  # never seen: three bytes


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=12))
def test_a_chinese_text_is_its_characters_side_by_side(text: str) -> None:
    """So a prompt and an answer part at the same tokens wherever the one ends."""
    tokenizer = MADE["characters"]
    assert tokenizer(text)["input_ids"] == [token for c in text for token in tokenizer(c)["input_ids"]]


def test_a_tokenizer_of_characters_loads_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    MADE["characters"].save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:4]:
        assert loaded(text)["input_ids"] == MADE["characters"](text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == text


def test_what_stands_around_a_text_is_asked_of_the_tokenizer(bert: Path, tokenizer: Any) -> None:
    theirs = load_tokenizer(bert)
    assert frame_of(tokenizer) == ([], [])
    assert frame_of(theirs) == ([theirs.cls_token_id], [theirs.sep_token_id])
    assert end_of(theirs) == cut_mark_of(theirs) == theirs.sep_token_id and pad_of(theirs) == theirs.pad_token_id
    assert cut_mark_of(tokenizer) == tokenizer.convert_tokens_to_ids("<|cut|>") != end_of(tokenizer)


def test_a_tokenizer_that_cannot_close_a_text_is_refused(bert: Path) -> None:
    theirs = load_tokenizer(bert)
    theirs.sep_token = None
    with pytest.raises(UserError, match="its tokenizer has no end and no separator token; set eos_token"):
        end_of(theirs)
