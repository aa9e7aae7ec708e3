"""The tokenizer: the same texts give the same file, every text comes back, lm-eval encodes as the trainer does."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zhiling.trainer.config import TokenizerSettings
from zhiling.trainer.tokenizer import LONGEST, train_tokenizer

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


PLAIN = train_tokenizer(TEXTS, TokenizerSettings(vocabulary=330), 64)


@given(st.text(max_size=40))
def test_every_text_comes_back(text: str) -> None:
    assert PLAIN.decode(PLAIN(text)["input_ids"]) == text or "<|" in text
