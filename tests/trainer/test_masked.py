"""Masked training: whole words are hidden, the same ones each time; the loss is the library's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import UserError
from zhiling.trainer.config import MaskSettings, ModelSettings
from zhiling.trainer.data import Rows, read_texts, write_rows
from zhiling.trainer.loss import on_device, token_loss
from zhiling.trainer.masked import Masked, encode_words, hidden_places, word_numbers
from zhiling.trainer.model import load_model, new_model


@pytest.fixture
def rows(release: Path, tokenizer: Any, tmp_path: Path) -> Rows:
    texts = list(read_texts(release, "train"))[:30]
    return write_rows(tmp_path / "rows", encode_words(texts, tokenizer, whole_words=True), len(tokenizer))


def blocks(rows: Rows, tokenizer: Any, **mask: Any) -> Masked:
    end, hide = tokenizer.eos_token_id, tokenizer.mask_token_id
    return Masked(rows, context=64, batch_tokens=256, seed=5, end=end, hide=hide, mask=MaskSettings(**mask))


def test_words_are_as_jieba_parts_them() -> None:
    assert word_numbers("酒店很干净") == [0, 0, 1, 2, 2]


@given(
    begins=st.lists(st.booleans(), min_size=1, max_size=80), share=st.floats(0.05, 0.9),
    span=st.sampled_from([1.0, 3.0]), key=st.integers(0, 2**64 - 1),
)
def test_words_are_hidden_whole_up_to_the_share(begins: list[bool], share: float, span: float, key: int) -> None:
    marks, may = np.asarray(begins), np.ones(len(begins), bool)
    found = hidden_places(marks, may, MaskSettings(share=share, span=span), key)
    assert found.tolist() == hidden_places(marks, may, MaskSettings(share=share, span=span), key).tolist()
    words = np.cumsum(marks)
    assert set(found) == {i for i in range(len(begins)) if words[i] in set(words[found])}
    if span == 1:  # no more than asked for, but for the last word drawn
        longest = max(np.bincount(words))
        assert max(1, share * len(begins)) - 1e-6 <= len(found) < max(1, share * len(begins)) + longest


def test_hidden_tokens_are_the_targets_and_ends_stay(rows: Rows, tokenizer: Any) -> None:
    drawn = blocks(rows, tokenizer, share=0.3)
    micros = [m for step in range(drawn.steps_per_epoch) for m in drawn.batch(step, 128)]
    for micro in micros:
        assert (micro.ids[micro.at] == tokenizer.mask_token_id).all()
        assert tokenizer.eos_token_id not in micro.targets
    hidden, tokens = sum(len(m.at) for m in micros), sum(m.tokens for m in micros)
    assert 0.25 < hidden / tokens < 0.4
    assert sum(float(m.weights.sum()) for m in drawn.batch(0, 64)) == pytest.approx(1, abs=1e-5)


def test_another_epoch_hides_other_words(rows: Rows, tokenizer: Any) -> None:
    drawn = blocks(rows, tokenizer)
    assert drawn.batch(0, 64)[0].at.tolist() != drawn.batch(drawn.steps_per_epoch, 64)[0].at.tolist()
    assert drawn.batch(0, 64)[0].at.tolist() == blocks(rows, tokenizer).batch(0, 64)[0].at.tolist()


def test_the_masked_loss_is_the_librarys_of_each_block_alone(rows: Rows, tokenizer: Any) -> None:
    settings = ModelSettings(family="encoder", preset="pico", hidden=64, layers=3, context=64)
    model = new_model(settings, tokenizer, seed=1).eval()
    drawn = blocks(rows, tokenizer)
    (micro,) = drawn.batch(drawn.steps_per_epoch - 1, 1024)  # the last block is shorter: its padding must not be seen
    labels = torch.full((len(micro.ids),), -100)
    labels[micro.at] = torch.from_numpy(micro.targets)
    total = torch.zeros(())
    for a, b in zip(micro.starts, micro.starts[1:], strict=False):
        alone = model(input_ids=torch.from_numpy(micro.ids[None, a:b]), labels=labels[None, a:b]).loss
        total = total + alone * int((labels[a:b] >= 0).sum()) / len(micro.at)
    torch.testing.assert_close(token_loss(model, on_device(micro, torch.device("cpu"))), total, atol=1e-5, rtol=0)


def test_documents_apart_are_rows_of_their_own_with_the_same_words_hidden(rows: Rows, tokenizer: Any) -> None:
    end, hide = tokenizer.eos_token_id, tokenizer.mask_token_id
    made = [Masked(rows, 64, 256, 5, end, hide, MaskSettings(), apart) for apart in (False, True)]
    together, apart = ([m for step in range(d.steps_per_epoch) for m in d.batch(step, 4096)] for d in made)
    assert sorted(np.concatenate([m.targets for m in together])) == sorted(np.concatenate([m.targets for m in apart]))
    assert sum(len(m.starts) for m in apart) > sum(len(m.starts) for m in together)
    for micro in apart:  # no document's end stands inside a row
        for a, b in zip(micro.starts, micro.starts[1:], strict=False):
            assert (micro.ids[a : b - 1] != end).all()


def test_what_a_tokenizer_puts_around_a_text_stands_around_each_block(rows: Rows, tokenizer: Any) -> None:
    end, hide = tokenizer.eos_token_id, tokenizer.mask_token_id
    framed = Masked(rows, 64, 256, 5, end, hide, MaskSettings(), frame=([7], [8, 9]))
    for micro in framed.batch(0, 4096):
        for a, b in zip(micro.starts, micro.starts[1:], strict=False):
            assert b - a <= 64 and micro.ids[a] == 7 and micro.ids[b - 2 : b].tolist() == [8, 9]
        assert (micro.ids[micro.at] == hide).all()


def test_an_encoder_loads_in_transformers(encoder: Path) -> None:
    from transformers import AutoModelForMaskedLM

    assert AutoModelForMaskedLM.from_pretrained(encoder).config.model_type == "modernbert"
    with pytest.raises(UserError, match="an encoder, which does not continue a text; give a decoder"):
        load_model(encoder)
