"""What metrics must know of a row goes with its document: constraints, tests, further right answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.eval_tasks.board_verify import Known, verify
from zhiling.eval_tasks.code_runner import check_fence
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.fields import fields_of, needed, right_answers
from zhiling.eval_tasks.metrics import said_well
from zhiling.eval_tasks.release_tasks import release_tasks
from zhiling.eval_tasks.rendered_tasks import public_tasks, shipped_tasks
from zhiling.eval_tasks.results import read_run
from zhiling.eval_tasks.run import score
from zhiling.templates.pack import load_pack, pack_names


def gold(document: dict[str, Any], made_from: dict[str, Any], allow_code: bool = False) -> dict[str, float]:
    """How right the very completion is."""
    said = document["completion"].strip("\n")
    metrics, parser = made_from.get("metrics", []), made_from.get("parser")
    return said_well(said, document["completion"], metrics, parser, document.get("fields"), allow_code)


def test_every_pack_that_names_the_metric_states_constraints_that_its_own_examples_keep(tmp_path: Path) -> None:
    seen = 0
    for name in pack_names():
        pack = load_pack(name)
        asked = [t.name for t in pack.settings.templates if needed(pack, t.name)]
        if not any("constraint" in (t.metrics or pack.settings.metrics) for t in pack.settings.templates):
            continue
        for task in (t for t in shipped_tasks(name, tmp_path) if t.free and t.template in asked):
            for document in task.documents().to_pylist():
                if "constraints" in json.loads(document.get("fields") or "{}"):
                    assert gold(document, task.made_from)["constraint"] == 1.0, (task.name, document)
                    seen += 1
    assert seen > 80


def test_right_code_passes_its_tests_and_wrong_code_does_not(tmp_path: Path) -> None:
    try:
        check_fence()
    except UserError as error:
        pytest.skip(f"needs a machine that can fence code in: {error}")
    tasks = {t.template: t for t in shipped_tasks("zh/code", tmp_path)}
    for template in ("write_function", "json"):
        document = tasks[template].documents().to_pylist()[0]
        assert gold(document, tasks[template].made_from, allow_code=True)["pass_at_1"] == 1.0
        assert "pass_at_1" not in gold(document, tasks[template].made_from)
    document["completion"] = json.dumps({"code": "def second_largest(numbers):\n    return sorted(numbers)[-2]"})
    assert gold(document, tasks["json"].made_from, allow_code=True)["pass_at_1"] == 0.0


def test_the_best_of_all_right_answers_counts() -> None:
    fields = json.dumps({"answers": ["北京", "北京市", "首都北京"]}, ensure_ascii=False)
    said = said_well("首都北京", "北京", ["f1_span"], None, fields)
    assert (said["match"], said["f1_span"]) == (1.0, 1.0)
    assert said_well("首都北京", "北京", ["f1_span"], None)["match"] == 0.0
    parser = {"kind": "json_field", "field": "answer"}
    assert said_well('{"answer": "北京市"}', '{"answer": "北京"}', [], parser, fields)["match"] == 1.0
    assert right_answers("《北京》", ["北京", "南京"]) == ["《北京》", "《南京》"]
    assert right_answers("文中没有", []) == ["文中没有"]


def test_cmrc_2018_keeps_all_its_answers(tmp_path: Path) -> None:
    answers = [{"text": t, "answer_start": 0} for t in ("1957年", "1957年", "1957年5月")]
    qas = [{"question": "什么时候通车？", "id": "q1", "answers": answers}]
    paragraphs = [{"id": "p", "context": "大桥1957年5月通车。", "qas": qas}]
    (tmp_path / "cmrc2018").mkdir()
    written = json.dumps({"version": "v1.0", "data": [{"title": "桥", "paragraphs": paragraphs}]}, ensure_ascii=False)
    (tmp_path / "cmrc2018" / "cmrc2018_trial.json").write_text(written, encoding="utf-8")
    (task,) = public_tasks("cmrc2018", str(tmp_path), tmp_path / "out", templates=["copy_from_passage"])
    (row,) = task.documents().to_pylist()
    assert json.loads(row["fields"]) == {"answers": ["1957年", "1957年5月"]}
    said = said_well("1957年5月", row["completion"], ["f1_span"], None, row["fields"])
    assert (said["match"], said["f1_span"]) == (1.0, 1.0)


def test_a_run_scores_constraints_and_code_and_is_verified(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"packs": ["zh/controlled_writing", "zh/code"], "templates": ["json_spec", "write_function"]}
    settings = EvalSettings(**asked, generation=True, limit=2, allow_code=True)
    try:
        check_fence()
    except UserError:
        settings = settings.model_copy(update={"allow_code": False})
    folder = score(str(model), settings, tmp_path)
    found = read_run(folder).results["results"]
    assert 0 <= found["zh_controlled_writing_json_spec_0shot"]["constraint,none"] <= 1
    assert verify(folder, Known(allow_code=settings.allow_code)) == []
    if settings.allow_code:
        assert found["zh_code_write_function_0shot"]["pass_at_1,none"] == 0.0
        (line,) = verify(folder)
        assert line.endswith("pass_at_1 is not computed again unless code may run (--allow-code)")
    assert run_args(["eval", str(model), "--tasks", "zh/code", "--templates", "write_function", "--generation",
                     "--limit", "1", "-o", str(tmp_path / "plain")]) == 0
    assert "code that a model wrote runs only with --allow-code" in capsys.readouterr().err


def test_a_release_gives_its_documents_what_their_metrics_need(make: RecipeMaker, tmp_path: Path) -> None:
    shutil.copy(load_pack("zh/controlled_writing").folder / "examples.jsonl", make.folder / "reviews.jsonl")
    split = {"train": 0.1, "validation": 0.1, "test": 0.8}
    recipe = make.recipe(corpus={"pack": "zh/controlled_writing"}, split=split, render={})
    release = build(recipe, tmp_path / "out")
    task = next(t for t in release_tasks(release) if t.template == "all_demands")
    documents = task.documents().to_pylist()
    assert documents and all(gold(d, task.made_from)["constraint"] == 1.0 for d in documents)
    pack = load_pack("zh/sentiment")
    assert fields_of(pack, "cloze", [pack.examples[0]], ["a"], 0) == [None]
