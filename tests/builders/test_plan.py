"""A broken source leaves its corpus out, with a line that says so; a strict recipe stops."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.plan import make_plan
from zhiling.builders.rebuild import rebuild
from zhiling.errors import UserError
from zhiling.store import read_manifest

LINE = '{"text": "好", "label": "positive"}\n'


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
    text = "".join(json.dumps({"text": f"第{n}条新闻", "label": "sports"}) + "\n" for n in range(9))
    (make.folder / "news.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert rebuild(release, make.folder) == []  # what was left out then is again
    recipe = (release / "recipe.yaml").read_text("utf-8")
    (release / "recipe.yaml").write_text(recipe.replace("zh/topic", "./packs/zh/mine"), encoding="utf-8")
    assert rebuild(release, make.folder) == ["recipe.yaml: other bytes"]  # its pack stands in no release


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_half_an_archive_is_no_corpus(make: RecipeMaker, reviews: list[dict[str, str]], ending: str) -> None:
    """Of Zstandard the first half reads like a whole file; of gzip the build would find out when it is under way."""
    rows = ({**row, "n": n} for n, row in enumerate(reviews * 20))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    packed = gzip.compress(lines) if ending == "gz" else pa.compress(lines, "zstd", asbytes=True)
    (make.folder / f"half.jsonl.{ending}").write_bytes(packed[: len(packed) // 2])
    (make.folder / f"whole.jsonl.{ending}").write_bytes(packed)
    make.corpus(reviews[:30])
    for name, left_out in (("half", True), ("whole", False)):
        files = [{"path": f"{name}.jsonl.{ending}"}]
        other = {"name": "other", "pack": "zh/sentiment", "license": "MIT", "files": files}
        recipe = make.recipe()
        data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        recipe.write_text(yaml.safe_dump({**data, "corpora": [*data["corpora"], other]}), encoding="utf-8")
        found = make_plan(recipe).left_out
        assert found.get("other", "").startswith(f"half.jsonl.{ending}: damaged archive (") == left_out


def test_a_strict_recipe_stops_at_it(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^news.jsonl.gz: damaged archive"):
        build(two_corpora(make, reviews, strict=True), tmp_path / "out")


def test_a_recipe_with_nothing_left_stops_too(make: RecipeMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^reviews.jsonl: no such file"):
        build(make.recipe(), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "q.jsonl: no row can be read (nothing in it)"),
        (LINE.encode("gb18030") * 20, "q.jsonl: no row can be read (not UTF-8 (byte "),
        (LINE.encode("utf-16"), "q.jsonl: no row can be read (not UTF-8 (byte 0"),
    ],
)
def test_a_corpus_that_cannot_be_read_at_all_is_left_out_too(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, content: bytes, expected: str
) -> None:
    recipe = two_corpora(make, reviews)
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("news.jsonl.gz", "q.jsonl"), encoding="utf-8")
    (make.folder / "q.jsonl").write_bytes(content)
    assert make_plan(recipe).left_out["news"].startswith(expected)


def test_an_empty_file_beside_others_is_no_broken_corpus(make: RecipeMaker, reviews: list[dict[str, str]]) -> None:
    make.corpus(reviews[:4])
    (make.folder / "empty.jsonl").write_bytes(b"")
    plan = make_plan(make.recipe(corpus={"files": [{"path": "*.jsonl"}]}))
    assert not plan.left_out and len(plan.sources["reviews"]) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mixture": {"weights": {"revews": 2}}}, "weights.revews: no corpus 'revews'; did you mean 'reviews'?"),
        (
            {"augment": {"methods": [{"kind": "typo"}], "corpora": ["review"]}},
            "augment.corpora[0]: no corpus 'review'; did you mean 'reviews'?",
        ),
        (
            {"augment": {"methods": [{"kind": "typo"}], "columns": ["txt"]}},
            "augment.columns[0]: no text column 'txt'; did you mean 'text'?",
        ),
        ({"split": {"time": {"test": "2024-07-01"}}}, "split.time: no corpus names its time; give a corpus `time:"),
    ],
)
def test_a_section_that_names_what_is_not_there_stops_with_its_line(
    make: RecipeMaker, reviews: list[dict[str, str]], changes: dict[str, Any], expected: str
) -> None:
    make.corpus(reviews[:4])
    with pytest.raises(UserError) as error:
        make_plan(make.recipe(**changes))
    assert expected in str(error.value)
