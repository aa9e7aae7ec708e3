"""Scoring a model: what is sent, what is written, what is kept, what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.export import export
from zhiling.eval_tasks.release_tasks import release_tasks
from zhiling.eval_tasks.results import Sample, prompt_digest, read_run
from zhiling.eval_tasks.run import evaluate
from zhiling.eval_tasks.task import choose
from zhiling.store import MANIFEST

SETTINGS = EvalSettings(templates=["cloze", "either_or"], limit=12)


@pytest.fixture(scope="module")
def scored(model: Path, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(str(model), release, SETTINGS, tmp_path_factory.mktemp("results"))


def by_document(samples: tuple[Sample, ...]) -> dict[tuple[str, str], Sample]:
    return {(s.task, s.source_id): s for s in samples}


def test_the_prompts_that_lm_eval_sends_are_those_of_the_release(scored: Path, release: Path) -> None:
    rows = [r for p in sorted((release / "data").glob("test-*.parquet")) for r in pq.read_table(p).to_pylist()]
    released = {(r["template"], r["shots"], r["source_id"]): r for r in rows}
    run = read_run(scored)
    assert len(run.samples) == 2 * 2 * 12
    for sample in run.samples:
        row = released[sample.template, sample.shots, sample.source_id]
        # the hash is lm-eval's own, of the context that the model was given
        assert sample.prompt_sha256 == prompt_digest(row["prompt"])
        assert sample.choices == tuple(row["choices"])
        assert sample.target == row["completion"]


def test_every_template_is_asked_about_the_same_texts(scored: Path) -> None:
    run = read_run(scored)
    asked = {task: [s.source_id for s in run.of(task=task)] for task in {s.task for s in run.samples}}
    assert len(asked) == 4
    assert len({tuple(ids) for ids in asked.values()}) == 1


def test_stock_lm_eval_gives_the_same_scores(scored: Path, model: Path, release: Path, tmp_path: Path) -> None:
    tasks = choose(release_tasks(release), "release", templates=SETTINGS.templates)
    export(tasks, tmp_path / "tasks")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
        "--include_path", str(tmp_path / "tasks"), "--tasks", ",".join(t.name for t in tasks), "--limit", "12",
        "--device", "cpu", "--batch_size", "4", "--output_path", str(tmp_path / "stock"), "--log_samples",
    ]
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, (folder,) = read_run(scored), {p.parent for p in (tmp_path / "stock").rglob("results_*.json")}
    stock = read_run(folder)
    for name, found in stock.results["results"].items():
        assert found["acc,none"] == ours.results["results"][name]["acc,none"]
        assert found["acc_stderr,none"] == pytest.approx(ours.results["results"][name]["acc_stderr,none"])
    mine = by_document(ours.samples)
    assert by_document(stock.samples).keys() == mine.keys()
    for key, sample in by_document(stock.samples).items():
        assert sample.prompt == mine[key].prompt
        assert sample.prediction == mine[key].prediction
        assert sample.logprobs == pytest.approx(mine[key].logprobs, abs=1e-4)


def test_the_manifest_says_what_the_scores_hang_on(scored: Path, model: Path) -> None:
    about = json.loads((scored / MANIFEST).read_text(encoding="utf-8"))
    assert about["kind"] == "results"
    assert about["model"]["name"] == model.name
    assert len(about["model"]["digest"]) == 64
    task = about["tasks"]["zh_sentiment_cloze_2shot"]
    assert (task["pack"], task["template"], task["shots"], task["documents"]) == ("zh/sentiment", "cloze", 2, 12)
    assert task["release"]["name"] == "tiny"
    assert {"task_digest", "documents_digest", "pack_digest"} <= task.keys()
    assert {"lm_eval", "transformers", "torch", "zhiling"} <= about["versions"].keys()
    assert str(scored.parent) not in json.dumps(about)


def test_a_second_run_keeps_what_is_there(
    scored: Path, model: Path, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in scored.iterdir()}
    assert evaluate(str(model), release, SETTINGS, scored.parent.parent) == scored
    assert {p: p.stat().st_mtime_ns for p in scored.iterdir()} == before
    assert "is kept" in capsys.readouterr().err


def test_a_killed_run_asks_only_what_is_missing(
    scored: Path, model: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zhiling.eval_tasks import engine

    asked: list[str] = []
    real = engine.ask

    def dies_at_the_third(lm, task, documents, bootstrap=1000):  # type: ignore[no-untyped-def]
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(task.name)
        return real(lm, task, documents, bootstrap)

    monkeypatch.setattr(engine, "ask", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(str(model), release, SETTINGS, tmp_path)
    assert list(tmp_path.rglob("results_*")) == []
    first, asked = asked, []

    def notes(lm, task, documents, bootstrap=1000):  # type: ignore[no-untyped-def]
        asked.append(task.name)
        return real(lm, task, documents, bootstrap)

    monkeypatch.setattr(engine, "ask", notes)
    folder = evaluate(str(model), release, SETTINGS, tmp_path)
    assert len(asked) == 2 and set(asked).isdisjoint(first)
    for name in ("results", "samples"):
        mine = {p.name: p.read_bytes() for p in folder.glob(f"{name}_*")}
        assert mine == {p.name: p.read_bytes() for p in scored.glob(f"{name}_*")}


@pytest.mark.parametrize("baseline", ["majority", "linear"])
def test_baselines_are_asked_about_the_same_rows(baseline: str, scored: Path, release: Path, tmp_path: Path) -> None:
    run = read_run(evaluate(f"baseline:{baseline}", release, SETTINGS, tmp_path))
    asked = read_run(scored).of(template="cloze", shots=0)
    assert run.baseline
    assert [s.source_id for s in run.samples] == [s.source_id for s in asked]
    assert {s.choices for s in run.samples} == {("negative", "positive")}
    assert {s.template for s in run.samples} == {"row"}
    report = run.results["results"]["zh_sentiment_row"]
    assert report["acc,none"] == sum(s.correct for s in run.samples) / len(run.samples)


def test_the_linear_baseline_learns(release: Path, tmp_path: Path) -> None:
    everything = EvalSettings(templates=["cloze"])
    scores = {
        name: read_run(evaluate(f"baseline:{name}", release, everything, tmp_path)).results["results"]
        for name in ("majority", "linear")
    }
    linear, majority = (scores[name]["zh_sentiment_row"] for name in ("linear", "majority"))
    assert linear["f1_macro,none"] > majority["f1_macro,none"] + 0.1


def test_what_cannot_be_scored_is_said_in_one_line(model: Path, release: Path, tmp_path: Path) -> None:
    for change, message in (
        ({"templates": ["close"]}, "no template 'close' there; did you mean 'cloze'?"),
        ({"packs": ["zh/sentimant"]}, "no task 'zh/sentimant' there; did you mean 'zh/sentiment'?"),
        ({"shots": [5]}, "no shots '5' there; known: 0, 2"),
        ({"templates": ["write_review"]}, "no task is left (free-text templates are passed over)"),
    ):
        with pytest.raises(UserError) as error:
            evaluate(str(model), release, EvalSettings(**change), tmp_path)
        assert message in str(error.value)


def test_a_model_whose_weights_are_broken_is_refused_and_nothing_written(
    model: Path, release: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    weights = {name: tensor.fill_(float("nan")) for name, tensor in load_file(broken / "model.safetensors").items()}
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    settings = EvalSettings(templates=["cloze"], shots=[0], limit=2)
    with pytest.raises(UserError, match="cloze_0shot: the model gives a choice the log-probability nan; its weights"):
        evaluate(str(broken), release, settings, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.json"))
