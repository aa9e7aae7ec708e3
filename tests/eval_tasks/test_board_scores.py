"""Standings: chance at nought, baselines everywhere, tiers only where differences are real."""

from pathlib import Path

import numpy as np
import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.eval_tasks.board_read import read_field
from zhiling.eval_tasks.board_scores import CHANCE, HUMAN, Row, standings
from zhiling.store import read_json, write_json

THREE = {"q": ("甲", "乙", "丙"), "r": ("一", "二", "三")}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def board(rows: list[Row], shots: int = 0) -> dict[str, Row]:
    return {r.model.name: r for r in rows if r.shots == shots}


def test_chance_is_nought_and_all_right_is_one(results: Path, reviews: Rows) -> None:
    made = Made(results, reviews[:50] + reviews[-50:])
    rows = board(standings(read_field([made.run("perfect", 1.0), made.run("coin", 0.5)])))
    perfect, coin, chance = (rows[name] for name in ("perfect", "coin", CHANCE))
    assert perfect.mean is not None and coin.mean is not None and chance.mean is not None
    assert perfect.mean.value == 1.0 and perfect.mean.high == 1.0 and perfect.mean.low < 1.0
    assert coin.mean.low < 0 < coin.mean.high
    assert chance.mean.value == 0.0 and chance.tier is None
    cell = next(iter(coin.cells.values()))
    assert cell.centred.value == pytest.approx(2 * cell.score.value - 1)


def test_baselines_stand_on_every_board(results: Path, reviews: Rows) -> None:
    made = Made(results, reviews[:20] + reviews[-20:])
    rows = standings(read_field([made.run("a", 0.7), made.baseline("linear", 0.8), made.baseline("majority", 0.5)]))
    for shots in (0, 3):
        assert set(board(rows, shots)) == {"a", "baseline:linear", "baseline:majority", CHANCE}


def test_tiers_part_the_really_different_and_no_others(results: Path, reviews: Rows) -> None:
    made = Made(results, reviews[:100] + reviews[-100:])
    folders = [made.run(f"good{i}", 0.9) for i in range(3)] + [made.run(f"poor{i}", 0.6) for i in range(3)]
    rows = board(standings(read_field(folders)))
    assert {rows[f"good{i}"].tier for i in range(3)} == {1}
    assert {rows[f"poor{i}"].tier for i in range(3)} == {2}
    best = {name for name, row in rows.items() if all(c.best for c in row.cells.values())}
    assert best == {"good0", "good1", "good2"}


def test_the_mean_over_tasks_takes_each_with_its_own_chance(results: Path, reviews: Rows) -> None:
    two = Made(results, reviews[:30] + reviews[-30:])
    topics = [{"text": f"新闻{i}", "label": "abc"[i % 3]} for i in range(90)]
    three = Made(results, topics, pack="zh/topic", labels=("a", "b", "c"), words=THREE)
    rows = board(standings(read_field([two.run("m", 0.8), three.run("m", 0.8)])))
    cells = {task.pack: cell for task, cell in rows["m"].cells.items()}
    assert [cells[name].chance for name in ("zh/sentiment", "zh/topic")] == pytest.approx([1 / 2, 1 / 3])
    assert rows["m"].mean is not None
    assert rows["m"].mean.value == pytest.approx(np.mean([c.centred.value for c in cells.values()]))
    assert rows["m"].mean.n == 150


def test_a_model_without_all_tasks_has_no_mean_and_stands_last(results: Path, reviews: Rows) -> None:
    one = Made(results, reviews[:20] + reviews[-20:])
    other = Made(results, reviews[:20] + reviews[-20:], pack="zh/topic", release={"name": "x", "version": "1"})
    rows = standings(read_field([one.run("whole", 0.6), other.run("whole", 0.6), one.run("part", 0.9)]))
    last = [r for r in rows if r.shots == 0][-1]
    assert last.model.name == "part" and last.mean is None and last.tier is None and len(last.cells) == 1


def test_what_only_baselines_were_asked_is_no_task_of_the_board(results: Path, reviews: Rows) -> None:
    one = Made(results, reviews[:10] + reviews[-10:])
    other = Made(results, reviews[:10] + reviews[-10:], pack="zh/topic")
    rows = standings(read_field([one.run("m", 0.6), one.baseline(), other.baseline()]))
    assert {task.pack for r in rows for task in r.cells} == {"zh/sentiment"}
    alone = standings(read_field([one.baseline(), other.baseline()]))
    assert {task.pack for r in alone for task in r.cells} == {"zh/sentiment", "zh/topic"}


def test_published_human_figures_stand_beside_the_models(results: Path, reviews: Rows) -> None:
    folder = Made(results, reviews[:10] + reviews[-10:]).run("m", 0.6)
    path = next(folder.glob("results_*.json"))
    told = read_json(path)
    for config in told["configs"].values():
        config["metadata"]["human"] = 0.9
    write_json(path, told)
    human = board(standings(read_field([folder])))[HUMAN]
    assert human.tier is None and human.mean is not None and human.mean.value == pytest.approx(0.8)


def test_fewclues_own_human_figures_are_known(results: Path, reviews: Rows) -> None:
    made = Made(results, reviews[:10] + reviews[-10:], pack="fewclue/eprstmt")
    human = board(standings(read_field([made.run("m", 0.6)])))[HUMAN]
    assert next(iter(human.cells.values())).score.value == 0.9


def test_models_asked_fewer_texts_are_compared_on_those(results: Path, reviews: Rows) -> None:
    rows_few, rows_all = reviews[:40], reviews[:40] + reviews[-40:]
    few, whole = Made(results / "few", rows_few).run("few", 0.95), Made(results / "all", rows_all).run("all", 0.6)
    rows = board(standings(read_field([few, whole])))
    assert (rows["few"].tier, rows["all"].tier) == (1, 2)
    assert next(iter(rows["few"].cells.values())).score.n == 40


def test_worst_template_and_spread(results: Path, reviews: Rows) -> None:
    row = board(standings(read_field([Made(results, reviews[:30]).run("m", 0.6)])))["m"]
    cell = next(iter(row.cells.values()))
    assert cell.worst[1] == min(cell.templates.values())
    assert cell.spread == pytest.approx(max(cell.templates.values()) - cell.worst[1])
