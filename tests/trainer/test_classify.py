"""What classifiers say of texts: as the library does, of long and empty texts too, through `predict` as well."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from zhiling.errors import UserError
from zhiling.trainer.classify import label_shares, spans
from zhiling.trainer.heads import load_classifier
from zhiling.trainer.predict import predict

TEXTS = ["很好", "房间很干净，下次还来" * 3, "差"]


def test_shares_are_the_librarys_whatever_stands_beside_a_text(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    model = load_classifier(bert, "sequence", tokenizer, ["a", "b", "c"], 1)
    for text, shares in zip(TEXTS, label_shares(model, tokenizer, TEXTS), strict=True):
        with torch.inference_mode():
            alone = model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        assert list(shares) == ["a", "b", "c"] and list(shares.values()) == pytest.approx(alone.tolist(), abs=1e-5)


@pytest.mark.parametrize("parent", ["bert", "pretrained", "encoder"])
def test_empty_and_overlong_texts_have_an_answer_too(request: pytest.FixtureRequest, parent: str) -> None:
    folder = request.getfixturevalue(parent)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_classifier(folder, "sequence", tokenizer, ["a", "b"], 1)
    for shares in label_shares(model, tokenizer, ["", "很好" * 500]):
        assert sum(shares.values()) == pytest.approx(1)


def test_spans_lie_in_the_text_whose_middle_was_cut(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    model = load_classifier(bert, "token", tokenizer, ["O", "B-人名"], 1)
    with torch.no_grad():  # every token begins a name
        model.classifier.bias.copy_(torch.tensor([-9.0, 9.0]))
    text = "".join(chr(0x4E00 + n) for n in range(300))
    (found,) = spans(model, tokenizer, [text])
    assert [span["text"] for span in found] == [text[span["start"] : span["end"]] for span in found]
    room = model.config.max_position_embeddings - 3  # what stands around a text, and the mark of the cut
    assert len(found) == room and (found[0]["start"], found[-1]["end"]) == (0, 300)


def test_predict_gives_labels_or_spans_by_the_kind_of_head(bert: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(bert)
    for head, names in (("sequence", ["好", "坏"]), ("token", ["O", "B-人名"])):
        model = load_classifier(bert, head, tokenizer, names, 1)  # type: ignore[arg-type]
        model.save_pretrained(tmp_path / head)
        tokenizer.save_pretrained(tmp_path / head)
    for row in predict(tmp_path / "sequence", "zh/sentiment", str(rows)):
        assert row["label"] in {"好", "坏"} and 0.5 <= row["probability"] <= 1
    for row in predict(tmp_path / "token", "zh/sentiment", str(rows)):
        assert all(row["text"][span["start"] : span["end"]] == span["text"] for span in row["spans"])
    with pytest.raises(UserError, match=r"--template: .*sequence has a head, which reads texts and no templates; l"):
        next(predict(tmp_path / "sequence", "zh/sentiment", str(rows), ["cloze"]))
    rows.write_text("", encoding="utf-8")
    assert list(predict(tmp_path / "sequence", "zh/sentiment", str(rows))) == []
