"""The board from results folders to files and a table, by function and by command."""

import json
from pathlib import Path

import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.board_verify import Known, has_prompts, verify
from zhiling.eval_tasks.leaderboard import build, show
from zhiling.eval_tasks.results import find_runs

RESULTS = Path(__file__).parents[2] / "results"


def test_the_committed_results_are_a_board_without_anybodys_texts(tmp_path: Path) -> None:
    rows = build(find_runs(RESULTS), tmp_path / "site")
    assert {r.shots for r in rows} == {0, 1, 4}
    asked = [r for r in rows if r.shots == 0 and r.mean and r.tier]
    assert len(asked) >= 9 and {r.model.kind for r in asked} == {"causal", "masked", "baseline"}
    assert len({task for r in rows for task in r.cells}) == 6
    assert not any(has_prompts(folder) for folder in find_runs(RESULTS))
    assert sum(p.stat().st_size for p in RESULTS.rglob("*") if p.is_file()) < 5_500_000


def test_a_committed_run_is_believed() -> None:
    assert verify(next(p for p in find_runs(RESULTS) if p.parent.name == "baseline_linear")) == []  # `make lint`: all


@pytest.fixture
def made(tmp_path: Path, reviews: Rows) -> Made:
    return Made(tmp_path / "results", reviews[:40] + reviews[-40:])


def test_build_writes_the_site_and_returns_its_rows(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = build([made.run("m", 0.9), made.baseline("linear", 0.8), made.baseline("majority", 0.5)], tmp_path / "site")
    assert {p.name for p in (tmp_path / "site").iterdir()} == {"index.html", "leaderboard.md", "leaderboard.csv"}
    assert [r.model.name for r in rows if r.shots == 0][:2] == ["m", "baseline:linear"]
    show(rows)
    out = capsys.readouterr().out
    assert "zh/sentiment · reviews, 0-shot: chance is 0, all right is 100" in out and "worst template" in out


def test_several_tasks_are_shown_side_by_side(
    made: Made, tmp_path: Path, reviews: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Made(made.root, reviews[:10], pack="en/sentiment", release={"name": "films", "version": "1"})
    show(build([made.run("m", 0.9), other.run("m", 0.8), made.run("part", 0.7)], tmp_path / "site"))
    out = capsys.readouterr().out
    assert "en/sentiment · films" in out and "(1 tasks)" in out


def test_the_command_finds_results_below_and_prints_the_page(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.run("m", 0.9)
    made.baseline()
    for arguments in ([str(made.root), "-o", str(tmp_path / "one")], ["-o", str(tmp_path / "two"), str(made.root)]):
        assert run_args(["leaderboard", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "two" / "index.html")
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, release: Path, model: Path) -> Path:
    """Results of a real small model, free-text answers too, and of a baseline, as `zhiling eval` writes them."""
    from zhiling.eval_tasks.config import EvalSettings
    from zhiling.eval_tasks.run import evaluate

    out = tmp_path_factory.mktemp("real") / "results"
    settings = EvalSettings(limit=6, templates=["question", "cloze", "letters", "write_review"], generation=True)
    for name in (str(model), "baseline:linear"):
        evaluate(name, release, settings, out)
    return out


def test_what_eval_writes_is_believed(real: Path, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["leaderboard", "verify", str(real), "--release", str(release)]) == 0
    assert capsys.readouterr().out.count("every score agrees with its samples") == 2


def test_another_releases_prompts_are_not(real: Path, release: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "release"
    shutil.copytree(release, other)
    (other / "manifest.json").write_text(
        (release / "manifest.json").read_text(encoding="utf-8").replace('"version": "1.0.0"', '"version": "1.0.1"'),
        encoding="utf-8",
    )
    (tiny,) = {p.parent for p in real.rglob("results_*.json") if "baseline" not in str(p)}
    assert any("(its task digest)" in line for line in verify(tiny, Known(other)))


def test_what_eval_writes_becomes_a_board_and_a_report(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["leaderboard", str(real), "-o", str(tmp_path / "site")]) == 0
    out = capsys.readouterr().out
    assert "baseline:linear" in out and "tiny" in out and "zh/sentiment · tiny, 0-shot" in out
    assert run_args(["leaderboard", "report", str(real), "-o", str(tmp_path / "report")]) == 0
    assert "write_review" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run_args(["leaderboard", str(real), "-o", str(tmp_path / "site"), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert run_args(["leaderboard", "report", str(real), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    score = {row["shots"]: row["tasks"]["zh/sentiment · tiny"] for row in board if row["model"] == told["model"]}
    assert [t["accuracy"] for t in told["tasks"]] == [score[t["shots"]]["accuracy"] for t in told["tasks"]]
    assert told["tasks"][0]["classes"][0]["label"] == "negative" and told["variance"]
    tiny = str(next(p for p in real.iterdir() if "baseline" not in p.name))
    assert run_args(["compare", str(real / "baseline_linear"), tiny]) == 0
