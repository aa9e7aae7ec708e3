"""Copies by models: a masked model of our own guesses words, two tiny translation models say texts there and back."""

from pathlib import Path
from typing import Any

import pytest

from tests.builders.test_augment import corpus_rows
from tests.conftest import RecipeMaker
from zhiling.builders.augment_models import LONGEST_WORD, _masked_model, _tokens, back_translation, contextual
from zhiling.builders.augmenters import must_stay, words
from zhiling.builders.pipeline import build
from zhiling.builders.plan import make_plan
from zhiling.errors import UserError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::SyntaxWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
THERE = {"房间很大": "the room is big", "早餐很贵": "the breakfast is dear", "电影很长": "the film is long"}
BACK = {"the room is big": "屋子宽敞", "the breakfast is dear": "早饭要价高", "the film is long": "片子太长"}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """A masked model that our own trainer makes of a few hundred reviews."""
    from zhiling.trainer.config import TrainSettings
    from zhiling.trainer.stages import pretrain

    folder = tmp_path_factory.mktemp("masked")
    make = RecipeMaker(folder)
    make.corpus(reviews[:150] + reviews[-150:])
    release = build(make.recipe(), folder / "out")
    settings = TrainSettings.model_validate({
        "tokenizer": {"vocabulary": 1500}, "model": {"family": "encoder", "preset": "pico", "context": 64},
        "pretrain": {"objective": "masked", "max_steps": 12, "batch_tokens": 1024, "micro_tokens": 1024},
    })
    return pretrain(release, settings, folder / "model")


def test_a_masked_model_guesses_words_by_key_and_leaves_what_must_stay(masked: Path) -> None:
    say = contextual(masked, "zh", 0.6, 7)
    texts = ["房间非常干净，服务员的态度也很热情。", "早餐一般，但是位置不错，下次还会来住。"]
    for text in texts:
        pieces = [(word, must_stay(word) or word == "热情") for word in words(text, "zh")]
        parts = say(pieces, "row", ["热情"])
        assert [part.before for part in parts] == [piece for piece, _ in pieces]
        assert all(part.after == part.before for part, (_, kept) in zip(parts, pieces, strict=True) if kept)
        assert all(part.after.isalpha() for part in parts if part.after != part.before)
        assert parts == say(pieces, "row", ["热情"])
    keys = {tuple(part.after for part in say(pieces, str(n), [])) for n in range(6)}
    assert len(keys) > 2


def test_a_text_that_the_context_cannot_hold_or_that_names_the_mask_is_still_one_text(masked: Path) -> None:
    _, tokenizer = _masked_model(masked)
    say = contextual(masked, "zh", 1.0, 7)
    for text in ("房间很好。" * 100, f"房间{tokenizer.mask_token}很好", "", "123！？"):
        parts = say([(word, must_stay(word)) for word in words(text, "zh")], "row", [])
        assert "".join(part.before for part in parts) == text
    assert _tokens(tokenizer, "房间") <= LONGEST_WORD


def test_a_build_makes_copies_with_it_and_depends_on_the_model(
    masked: Path, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:30] + reviews[-30:])
    methods = [{"kind": "contextual", "rows": 0.6, "words": 0.3, "model": str(masked)}]
    recipe = make.recipe(augment={"methods": methods})
    rows = corpus_rows(build(recipe, tmp_path / "out"))
    copies = [row for row in rows if row["parent_id"]]
    assert len(copies) > 10 and all(row["augmentation"].startswith("contextual: ") for row in copies)
    again = corpus_rows(build(recipe, tmp_path / "again", workers=2))
    assert {(row["id"], row["text"]) for row in again} == {(row["id"], row["text"]) for row in rows}
    before = make_plan(recipe).made_from
    (masked / "note.txt").write_text("another model", encoding="utf-8")
    assert make_plan(recipe).made_from != before


def translator(pairs: dict[str, str], folder: Path) -> Path:
    """A tiny T5 that has learned a few sentences by heart, as a folder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import Fuse
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    characters = sorted({c for pair in pairs.items() for text in pair for c in text})
    vocabulary = {c: n for n, c in enumerate(["<pad>", "</s>", "<unk>", *characters])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    plain.decoder = Fuse()
    plain.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(
        vocab_size=len(vocabulary), d_model=48, d_kv=24, d_ff=96, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    ))
    source = tokenizer(list(pairs), return_tensors="pt", padding=True)
    target = tokenizer(list(pairs.values()), return_tensors="pt", padding=True)["input_ids"]
    target[target == 0] = -100
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(200):
        model(**source, labels=target).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_text_goes_there_and_back_through_two_models(make: RecipeMaker, tmp_path: Path) -> None:
    there, back = translator(THERE, tmp_path / "there"), translator(BACK, tmp_path / "back")
    say = back_translation(there, back)
    assert {text: say(text) for text in THERE} == {text: BACK[english] for text, english in THERE.items()}
    make.corpus([{"text": text, "label": "positive"} for text in THERE])
    recipe = make.recipe(
        split={"train": 1, "validation": 0, "test": 0},
        augment={"methods": [{"kind": "back_translation", "rows": 1.0, "models": ["there", "back"]}]},
    )
    (tmp_path / "there").rename(recipe.parent / "there")
    (tmp_path / "back").rename(recipe.parent / "back")
    copies = [row for row in corpus_rows(build(recipe, tmp_path / "out")) if row["parent_id"]]
    assert {row["text"] for row in copies} == set(BACK.values())


@pytest.mark.parametrize(("method", "said"), [
    ({"kind": "contextual"}, "`model: FOLDER` belongs to contextual, and it needs one"),
    ({"kind": "typo", "model": "m"}, "`model: FOLDER` belongs to contextual, and it needs one"),
    ({"kind": "contextual", "model": "nowhere"}, "nowhere: no config.json with safetensors in it"),
])
def test_a_model_that_is_missing_is_one_line(
    method: dict[str, Any], said: str, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:10] + reviews[-10:])
    with pytest.raises(UserError, match=said):
        build(make.recipe(augment={"methods": [method]}), tmp_path / "out")
