"""A published version is whole, and never changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.publish import push
from zhiling.builders.publish_plan import Options
from zhiling.errors import UserError
from zhiling.store import files_below, read_json, write_manifest


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


def test_a_disk_that_is_full_leaves_no_version_behind(release: Path, tmp_path: Path) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); " \
        "from zhiling.cli import run_args; sys.exit(run_args(sys.argv[1:]))"
    command = [sys.executable, "-c", limited, "push", str(release), str(tmp_path / "shelf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no room left to write; free some and run the same command again" in done.stderr
    assert [p.name for p in (tmp_path / "shelf").rglob("*") if p.name != "tiny"] == []


def test_a_dry_run_copies_nothing(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(release, str(tmp_path / "shelf"), Options(dry_run=True))
    assert "would add" in capsys.readouterr().out and not (tmp_path / "shelf").exists()


def test_a_name_that_leads_elsewhere_is_refused(release: Path, tmp_path: Path) -> None:
    about = {k: v for k, v in read_json(release / "manifest.json").items() if k not in ("kind", "files")}
    write_manifest(release, "release", about | {"name": "../../elsewhere"})
    with pytest.raises(UserError, match=r"its name is '../../elsewhere'; name it in letters"):
        push(release, str(tmp_path / "shelf"))
    assert not (tmp_path / "shelf").exists() and not (tmp_path.parent / "elsewhere").exists()


def test_a_place_where_no_folder_can_be_is_one_clear_line(release: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("a file")
    with pytest.raises(UserError, match=r"shelf/tiny/1.0.0: cannot be made \(.*\); give another folder"):
        push(release, str(tmp_path / "shelf"))


def test_a_source_that_forbids_sharing_is_named_where_nobody_can_say_who_reads(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {k: v for k, v in read_json(release / "manifest.json").items() if k not in ("kind", "files")}
    write_manifest(release, "release", about | {"corpora": {"reviews": {"license": "unknown"}}})
    push(release, str(tmp_path / "shelf"))
    assert "corpus 'reviews' (unknown) states no licence: see that" in capsys.readouterr().err
