"""The board from results folders to files and a table, by function and by command."""

from pathlib import Path

import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.leaderboard import build, show


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
