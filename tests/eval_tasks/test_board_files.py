"""Markdown, CSV and model-index of a board: the same figures, safe to paste."""

import csv
import io
from pathlib import Path

import pytest
import yaml

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.board_files import as_csv, markdown
from zhiling.eval_tasks.board_read import read_field
from zhiling.eval_tasks.board_scores import Row, standings

HOSTILE = '=HYPERLINK("http://evil")|<b>x</b>\n| 1 | fake |'


@pytest.fixture
def rows(tmp_path: Path, reviews: Rows) -> list[Row]:
    made = Made(tmp_path / "results", reviews[:20] + reviews[-20:])
    folders = [made.run("m", 0.8, parameters=5), made.run(HOSTILE, 0.3), made.baseline("linear", 0.9)]
    return standings(read_field(folders))


def test_markdown_has_a_line_for_each_row_whatever_a_model_is_called(rows: list[Row]) -> None:
    text = markdown(rows)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * (2 + 4)
    assert {line.replace("\\|", "").count("|") for line in tables} == {5}
    assert "<b>" not in text


def test_contaminated_models_are_marked_by_name(tmp_path: Path, reviews: Rows) -> None:
    made = Made(tmp_path / "results", reviews[:20])
    clean = made.run("clean", 0.6)
    made.contamination = {"contaminated": 3, "documents": 20}
    text = markdown(standings(read_field([clean, made.run("seen", 0.9)])))
    assert "| seen (contaminated 3/20) |" in text and "| clean |" in text


def test_csv_has_the_boards_numbers_and_no_formula(rows: list[Row]) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert row.mean is not None and line["score"] == f"{100 * row.mean.value:.1f}"
        assert not line["model"].startswith(("=", "+", "-", "@"))
    assert any(line["model"] == "'" + HOSTILE for line in lines)
    assert next(line for line in lines if line["model"] == "m")["parameters"] == "5"
    assert any(line["score"].startswith("-") for line in lines)


def test_model_index_is_what_the_hub_reads(
    tmp_path: Path, reviews: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    made = Made(tmp_path / "results", reviews[:20] + reviews[-20:])
    made.run("m", 0.8)
    made.baseline()
    arguments = ["leaderboard", str(made.root), "-o", str(tmp_path / "site"), "--model-index"]
    assert run_args([*arguments, "m"]) == 0
    name, results = model_index_to_eval_results(yaml.safe_load(capsys.readouterr().out)["model-index"])
    assert name == "m" and {r.metric_type for r in results} == {"accuracy", "f1"}
    assert any(r.metric_name == "accuracy, 0-shot, mean over 3 templates" for r in results)
    assert all(0 <= r.metric_value <= 100 for r in results)
    assert run_args([*arguments, "n"]) == 2
    assert "no model 'n' on this board" in capsys.readouterr().err
