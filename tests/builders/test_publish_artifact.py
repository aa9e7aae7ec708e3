"""What may be published: versions that rise by what changed, cards that the Hub's own classes read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.releases import Review, write_release
from zhiling.builders.publish_artifact import check_card, next_version, read_artifact, refuse_small_step, step
from zhiling.errors import UserError
from zhiling.store import read_json, write_manifest

VERSIONS = st.tuples(*[st.integers(0, 20)] * 3).map(lambda v: ".".join(map(str, v)))
BUMPS = st.sampled_from(["major", "minor", "patch"])


@given(VERSIONS, BUMPS)
def test_the_next_version_makes_just_the_step_asked_for(before: str, bump: str) -> None:
    after = next_version(before, bump)
    assert step(before, after) == bump and step(after, before) == "none" and step(before, before) == "none"


@given(VERSIONS, VERSIONS, BUMPS)
def test_a_step_is_refused_exactly_where_it_is_too_small(before: str, after: str, bump: str) -> None:
    made = step(before, after)
    enough = {"major": ("major",), "minor": ("major", "minor"), "patch": ("major", "minor", "patch")}[bump]
    if bump == "major" and before.startswith("0."):
        enough = ("major", "minor")
    try:
        refuse_small_step(Path("release"), before, after, bump, "3 rows were removed")
    except UserError:
        assert made not in enough
    else:
        assert made in enough


@pytest.mark.parametrize("version", ["1.0", "1.0.0-rc1", "01.0.0", "v1.0.0.0", "", "一.0.0"])
def test_a_version_that_is_none_is_refused(tmp_path: Path, reviews: list[Review], version: str) -> None:
    release = write_release(tmp_path, reviews[:3])
    about = {k: v for k, v in read_json(release / "manifest.json").items() if k not in ("kind", "files")}
    write_manifest(release, "release", about | {"version": version})
    with pytest.raises(UserError, match=r"is not of the form 1\.2\.0; write three numbers with dots"):
        read_artifact(release)


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: mit\nlanguage: [zh]\n", ""),
        ("language: [zh]\n", "its front matter names no licence; add `license:`"),
        ("license: [\n", "its front matter is no card (while parsing"),
        ("- license\n", "its front matter is no card (repo card metadata block should be a dict"),
    ],
)
def test_a_card_is_what_the_hub_takes_for_one(tmp_path: Path, reviews: list[Review], front: str, said: str) -> None:
    release = write_release(tmp_path, reviews[:3])
    (release / "README.md").write_text(f"---\n{front}---\n\n# tiny\n")
    about = {k: v for k, v in read_json(release / "manifest.json").items() if k not in ("kind", "files")}
    write_manifest(release, "release", about)
    if not said:
        check_card(read_artifact(release))
        return
    with pytest.raises(UserError) as error:
        check_card(read_artifact(release))
    assert said in str(error.value) and "\n" not in str(error.value)
