"""The committed tasks are what the packs make; what is exported runs nothing."""

from pathlib import Path

import pyarrow.parquet as pq
import yaml

from zhiling.eval_tasks.export import export_shipped, export_texts
from zhiling.eval_tasks.rendered_tasks import DOCUMENTS, shipped_tasks
from zhiling.templates.pack import pack_names

TASKS = Path(__file__).parents[2] / "eval_tasks" / "tasks"
MEND = "stale: run `zhiling tasks export --all -o eval_tasks/tasks` from the repository's root"


def test_the_committed_tasks_are_those_of_the_packs(tmp_path: Path) -> None:
    tasks = [task for name in pack_names() for task in shipped_tasks(name, tmp_path)]
    texts = {name: text.replace(tmp_path.as_posix(), "eval_tasks/tasks") for name, text in export_texts(tasks).items()}
    committed = {p.relative_to(TASKS).as_posix(): p for p in TASKS.rglob("*.yaml")}
    assert texts.keys() == committed.keys(), MEND
    for name, text in texts.items():
        # the place in a temporary folder is of another length, so lines may break elsewhere
        assert text.split() == committed[name].read_text(encoding="utf-8").split(), f"{name} is {MEND}"
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob(DOCUMENTS)}
    assert made == {p.relative_to(TASKS) for p in TASKS.rglob(DOCUMENTS)}, MEND
    for path in made:
        assert pq.read_table(tmp_path / path).equals(pq.read_table(TASKS / path)), f"{path} is {MEND}"


def test_a_task_says_what_it_was_made_from() -> None:
    task = yaml.safe_load((TASKS / "zh/sentiment/zh_sentiment_cloze_0shot.yaml").read_text(encoding="utf-8"))
    about = task["metadata"]
    assert (about["pack"], about["template"], about["shots"]) == ("zh/sentiment", "cloze", 0)
    assert len(about["pack_digest"]) == 64 and about["version"].count(".") == 2
    assert task["target_delimiter"] == ""


def test_groups_hold_packs_and_areas() -> None:
    area = yaml.safe_load((TASKS / "zh/_zh_classification.yaml").read_text(encoding="utf-8"))
    assert "zh_sentiment" in area["task"]
    pack = yaml.safe_load((TASKS / "zh/sentiment/_zh_sentiment_0shot.yaml").read_text(encoding="utf-8"))
    assert "zh_sentiment_cloze_0shot" in pack["task"]


def test_what_no_pack_makes_any_more_is_removed(tmp_path: Path) -> None:
    old = tmp_path / "zh" / "gone" / "zh_gone_old_0shot.yaml"
    old.parent.mkdir(parents=True)
    old.write_text("task: x\n")
    written = export_shipped(tmp_path, ["zh/sentiment"])
    assert not old.exists() and all(path.exists() for path in written)
