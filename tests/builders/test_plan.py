"""A broken source leaves its corpus out, with a line that says so; a strict recipe stops."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.rebuild import rebuild
from zhiling.errors import UserError
from zhiling.store import read_manifest


def two_corpora(make: RecipeMaker, reviews: list[dict[str, str]], **changes: bool) -> Path:
    """A recipe over reviews that are there and a damaged archive."""
    make.corpus(reviews[:30] + reviews[-30:])
    (make.folder / "news.jsonl.gz").write_bytes(b"no gzip at all")
    recipe = make.recipe(**changes)
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    data["corpora"].append({
        "name": "news", "pack": "zh/topic", "license": "MIT", "files": [{"path": "news.jsonl.gz"}],
    })
    recipe.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return recipe


def test_a_corpus_whose_source_is_broken_is_left_out_and_named(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = build(two_corpora(make, reviews), tmp_path / "out")
    assert "corpus 'news' is left out: news.jsonl.gz: damaged archive" in capsys.readouterr().err
    about = read_manifest(release, "release")
    assert list(about["corpora"]) == ["reviews"] and list(about["packs"]) == ["zh/sentiment"]
    assert about["left_out"]["news"].startswith("news.jsonl.gz: damaged archive")
    assert "Corpus news is left out: news.jsonl.gz" in (release / "README.md").read_text(encoding="utf-8")
    assert rebuild(release, make.folder) == []


def test_a_strict_recipe_stops_at_it(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^news.jsonl.gz: damaged archive"):
        build(two_corpora(make, reviews, strict=True), tmp_path / "out")


def test_a_recipe_with_nothing_left_stops_too(make: RecipeMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^reviews.jsonl: no such file"):
        build(make.recipe(), tmp_path / "out")
