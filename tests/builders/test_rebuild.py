"""A release is rebuilt to the bit from what it holds and its sources; what changed is named."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.rebuild import rebuild
from zhiling.errors import UserError
from zhiling.templates.pack import PACKS


@pytest.fixture
def release(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> Path:
    """A release whose pack is a stranger's folder that extends a shipped one."""
    make.corpus(reviews[:50] + reviews[-50:])
    pack = tmp_path / "zh" / "my_reviews"
    pack.mkdir(parents=True)
    (pack / "pack.yaml").write_text(
        "pack: zh/my_reviews\nversion: 1.0.0\nsummary: 评论\ntask: classification\nlanguage: zh\n"
        "license: Apache-2.0\nextends: zh/sentiment\ntemplates:\n"
        "  - name: short\n    kind: question\n    prompt: '{{ text }}\n\n\n      是好评吗？'\n"
        "    completion: \"{{ '是' if label == 'positive' else '否' }}\"\n    choices: [是, 否]\n",
        encoding="utf-8",
    )
    return build(make.recipe(corpus={"pack": "zh/my_reviews"}), tmp_path / "out")


def test_every_byte_is_the_same_without_the_packs_of_then(release: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "zh")
    assert (release / "packs" / "zh" / "sentiment" / "pack.yaml").read_bytes() == (
        PACKS / "zh" / "sentiment" / "pack.yaml"
    ).read_bytes()
    assert rebuild(release, tmp_path) == []


def test_a_release_is_named_from_where_one_stands(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "zh")
    monkeypatch.chdir(tmp_path)
    assert rebuild(release.relative_to(tmp_path), Path()) == []


def test_a_changed_source_shows(
    release: Path, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:49] + reviews[-50:])
    assert any(line.startswith("data/train-") and line.endswith("other bytes") for line in rebuild(release, tmp_path))


def test_what_a_manifest_says_is_built_again_too(release: Path, tmp_path: Path) -> None:
    text = (release / "manifest.json").read_text("utf-8")
    (release / "manifest.json").write_text(text.replace('"leaked_rows": 0', '"leaked_rows": 1'), encoding="utf-8")
    assert rebuild(release, tmp_path) == ["manifest.json: other `leak`"]


def test_an_absent_source_is_one_clear_line(release: Path, tmp_path: Path) -> None:
    (tmp_path / "reviews.jsonl").unlink()
    with pytest.raises(UserError, match=r"reviews.jsonl: no such file; check the path \(it is relative to --base, /"):
        rebuild(release, tmp_path)
