"""Prompts beyond the context: the person chooses what becomes of them."""

from pathlib import Path

import pytest

from tests.eval_tasks.conftest import make_model
from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.results import Run, read_run
from zhiling.eval_tasks.run import evaluate


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """A model whose context holds one review, seldom three."""
    folder = tmp_path_factory.mktemp("short") / "short"
    return make_model(folder, [r["text"] for r in reviews], max_position_embeddings=320)


def scored(model: Path, release: Path, out: Path, too_long: str) -> Run:
    settings = EvalSettings(templates=["cloze"], shots=[2], limit=12, too_long=too_long)
    return read_run(evaluate(str(model), release, settings, out))


def test_fewer_shots_are_said_in_the_result(short: Path, release: Path, tmp_path: Path) -> None:
    run = scored(short, release, tmp_path, "fewer_shots")
    assert {s.shots for s in run.samples} == {2}
    shots = [s.shown for s in run.samples]
    assert 0 < shots.count(0) < 12
    assert run.results["results"]["zh_sentiment_cloze_2shot"]["too_long"] == shots.count(0)


def test_cut_prompts_are_counted(short: Path, release: Path, tmp_path: Path) -> None:
    run = scored(short, release, tmp_path, "truncate")
    assert {s.shots for s in run.samples} == {2}
    assert run.results["results"]["zh_sentiment_cloze_2shot"]["too_long"] > 0


def test_an_error_names_the_task_and_the_ways_out(short: Path, release: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"zh_sentiment_cloze_2shot: \d+ of 12 prompts are longer than the model's 320"):
        scored(short, release, tmp_path, "error")
