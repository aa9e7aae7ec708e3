"""Two results side by side: real differences are called real, ties ties, and what changed is named."""

import json
from pathlib import Path

import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.compare import compare


@pytest.fixture
def made(tmp_path: Path, reviews: Rows) -> Made:
    return Made(tmp_path / "results", reviews[:60] + reviews[-60:])


def test_a_real_difference_is_called_real_and_a_small_one_a_tie(made: Made) -> None:
    weak, strong, like = made.run("weak", 0.55), made.run("strong", 0.9), made.run("like", 0.91)
    found = compare(weak, strong)
    assert [(t.shots, t.verdict) for t in found.tasks] == [("0", "B is better"), ("3", "B is better")]
    assert all(t.low < t.difference.value < t.high and t.p < 0.001 for t in found.tasks)
    assert [t.verdict for t in compare(strong, weak).tasks] == ["A is better", "A is better"]
    ties = compare(strong, like).tasks
    assert [t.verdict for t in ties] == ["tie", "tie"]
    assert all(t.separate is None or t.separate > 60 for t in ties)


def test_templates_are_compared_by_what_only_one_got_right(made: Made) -> None:
    found = compare(made.run("a", 0.6), made.run("b", 0.8))
    assert [(t.template, t.shots) for t in found.templates] == [
        (name, shots) for shots in "03" for name in ("cloze", "either_or", "question")
    ]
    for t in found.templates:
        assert t.only_b - t.only_a == pytest.approx((t.b - t.a) * 120)


def test_results_against_themselves_do_not_differ(made: Made) -> None:
    run = made.run("a", 0.6)
    found = compare(run, run)
    assert found.changes == () and found.flips == ()
    assert [t.p for t in found.tasks] == [1.0, 1.0]


def test_flips_are_the_answers_that_changed(made: Made) -> None:
    found = compare(made.run("a", 0.5), made.run("b", 0.7))
    expected = sum(t.only_a + t.only_b for t in found.templates)
    assert len(found.flips) == expected
    assert sum(f.better for f in found.flips) == sum(t.only_b for t in found.templates)
    assert all(f.target == (f.b if f.better else f.a) for f in found.flips)


def test_what_differs_is_named(made: Made) -> None:
    a = made.run("a", 0.5, parameters=5)
    made.release = {**made.release, "version": "1.1.0"}
    found = compare(a, made.run("b", 0.5, parameters=6))
    assert ("model parameters", "5", "6") in found.changes
    assert ("data of zh/sentiment", "reviews 1.0.0", "reviews 1.1.0") in found.changes


def test_a_baseline_is_compared_with_every_number_of_shots(made: Made) -> None:
    found = compare(made.baseline("linear", 0.9), made.run("a", 0.5))
    assert [t.shots for t in found.tasks] == ["0", "0 and 3"]
    assert found.templates == ()


def test_what_cannot_be_compared_is_refused_in_one_line(
    made: Made, reviews: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made.run("a", 0.5)
    made.run("b", 0.5)
    assert run_args(["compare", str(run), str(made.root)]) == 2
    assert "results of 2 models (a, b); give the folder of one" in capsys.readouterr().err
    other = Made(made.root.parent / "other", reviews[:10], pack="en/sentiment").run("c", 0.5)
    assert run_args(["compare", str(run), str(other)]) == 2
    assert "no task, number of shots and text in common" in capsys.readouterr().err
    assert run_args(["compare", str(run), str(made.root.parent / "nowhere")]) == 2
    assert "no results in it or below it" in capsys.readouterr().err


def test_the_command_prints_tables_or_json(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(made.run("weak", 0.5)), str(made.run("strong", 0.9))
    assert run_args(["compare", a, b]) == 0
    out = capsys.readouterr().out
    assert "B is better" in out and "answers that flipped" in out
    assert run_args(["compare", a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"][0]["verdict"] == "B is better" and found["tasks"][0]["difference"]["groups"] == 60


def test_one_text_has_no_error_and_json_says_so(
    tmp_path: Path, reviews: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made(tmp_path / "few", reviews[:1])
    assert run_args(["compare", str(made.run("a", 0.5)), str(made.run("b", 0.9)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["difference"]["error"] is None
