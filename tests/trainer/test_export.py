"""A model folder elsewhere: transformers' pipelines, stock lm-eval, `transformers serve`."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from zhiling.store import differences, read_manifest
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.model import load_pair
from zhiling.trainer.scoring import log_likelihoods
from zhiling.trainer.stages import instruct

from .conftest import TINY

ASKED = [{"role": "user", "content": "这家酒店怎么样？"}]


@pytest.fixture(scope="module")
def chat(release: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of chat rows."""
    own = {**TINY["instruct"], "max_steps": 2, "chat": True}
    settings = TrainSettings.model_validate({**TINY, "instruct": own})
    return instruct(release, pretrained, settings, tmp_path_factory.mktemp("models") / "chat")


def test_a_chat_model_talks_in_a_pipeline(chat: Path) -> None:
    said = pipeline("text-generation", model=str(chat))(ASKED, max_new_tokens=4)[0]["generated_text"]
    assert said[0] == ASKED[0] and said[1]["role"] == "assistant" and "<|im_" not in said[1]["content"]


def test_an_encoder_fills_masks_in_a_pipeline(encoder: Path) -> None:
    found = pipeline("fill-mask", model=str(encoder), top_k=2)("这家酒店很<|mask|>")
    assert len(found) == 2 and all(0 <= row["score"] <= 1 for row in found)


def test_stock_lm_eval_scores_what_we_score(chat: Path) -> None:
    """Its `hf` model on our folder, through its own entry, on a task of its own kind."""
    from datasets import Dataset
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows = [{"text": "房间很干净", "label": 0}, {"text": "屏幕坏了", "label": 1}]
    task = {
        "task": "sentiment", "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{text}}\n情感：", "doc_to_target": "label",
        "doc_to_choice": ["正面", "负面"], "target_delimiter": "",
    }
    found: Any = simple_evaluate(
        HFLM(str(chat), device="cpu"), tasks=[task], log_samples=True, bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    theirs = [float(r[0]) for s in found["samples"]["sentiment"] for r in s["filtered_resps"]]
    model, tokenizer = load_pair(chat)
    pairs = [(f"{row['text']}\n情感：", choice) for row in rows for choice in task["doc_to_choice"]]  # type: ignore[attr-defined]
    assert theirs == pytest.approx(log_likelihoods(model.eval(), tokenizer, pairs), abs=1e-3)


def test_the_folder_is_whole_and_says_what_it_is(chat: Path) -> None:
    about = read_manifest(chat, "model")
    assert differences(chat, "model") == [] and {"chat_template.jinja", "generation_config.json"} <= set(about["files"])


@pytest.mark.long
def test_transformers_serve_answers_a_chat_request(chat: Path, tmp_path: Path) -> None:
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip("needs fastapi, uvicorn and openai: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(chat)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            body = {"model": str(chat), "messages": ASKED, "max_tokens": 4, "stream": False}
            said = post(server, f"http://127.0.0.1:{port}/v1/chat/completions", body)
        finally:
            server.kill()
            server.wait()
    assert said["choices"][0]["message"]["role"] == "assistant", (tmp_path / "log").read_text(encoding="utf-8")


def post(server: "subprocess.Popen[bytes]", url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, as soon as the server is there."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(240):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        except urllib.error.URLError:
            time.sleep(0.5)
    raise AssertionError("the server did not answer")
