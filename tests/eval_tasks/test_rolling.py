"""Bits per byte of a release's texts: what lm-eval makes of the exported YAML is what the model's own logits say."""

import json
from math import exp, log
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from lm_eval.api.instance import Instance

from tests.conftest import RecipeMaker
from zhiling.eval_tasks.board_verify import verify
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.prefix_lm import PrefixLM
from zhiling.eval_tasks.results import read_run
from zhiling.eval_tasks.rolling import rolling_texts, texts_of
from zhiling.eval_tasks.run import evaluate, quiet_libraries
from zhiling.store import read_json, write_json, write_text


def test_lm_eval_counts_the_bits_of_the_models_own_logits(model: Path, release: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    quiet_libraries()
    ((name, text),) = rolling_texts(release, {"zh/sentiment"}).items()
    assert name == "zh/sentiment/reviews_bits_per_byte.yaml"
    write_text(tmp_path / name, text)
    lm = PrefixLM(str(model), device="cpu")
    known = TaskManager(include_path=str(tmp_path), include_defaults=False)
    task = "reviews_bits_per_byte"
    scored = simple_evaluate(model=lm, tasks=[task], task_manager=known, limit=5, bootstrap_iters=0)["results"][task]
    rows = pq.read_table(next((release / "corpus").rglob("test-*.parquet"))).slice(0, 5).to_pylist()
    nats = size = 0.0
    for row in rows:
        ids = torch.tensor([[lm.prefix_token_id, *lm.tok_encode(row["text"])]])
        with torch.inference_mode():
            likely = lm.model(ids).logits[0, :-1].log_softmax(-1)
        nats -= likely.gather(1, ids[0, 1:, None]).sum().item()
        size += len(row["text"].encode())
    assert scored["bits_per_byte,none"] == pytest.approx(nats / size / log(2), rel=1e-5)
    assert scored["byte_perplexity,none"] == pytest.approx(exp(nats / size), rel=1e-5)


def test_text_columns_stand_one_a_line_and_only_packs_asked_for(
    make: RecipeMaker, reviews: list[dict[str, str]]
) -> None:
    from zhiling.builders.pipeline import build

    make.corpus([{"zh": r["text"], "en": f"Review {n}"} for n, r in enumerate(reviews[:60])], "pairs.jsonl")
    corpora = [{"name": "pairs", "pack": "zh/translation", "license": "MIT", "files": [{"path": "pairs.jsonl"}]}]
    release = build(make.recipe(corpora=corpora, render={}), make.folder / "out", 1)
    (asked,) = rolling_texts(release, {"zh/translation", "zh/nli"}).values()
    told = yaml.safe_load(asked)
    assert told["doc_to_target"] == "{{ zh }}\n{{ en }}"
    assert told["metadata"]["release"]["version"] == json.loads((release / "manifest.json").read_text())["version"]
    assert rolling_texts(release, {"zh/nli"}) == {}


def test_a_run_gives_the_same_figure_without_keeping_a_text(model: Path, release: Path, tmp_path: Path) -> None:
    settings = EvalSettings(templates=["cloze"], shots=[0], limit=5, bits_per_byte=True)
    folder = evaluate(str(model), release, settings, tmp_path)
    told = read_run(folder).results["texts"]["reviews_bits_per_byte"]
    (texts,) = texts_of(release)
    lm = PrefixLM(str(model), device="cpu")
    likely = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (t,), 0) for t in texts.read(5).values()])
    size = sum(len(t.encode()) for t in texts.read(5).values())
    assert told["bits_per_byte"] == pytest.approx(-sum(likely) / size / log(2), rel=1e-5)
    assert (told["texts"], told["bytes"]) == (5, size)
    (kept,) = folder.glob("texts_*")
    assert not any(text[:10] in kept.read_text("utf-8") for text in texts.read(5).values())
    assert verify(folder) == []
    (results,) = folder.glob("results_*.json")
    changed = read_json(results)
    changed["texts"]["reviews_bits_per_byte"]["bits_per_byte"] = 0.5
    write_json(results, changed)
    assert any("bits_per_byte is given as 0.5, from the samples it is" in line for line in verify(folder))
