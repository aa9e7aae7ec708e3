"""A published version is whole, and never changes."""

from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.publish import push
from zhiling.errors import UserError
from zhiling.store import files_below


@pytest.fixture
def release(make: RecipeMaker, reviews: list[dict[str, str]]) -> Path:
    make.corpus(reviews[:80])
    return build(make.recipe(render={"shots": {0: 1.0}}), make.folder / "out")


def test_a_push_copies_every_byte_and_a_second_one_changes_nothing(release: Path, tmp_path: Path) -> None:
    place = Path(push(release, str(tmp_path / "shelf")))
    assert place == tmp_path / "shelf" / "tiny" / "1.0.0"
    assert files_below(place) == files_below(release)
    made = place.stat().st_mtime_ns
    push(release, str(tmp_path / "shelf"))
    assert place.stat().st_mtime_ns == made


def test_another_release_under_a_published_version_is_refused(
    release: Path, make: RecipeMaker, tmp_path: Path
) -> None:
    place = Path(push(release, str(tmp_path / "shelf")))
    before = files_below(place)
    other = build(make.recipe(seed=1, render={"shots": {0: 1.0}}), make.folder / "other")
    with pytest.raises(UserError, match="published with other bytes; raise `version`"):
        push(other, str(tmp_path / "shelf"))
    assert files_below(place) == before


def test_a_damaged_release_is_not_published(release: Path, tmp_path: Path) -> None:
    (release / "LICENSES.md").write_text("")
    with pytest.raises(UserError, match=r"does not agree with its manifest \(LICENSES\.md: changed\)"):
        push(release, str(tmp_path / "shelf"))
    assert not (tmp_path / "shelf").exists()
