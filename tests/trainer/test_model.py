"""Models: any width that the settings allow, and no family whose own loss would be another than ours."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import UserError
from zhiling.trainer.config import ModelSettings
from zhiling.trainer.model import heads_of, load_lm, new_model


@given(st.integers(1, 512).map(lambda n: 16 * n))
def test_heads_share_any_width_out_and_each_can_be_rotated(hidden: int) -> None:
    heads = heads_of(hidden)
    assert hidden % heads == 0 and hidden // heads % 2 == 0 and heads <= max(1, hidden // 64)
    if hidden % 64 == 0:
        assert heads == hidden // 64


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_a_width_that_64_does_not_divide_makes_a_model(tokenizer: Any, family: Any) -> None:
    model = new_model(ModelSettings(family=family, preset="pico", hidden=208, layers=1, context=64), tokenizer, 1)
    assert model(input_ids=torch.arange(5)[None]).logits.shape[:2] == (1, 5)


def saved(folder: Path, pretrained: Path, model: Any) -> Path:
    """A stranger's model beside our tokenizer."""
    model.save_pretrained(folder)
    for file in pretrained.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def test_a_family_that_caps_its_logits_is_refused(pretrained: Path, tmp_path: Path) -> None:
    """Trained by its head's bare product, its loss would be another one than the library's."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=64, max_position_embeddings=64, final_logit_softcapping=1.0,
    )
    with pytest.raises(UserError, match="the family 'gemma2' says its words in a way not known here; give a model w"):
        load_lm(saved(tmp_path / "gemma2", pretrained, Gemma2ForCausalLM(config)))


def test_families_that_are_no_language_model_here_are_one_line(pretrained: Path, tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM, DistilBertConfig, DistilBertForMaskedLM

    bloom = BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(UserError, match="bloom: its config has no max_position_embeddings; give a model whose l"):
        load_lm(saved(tmp_path / "bloom", pretrained, bloom))
    distil = DistilBertForMaskedLM(DistilBertConfig(vocab_size=400, dim=32, n_layers=1, n_heads=2, hidden_dim=64))
    with pytest.raises(UserError, match="distil: of a family that is not known here; give a decoder, or one of these"):
        load_lm(saved(tmp_path / "distil", pretrained, distil))


def test_a_model_whose_weights_are_no_numbers_is_read_all_the_same(pretrained: Path, tmp_path: Path) -> None:
    """What it says is for the loss to judge, which names the rows."""
    broken = Path(shutil.copytree(pretrained, tmp_path / "broken"))
    model = load_lm(broken)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    model.save_pretrained(broken)
    assert json.loads((broken / "config.json").read_text(encoding="utf-8"))["model_type"] == "llama"
    assert torch.isnan(load_lm(broken).get_input_embeddings().weight).all()
