"""What a release says of those before it, on its card and in its changelog."""

from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from tests.hub.releases import Review, write_release
from zhiling.builders.notes import annotate
from zhiling.builders.pipeline import build
from zhiling.builders.rebuild import rebuild
from zhiling.builders.release import verify
from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.store import files_below, read_json


@pytest.fixture
def three(tmp_path: Path, reviews: list[Review]) -> list[Path]:
    counts = {"1.0.0": 12, "1.1.0": 20, "2.0.0": 19}
    return [write_release(tmp_path, reviews[:count], version) for version, count in counts.items()]


def test_the_changelog_carries_what_came_before_and_the_card_says_what_is_superseded(three: list[Path]) -> None:
    one, two, last = three
    annotate(one, two)
    found = annotate(two, last, "the review of row 20 was sarcastic")
    assert found.bump == "major"
    log = (last / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if line.startswith("## ")] == ["## 2.0.0", "## 1.1.0", "## 1.0.0"]
    assert "a major change. the review of row 20 was sarcastic" in log and "### 1 rows were removed" in log
    card = (last / "README.md").read_text(encoding="utf-8")
    assert "| 1.1.0 | superseded by 2.0.0, a major change; the review of row 20 was sarcastic |" in card
    assert "| 1.0.0 | superseded by 1.1.0, a minor change |" in card
    assert [verify(release) for release in three] == [[], [], []]
    assert read_json(last / "manifest.json")["notes"]["since"] == "1.1.0"


def test_said_twice_it_says_the_same(three: list[Path]) -> None:
    annotate(three[0], three[1])
    before = files_below(three[1])
    annotate(three[0], three[1])
    assert files_below(three[1]) == before


def test_a_reason_cannot_break_the_card(three: list[Path]) -> None:
    annotate(three[0], three[1], "a | b\n<script> [x](y)")
    card = (three[1] / "README.md").read_text(encoding="utf-8")
    assert r"a minor change; a \| b \<script\> \[x\](y) |" in card


def test_versions_out_of_order_and_other_datasets_are_refused(
    three: list[Path], tmp_path: Path, reviews: list[Review], capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_release(tmp_path, reviews[:12], "3.0.0", name="other")
    with pytest.raises(UserError, match=r"is 'other', and .* is 'tiny'; give two versions of one dataset"):
        annotate(three[0], other)
    before = files_below(three[0])
    assert run_args(["diff", str(three[1]), str(three[0]), "--write"]) == 2
    assert "version 1.0.0 is older than 1.1.0" in capsys.readouterr().err and files_below(three[0]) == before


def test_a_build_says_what_changed_since_the_release_that_its_recipe_names(
    make: RecipeMaker, reviews: list[Review], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    render = {"templates_per_row": 2, "shots": {0: 1.0}}
    make.corpus(reviews[:40])
    one = build(make.recipe(render=render), tmp_path / "out")
    make.corpus(reviews[:50])
    recipe = make.recipe(version="1.1.0", split={"previous": "out/tiny/1.0.0"}, render=render)
    two = build(recipe, tmp_path / "out")
    log = (two / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if line.startswith("## ")] == ["## 1.1.0", "## 1.0.0"]
    assert "Compared with 1.0.0: a minor change." in log and "rows are new (10 of the corpora)" in log
    assert "| 1.0.0 | superseded by 1.1.0, a minor change |" in (two / "README.md").read_text(encoding="utf-8")
    assert f"since 1.0.0 ({one}): a minor change, written into CHANGELOG.md" in capsys.readouterr().err
    assert verify(two) == [] == rebuild(two, tmp_path)
    make.corpus(reviews[:49])
    assert "CHANGELOG.md: other bytes" in rebuild(two, tmp_path)  # what the build wrote is compared


def test_a_build_whose_version_rises_too_little_warns(
    make: RecipeMaker, reviews: list[Review], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus(reviews[:40])
    build(make.recipe(version="1.0.0"), tmp_path / "out")
    make.corpus(reviews[1:41])
    recipe = make.recipe(version="1.0.1", split={"previous": "out/tiny/1.0.0"})
    build(recipe, tmp_path / "out")
    assert (
        f"warning: {recipe}: 1.0.0 -> 1.0.1 is a patch step, but what changed, a major change; "
        "set the version to 2.0.0 or later" in capsys.readouterr().err
    )
    again = build(make.recipe(split={"previous": "out/tiny/1.0.0"}), tmp_path / "other")
    assert "is tiny 1.0.0, no earlier version of tiny 1.0.0" in capsys.readouterr().err
    assert "Compared with no earlier version" in (again / "CHANGELOG.md").read_text(encoding="utf-8")
