"""What a leak is worth, measured: a naive split of repeated texts flatters a model, this split does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.store import read_json


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """600 reviews, each three times, two of them with their label turned round."""
    make = RecipeMaker(tmp_path_factory.mktemp("leak"))
    turned = [r | {"label": {"positive": "negative", "negative": "positive"}[r["label"]]} for r in reviews[:2]]
    make.corpus([*turned, *(reviews[2:] * 3)])
    return build(make.recipe(review={"leak_scores": True, "label_errors": 20, "rows": 5_000}), make.folder / "out")


def test_a_naive_split_leaks_and_flatters_this_one_does_neither(release: Path) -> None:
    leak = read_json(release / "manifest.json")["leak"]
    assert leak["naive_leaked_rows"] > 0.9 * leak["naive_test_rows"]
    assert leak["leaked_rows"] == 0 < leak["test_rows"]
    assert leak["scores"]["reviews"]["naive"] > leak["scores"]["reviews"]["split"] + 0.05


def test_the_card_shows_both_scores_with_a_plot(release: Path) -> None:
    card = (release / "README.md").read_text(encoding="utf-8")
    naive = read_json(release / "manifest.json")["leak"]["scores"]["reviews"]["naive"]
    assert f"| {100 * naive:.1f} % |" in card
    assert "plots/leak_scores.svg" in card and (release / "plots" / "leak_scores.svg").is_file()


def test_likely_label_errors_are_listed_and_stay_in_the_release(release: Path) -> None:
    text = (release / "review" / "label_errors.jsonl").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert 0 < len(found) <= 20
    assert [r["margin"] for r in found] == sorted((r["margin"] for r in found), reverse=True)
    assert all(r["label"] != r["suggested"] and r["source"] and r["text"] for r in found)
    assert "label error" not in (release / "rejects.jsonl").read_text(encoding="utf-8")
