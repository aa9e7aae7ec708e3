"""`zhiling eval` and `zhiling tasks` as a person types them."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from zhiling.cli import run_args
from zhiling.cli.evaluate import _show
from zhiling.cli.run import _evaluate
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.rendered_tasks import named_tasks


def test_a_model_is_scored_and_its_folder_printed(
    model: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--templates", "cloze", "--shots", "0", "--limit", "5"]
    assert run_args(["-q", "eval", str(model), "-r", str(release), *asked, "-o", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["results"]["zh_sentiment_cloze_0shot"]["sample_len"] == 5
    assert (Path(said["folder"]) / "manifest.json").is_file()


def test_the_table_shows_the_score_that_the_board_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    doc = {"pack": "zh/maths", "template": "ask", "shots": 0, "group_id": "g", "prompt": "1+4=", "completion": "5"}
    rows = [
        {"doc": doc | {"source_id": f"s{i}"}, "doc_id": i, "target": "5", "filtered_resps": [said], "prompt_hash": "",
         "metrics": ["exact_match", "match"], "exact_match": 0.0, "match": float("5" in said)}
        for i, said in enumerate(["得 5。", "得 5 元", "5 吧", "不知道"])
    ]
    results = {"results": {"t": {"sample_len": 4, "exact_match,none": 0.0}}, "n-samples": {"t": {"effective": 4}}}
    (tmp_path / "results_1.json").write_text(json.dumps(results))
    (tmp_path / "samples_t_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _show(tmp_path, False)
    assert re.search(r"t +│ +4 │ +0\.750 │ +0\.250", capsys.readouterr().out)


def test_packs_are_scored_on_their_examples(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["-q", "eval", str(model), "--tasks", "zh/nli", "--limit", "2", "-o", str(tmp_path), "--json"]) == 0
    assert "zh_nli_question_0shot" in json.loads(capsys.readouterr().out)["results"]


def test_what_is_named_twice_is_asked_once(tmp_path: Path) -> None:
    once, twice = (named_tasks(EvalSettings(packs=["zh/nli"] * n), tmp_path) for n in (1, 2))
    assert [t.name for t in twice] == [t.name for t in once]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "fewclue/tnew", "--data", "."], "no task 'fewclue/tnew'; did you mean 'fewclue/tnews'?"),
        (["--tasks", "fewclue/tnews"], "no data for it; give the folder of your copies with --data FOLDER"),
        (["--tasks", "zh/nli", "--shots", "a"], "--shots: 'a' is no list of numbers; write it as 0,3"),
        (["--tasks", "zh/nli", "--too-long", "x"], "--too-long: found 'x'"),
        (["--tasks", "zh/nli", "--shots", "3"], "--shots: zh/nli has no train rows to show; ask it at 0 shots"),
        (["--data", "."], "--tasks: data, and no word of which sets to ask; name some, as fewclue,thucnews"),
        (["--data", ".", "--release", "."], "--data: given beside --release; give one"),
    ],
)
def test_what_is_mistyped_gets_one_line(
    arguments: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["eval", str(model), *arguments, "-o", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_what_is_not_installed_is_told_with_the_way_to_get_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "zhiling.eval_tasks.engine", raising=False)
    assert run_args(["eval", str(model), "--tasks", "zh/nli", "--limit", "1", "-o", str(tmp_path)]) == 2
    assert "error: torch is not installed; pip install 'zhiling[train]'" in capsys.readouterr().err


def test_a_command_by_its_name_alone_prints_its_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ([], ["leaderboard"], ["tasks"]):
        assert run_args(name) == 2
        assert capsys.readouterr().err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("task: x\nprocess_results: !function utils.score\n", "x.yaml:2: it names Python code (process_results"),
        ("task: x\n", "x.yaml: a task file of lm-eval's, which zhiling does not load"),
    ],
)
def test_a_strangers_task_file_is_refused(
    written: str, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(written, encoding="utf-8")
    assert run_args(["eval", str(model), "--tasks", str(tmp_path / "x.yaml"), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_tasks_are_listed_and_exported(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["tasks", "list", "-r", str(release), "--json"]) == 0
    listed = {t["task"] for t in json.loads(capsys.readouterr().out)}
    assert {"zh_sentiment_cloze_0shot", "zh_sentiment_cloze_2shot"} <= listed
    assert run_args(["tasks", "list", "--json"]) == 0
    named = {t["task"]: t for t in json.loads(capsys.readouterr().out)}
    assert named["cmrc2018"]["licence"] == "CC BY-SA 4.0"
    assert run_args(["tasks", "export", "-r", str(release), "-o", str(tmp_path), "--templates", "cloze"]) == 0
    assert (tmp_path / "zh/sentiment/zh_sentiment_cloze_2shot.yaml").is_file()
    assert (tmp_path / "zh/sentiment/reviews_bits_per_byte.yaml").is_file()


def test_a_recipe_runs_on_where_no_baseline_fits(
    model: Path, make: RecipeMaker, reviews: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus([{"zh": r["text"], "en": f"Review {n}"} for n, r in enumerate(reviews[:80])], "pairs.jsonl")
    corpora = [{"name": "pairs", "pack": "zh/translation", "license": "MIT", "files": [{"path": "pairs.jsonl"}]}]
    asked = {"templates": ["into_english"], "generation": True, "limit": 2}
    recipe = make.recipe(corpora=corpora, render={}, eval=asked)
    assert run_args(["run", str(recipe), "-o", str(make.folder / "out"), "-w", "1"]) == 0
    said = capsys.readouterr()
    assert "baseline:majority: no pack here has train rows and one label column" in said.err
    assert "there is no leaderboard" in said.err and "leaderboard" not in said.out
    release = make.folder / "out/tiny/1.0.0"
    page = _evaluate(release, EvalSettings(**asked), [str(model)], make.folder / "home")
    assert page == make.folder / "home/leaderboard/index.html" and page.is_file()
