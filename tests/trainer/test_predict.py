"""Predictions: the likeliest label of each row, for files of any kind; scores as the library gives them."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zhiling.errors import UserError
from zhiling.templates.compiled import compile_question, compile_template
from zhiling.templates.pack import load_pack
from zhiling.templates.render import render_batch
from zhiling.trainer.forward import hidden_states
from zhiling.trainer.predict import EMPTY, predict
from zhiling.trainer.scoring import generate, log_likelihoods

TEXTS = ["房间很干净，下次还来", "屏幕坏了，客服不理人"]


def test_each_row_gets_a_label_and_its_probability(pretrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "id": i}) + "\n" for i, t in enumerate(TEXTS)), encoding="utf-8")
    found = list(predict(pretrained, "zh/sentiment", str(path)))
    assert [row["text"] for row in found] == TEXTS and [row["id"] for row in found] == [0, 1]
    for row in found:
        assert (row["label"], row["answer"]) in {("positive", "正面"), ("negative", "负面")}
        assert 0.5 <= row["probability"] <= 1


def test_several_templates_say_the_mean_of_what_each_says(pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")

    def odds(*templates: str) -> list[float]:
        found = predict(pretrained, "zh/sentiment", str(tmp_path / "a.txt"), templates)
        sides = [(row["probability"], row["label"] == "positive") for row in found]
        return [math.log(p / (1 - p)) * (1 if positive else -1) for p, positive in sides]

    for both, one, other in zip(odds("sorter", "cloze"), odds("sorter"), odds("cloze"), strict=True):
        assert both == pytest.approx((one + other) / 2, abs=2e-2)


def test_lines_csv_and_parquet_say_the_same(pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(TEXTS) + "\n", encoding="utf-8")
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet")
    found = [list(predict(pretrained, "zh/sentiment", str(tmp_path / f"a.{e}"))) for e in ("txt", "csv", "parquet")]
    assert found[0] == found[1] == found[2]


def test_texts_keep_their_own_line_ends(pretrained: Path, tmp_path: Path) -> None:
    """A line separator inside a JSON text, a quoted line end in a CSV field."""
    odd = f"{TEXTS[0]}\u2028{TEXTS[1]}\u0085"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": odd}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(f'text,n\n"{TEXTS[0]},\n{TEXTS[1]}",1\n', encoding="utf-8")
    found = [next(predict(pretrained, "zh/sentiment", str(tmp_path / f)))["text"] for f in ("a.jsonl", "a.csv")]
    assert found == [odd, f"{TEXTS[0]},\n{TEXTS[1]}"]


def test_standard_input_is_jsonl_or_lines(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for given in (f'{{"text": "{TEXTS[0]}"}}\n', f"{TEXTS[0]}\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        found.append(list(predict(pretrained, "zh/sentiment", "-")))
    assert found[0] == found[1] and found[0][0]["text"] == TEXTS[0]


def test_scores_are_the_librarys(model: Any, tokenizer: Any) -> None:
    pairs = [(text + "\n情感：", word) for text in TEXTS for word in ("正面", "负面很多字的答案")]
    for (prompt, completion), score in zip(pairs, log_likelihoods(model, tokenizer, pairs), strict=True):
        whole, part = (tokenizer(t, return_tensors="pt")["input_ids"] for t in (prompt + completion, prompt))
        logits = model(whole).logits[0].log_softmax(-1)
        expected = sum(logits[i - 1, whole[0, i]] for i in range(part.shape[1], whole.shape[1]))
        assert score == pytest.approx(float(torch.as_tensor(expected).detach()), abs=1e-4)


def test_choices_of_one_token_are_read_from_one_input(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def count(model: Any, ids: torch.Tensor, starts: list[int]) -> torch.Tensor:
        read.append(starts[-1])
        return hidden_states(model, ids, starts)

    monkeypatch.setattr("zhiling.trainer.scoring.hidden_states", count)
    single = [tokenizer.decode([i]) for i in (300, 310, 320)]
    pairs = [(f"{TEXTS[0]}\n", word) for word in single]
    log_likelihoods(model, tokenizer, pairs)
    wholes = [tokenizer(p + c)["input_ids"] for p, c in pairs]
    assert sum(read) == sum(len(own) for own in {tuple(whole[:-1]) for whole in wholes}) < sum(map(len, wholes))


def test_a_prompt_longer_than_the_context_is_cut_from_the_left(model: Any, tokenizer: Any) -> None:
    long, short = log_likelihoods(model, tokenizer, [("无关" * 2000 + TEXTS[0] * 60, "正面"), (TEXTS[0] * 60, "正面")])
    assert long == pytest.approx(short, abs=1e-3)


def test_a_small_context_is_not_all_kept_for_the_answer(model: Any, tokenizer: Any) -> None:
    model.eval().config.max_position_embeddings = 64
    ids = tokenizer(TEXTS[0] * 20, add_special_tokens=False, return_tensors="pt")["input_ids"][:, -32:]
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False)[0, 32:]
    assert generate(model, tokenizer, [TEXTS[0] * 20]) == [tokenizer.decode(said, skip_special_tokens=True)]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", '{"txt": "好"}\n', r"row 1: no column 'text'; did you mean 'txt'\?"),
        ("a.jsonl", "{\n", r"a\.jsonl:1: not a JSON object; write one object a line"),
        ("a.json", '[{"text": "好"}]', r"a\.json:1: not a JSON object; write one object a line"),
        ("a.jsonl", '{"text": 5}\n', r"a\.jsonl: row 1: 'text' is no text but 5; write it as a text"),
        ("a.csv", "text,n\n好,1,2\n", r"a\.csv:2: its fields are not as many as the header's; quote fields that hold"),
        ("a.csv", "text,n\n好\n", r"a\.csv:2: its fields are not as many as the header's"),
        ("a.txt", "好".encode("gbk"), r"a\.txt: not UTF-8 \(byte 0\); save it as UTF-8"),
        ("a.parquet", b"PAR1", r"a\.parquet: cannot be read \(.*\); give a whole Parquet file"),
        ("b.jsonl", None, r"b\.jsonl: no such file; give a file, or - for standard input"),
    ],
)
def test_rows_that_cannot_be_read_are_named(
    pretrained: Path, tmp_path: Path, name: str, content: Any, error: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=error):
        list(predict(pretrained, "zh/sentiment", str(tmp_path / name)))


def test_rows_to_be_answered_lack_the_answer(pretrained: Path, tmp_path: Path) -> None:
    """A pack's answer may be a text or spans: neither is asked of rows, and lines fill the one text that is."""
    (tmp_path / "a.txt").write_text(TEXTS[0] + "\n", encoding="utf-8")
    (row,) = predict(pretrained, "zh/summarization", str(tmp_path / "a.txt"))
    assert row.keys() == {"text", "answer"}
    asked = {"text": "李明去了北京", "types": ["人名", "地名"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(asked) + "\n", encoding="utf-8")
    (row,) = predict(pretrained, "zh/entities", str(tmp_path / "a.jsonl"))
    assert row.keys() == {"text", "types", "answer"}
    with pytest.raises(UserError, match=r"a\.txt: row 1: no column 'types'; known: text"):
        list(predict(pretrained, "zh/entities", str(tmp_path / "a.txt")))


@pytest.mark.parametrize("name", ["zh/entities", "zh/reading_choice", "en/maths"])
def test_a_question_is_the_same_without_its_answer(name: str) -> None:
    """Whatever its answer is: a text, spans, one of its own choices or of the row's, with reasons before it."""
    pack = load_pack(name)
    ids = [str(i) for i in range(len(pack.examples))]
    for template in pack.settings.templates:
        whole, bare = compile_template(pack, template.name), compile_question(pack, template.name)
        full = {column: [row[column] for row in pack.examples] for column in pack.settings.columns}
        asked = {column: values if column in bare.columns else [EMPTY[pack.settings.columns[column]]] * len(ids)
                 for column, values in full.items()}
        expected, found = render_batch(whole, full, ids, 0), render_batch(bare, asked, ids, 0)
        said = [pair for pair in zip(found.prompts, expected.prompts, strict=True) if pair[1]]
        assert said and all(ours == theirs for ours, theirs in said)


def test_a_template_that_tells_the_label_is_refused(pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXTS[0], encoding="utf-8")
    with pytest.raises(UserError, match="write_review: its prompt tells the label; use another template"):
        list(predict(pretrained, "zh/sentiment", str(tmp_path / "a.txt"), ["write_review"]))
