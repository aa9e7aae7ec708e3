"""Masked models learn exactly what they are scored by: each token of the answer at the first of its masks."""

import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from lm_eval.api.instance import Instance

from zhiling.errors import UserError
from zhiling.store import read_json, write_json
from zhiling.trainer.batches import Average
from zhiling.trainer.cloze import Cloze, encode_cloze, scores_at_masks
from zhiling.trainer.config import InstructSettings, OptimizerSettings, TrainSettings
from zhiling.trainer.data import Rows, read_examples, write_rows
from zhiling.trainer.loop import Run, train
from zhiling.trainer.loss import on_device, token_loss
from zhiling.trainer.model import load_lm, load_pair
from zhiling.trainer.predict import predict
from zhiling.trainer.stages import instruct
from zhiling.trainer.tokenizer import load_tokenizer

from .conftest import TINY

LONG = {"prompt": "这家酒店怎么样？ ", "completion": "非常非常好，下次还来", "choices": ["非常非常好，下次还来", "差"]}


@pytest.fixture(params=["encoder", "bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def examples(release: Path) -> pa.Table:
    """Real rows with choices, and one whose answer has many tokens."""
    table = read_examples(release, "train")
    rows = [row for row in table.to_pylist() if row["choices"]][:10]
    return pa.Table.from_pylist([*rows, {**rows[0], "id": "long", **LONG}], table.schema)


def drawn(rows: Rows, tokenizer: Any, average: Average) -> Cloze:
    return Cloze(rows, 32, seed=1, pad=tokenizer.pad_token_id, average=average, hide=tokenizer.mask_token_id)


def test_the_loss_is_what_zhiling_eval_scores(release: Path, folder: Path, tmp_path: Path) -> None:
    from zhiling.eval_tasks.masked_lm import MaskedLM

    (model, tokenizer), table = load_pair(folder), examples(release)
    rows = write_rows(tmp_path / "rows", encode_cloze(table, tokenizer, 128), len(tokenizer))
    scorer = MaskedLM(str(folder))
    asked = {row["id"]: (row["prompt"], row["completion"]) for row in table.to_pylist()}
    for i, key in enumerate(rows.ids):
        (score, _), = scorer.loglikelihood([Instance("loglikelihood", {}, asked[key], 0)])
        micros = drawn(rows, tokenizer, "token").some([i], 256)
        loss = sum(float(token_loss(model.eval(), on_device(m, torch.device("cpu"))).detach()) for m in micros)
        assert loss * int(rows.row(i)[1].sum()) == pytest.approx(-score, rel=1e-4), key
        assert scores_at_masks(model, tokenizer, [asked[key]]) == [pytest.approx(score, rel=1e-4)]


def test_choices_and_long_prompts_are_scored_as_zhiling_eval_does(folder: Path) -> None:
    from zhiling.eval_tasks.masked_lm import MaskedLM

    model, tokenizer = load_pair(folder)
    pairs = [(prompt, choice) for prompt in ("很长的话" * 100 + "好吗？ ", "") for choice in ("好", "很好", "好得很")]
    found = MaskedLM(str(folder)).loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    assert scores_at_masks(model.eval(), tokenizer, pairs) == pytest.approx([score for score, _ in found], rel=1e-4)


def test_predict_asks_an_encoder_at_masks(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("房间很干净\n屏幕坏了\n", encoding="utf-8")
    for row in predict(encoder, "zh/sentiment", str(tmp_path / "a.txt")):
        assert row["label"] in {"positive", "negative"} and 0.5 <= row["probability"] <= 1
    (tmp_path / "b.jsonl").write_text('{"text": "李明在北京", "types": ["人名"], "entities": []}\n', encoding="utf-8")
    with pytest.raises(UserError, match="an encoder, which does not continue a text; give a decoder"):
        list(predict(encoder, "zh/entities", str(tmp_path / "b.jsonl"), ["in_sentences"]))


@pytest.mark.parametrize("average", ["token", "example"])
def test_the_steps_of_a_row_weigh_as_one(
    release: Path, tokenizer: Any, tmp_path: Path, average: Average
) -> None:
    rows = write_rows(tmp_path / "rows", encode_cloze(examples(release), tokenizer, 256), len(tokenizer))
    long = rows.ids.index("long")
    steps = int(rows.row(long)[1].sum())
    assert steps > 5
    micros = drawn(rows, tokenizer, average).some([0, long], 512)
    share = sum(float(m.weights.sum()) for m in drawn(rows, tokenizer, average).some([0, long], 512))
    assert share == pytest.approx(1, abs=1e-6) and sum(len(m.at) for m in micros) == steps + int(rows.row(0)[1].sum())
    smallest = min(float(m.weights.min()) for m in micros)
    assert smallest == pytest.approx(1 / (steps + int(rows.row(0)[1].sum())) if average == "token" else 0.5 / steps)


def test_shown_answer_tokens_are_shown_and_later_ones_hidden(release: Path, tokenizer: Any, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows", encode_cloze(examples(release), tokenizer, 256), len(tokenizer))
    long, hide = rows.ids.index("long"), tokenizer.mask_token_id
    tokens, learned = rows.row(long)
    answer = learned.nonzero()[0]
    for n, step in enumerate(drawn(rows, tokenizer, "token").parts(long)):
        assert step.inputs[answer[:n]].tolist() == tokens[answer[:n]].tolist()
        assert set(step.inputs[answer[n:]].tolist()) == {hide}
        assert step.places.tolist() == [answer[n]] and step.wanted(step.places).tolist() == [tokens[answer[n]]]


def test_a_long_prompt_loses_its_middle_and_the_answer_stays(release: Path, folder: Path) -> None:
    _, tokenizer = load_pair(folder)
    table = examples(release)
    row = {**table.to_pylist()[0], "prompt": "开头" + "很长的话" * 100 + "结尾：", "completion": "好"}
    (found,) = encode_cloze(pa.Table.from_pylist([row], table.schema), tokenizer, 64)
    assert not isinstance(found, dict) and len(found.tokens) == 64
    read = tokenizer.decode(list(found.tokens)).replace(" ", "")
    assert "开头" in read and "结尾：好" in read


def test_rows_without_choices_are_refused_and_counted(release: Path, tokenizer: Any) -> None:
    table = examples(release)
    row = {**table.to_pylist()[0], "choices": None}
    found = list(encode_cloze(pa.Table.from_pylist([row], table.schema), tokenizer, 64))
    assert found == [{"id": row["id"], "reason": "no choices, and a masked model writes no texts"}]


def test_an_encoder_learns_32_rows_to_100_percent(release: Path, bert: Path, tmp_path: Path) -> None:
    """Of texts that say nothing of it: at every mask the word of the row's own label is the likeliest."""
    (model, tokenizer), table = load_pair(bert), read_examples(release, "train")
    texts = sorted({row["prompt"][:16] for row in table.to_pylist()})[:32]
    rows = [{**table.to_pylist()[0], "id": text, "prompt": text, "choices": ["好", "差"], "completion": "好差"[i % 2]}
            for i, text in enumerate(texts)]
    encoded = encode_cloze(pa.Table.from_pylist(rows, table.schema), tokenizer, 64)
    batches = drawn(write_rows(tmp_path / "rows", encoded, len(tokenizer)), tokenizer, "token")
    settings = InstructSettings(epochs=100, validate_every=50, optimizer=OptimizerSettings(learning_rate=0.01))
    micros = batches.some(range(len(rows)), 8192)
    outcome = train(model, Run("instruct", batches, micros, token_loss, settings, tmp_path / "work"))
    assert len(rows) == 32 and outcome.best_loss < -math.log(0.5) / 32  # so that no row's word has less than a half


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_an_adapter_on_an_encoder_is_merged(release: Path, encoder: Path, tmp_path: Path, method: str) -> None:
    own = {**TINY["instruct"], "max_steps": 2, "batch_rows": 2, "validation_rows": 2, "adapter": {"method": method}}
    made = instruct(release, encoder, TrainSettings.model_validate({**TINY, "instruct": own}), tmp_path / "m")
    before, after = (dict(load_lm(folder).named_parameters()) for folder in (encoder, made))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"loss_on": "prompt_and_completion"}, "train: loss_on prompt_and_completion: the model is an encoder"),
        ({"chat": True}, "train: chat: the model is an encoder, which learns answers at masks only"),
        ({"adapter": {"method": "prompt"}}, "adapter: prompt: only a decoder that writes can be prompted; use lora"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused(
    release: Path, encoder: Path, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    settings = TrainSettings.model_validate({**TINY, "instruct": {**TINY["instruct"], **changes}})
    with pytest.raises(UserError, match=error):
        instruct(release, encoder, settings, tmp_path / "m")


def test_a_tokenizer_without_a_mask_is_one_line(release: Path, encoder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(encoder, tmp_path / "bare"))
    about = read_json(bare / "tokenizer_config.json")
    write_json(bare / "tokenizer_config.json", {k: v for k, v in about.items() if k != "mask_token"})
    with pytest.raises(UserError, match="bare: its tokenizer has no mask token; set mask_token in its tok"):
        instruct(release, bare, TrainSettings.model_validate(TINY), tmp_path / "m")
    with pytest.raises(UserError, match="its tokenizer has no mask token"):
        scores_at_masks(load_lm(bare), load_tokenizer(bare), [("好", "吗")])
