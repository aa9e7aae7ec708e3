"""Results folders become tallies; what does not fit together is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.eval_tasks.board_read import TaskKey, read_field, runs_below
from zhiling.eval_tasks.results import read_run


@pytest.fixture
def made(tmp_path: Path, reviews: Rows) -> Made:
    return Made(tmp_path / "results", reviews[:20] + reviews[-20:])


def test_a_tally_holds_who_was_right_on_which_text(made: Made) -> None:
    folder = made.run("model", 0.7)
    field = read_field([folder])
    task = TaskKey("zh/sentiment", "reviews")
    tally = field.tallies["model", task, 3]
    assert tally.templates == ("cloze", "either_or", "question") and len(tally.items) == 40
    run = read_run(folder)
    for i, template in enumerate(tally.templates):
        for j, item in enumerate(tally.items):
            (sample,) = run.of(template=template, source_id=item, shots=3)
            assert tally.scores[i, j] == sample.score
            assert tally.classes[i][tally.answers[i, j]] == sample.prediction
    assert tally.chance == 0.5 and len(set(tally.groups)) == 20
    assert field.held_out == {(task, "cloze")}


def test_scores_are_means_over_templates_then_texts(made: Made) -> None:
    tally = next(iter(read_field([made.run("model", 0.7)]).tallies.values()))
    assert tally.by_item == pytest.approx(tally.scores.mean(axis=0))
    assert np.mean(list(tally.by_template.values())) == pytest.approx(tally.by_item.mean())


def test_every_model_shows_the_same_samples(made: Made) -> None:
    field = read_field([made.run("a", 0.5), made.run("b", 0.9)])
    kept = [[(s.source_id, s.template) for s in t.kept] for (_, _, shots), t in field.tallies.items() if shots == 0]
    assert len(kept) == 2 and kept[0] == kept[1] and len(kept[0]) == 3


def test_folders_are_found_below_and_taken_once(made: Made) -> None:
    folder = made.run("a", 0.5)
    assert runs_below([made.root, folder]) == [folder]
    assert len(read_field([folder, folder]).tallies) == 2


def test_results_of_mixed_versions_are_refused(made: Made) -> None:
    first = made.run("a", 0.5)
    made.release = {**made.release, "version": "1.1.0"}
    second = made.run("b", 0.5)
    with pytest.raises(UserError) as error:
        read_field([first, second])
    said = f"results of mixed versions: its release of zh/sentiment · reviews is not that of {first}"
    assert error.value.saw == said
    assert error.value.do == "score both on one version, or make two boards"


def test_one_name_for_two_models_is_refused(made: Made, tmp_path: Path) -> None:
    first = made.run("a", 0.5, shots=(0,))
    made.digest = "e" * 64
    second = made.run("a", 0.5, shots=(3,), run="run2")
    with pytest.raises(UserError, match="another model is called 'a' too"):
        read_field([first, second])


def test_one_task_asked_twice_is_refused_and_both_places_named(made: Made) -> None:
    first, second = made.run("a", 0.5), made.run("a", 0.5, run="run2")
    with pytest.raises(UserError) as error:
        read_field([first, second])
    assert str(error.value) == (
        f"{second}: a was asked zh/sentiment · reviews at 0 shots in {first} too; give one of the two"
    )


def test_runs_of_one_model_at_other_shots_join(made: Made) -> None:
    field = read_field([made.run("a", 0.5, shots=(0,)), made.run("a", 0.5, shots=(3,), run="run2")])
    assert [shots for _, _, shots in field.tallies] == [0, 3] and len(field.models["a"].runs) == 2


def test_bad_folders_end_in_one_line_and_exit_code_2(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = str(tmp_path / "site")
    assert run_args(["leaderboard", str(tmp_path / "nowhere"), "-o", site]) == 2
    assert "no results in it or below it; give folders that `zhiling eval` wrote" in capsys.readouterr().err
    folder = made.run("a", 0.5)
    path = sorted(folder.glob("samples_*.jsonl"))[0]
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-30], encoding="utf-8")
    assert run_args(["leaderboard", str(folder), "-o", site]) == 2
    said = capsys.readouterr().err
    assert f"{path}:40: not a sample" in said and said.count("\n") == 1
    path.write_text(whole[: whole.rstrip().rindex("\n") + 1], encoding="utf-8")
    assert run_args(["leaderboard", str(folder), "-o", site]) == 2
    assert "samples are missing or cut short" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_rows_with_choices_of_their_own_have_no_classes(made: Made) -> None:
    folder = made.run("a", 0.5, shots=(0,))
    path = sorted(folder.glob("samples_*.jsonl"))[0]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for i, row in enumerate(rows):
        row["doc"]["choices"] = [f"甲{i}", f"乙{i}"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tally = next(iter(read_field([folder]).tallies.values()))
    assert tally.classes[0] == () and (tally.targets[0] == -1).all()
    assert tally.scores[0].mean() == pytest.approx(np.mean([row["acc"] for row in rows]))
