"""A release on the Hub: one commit, its tag, all of it read back; and what is refused, each in one line."""

from pathlib import Path

import pytest

from tests.hub.api import User
from tests.hub.history import MAIN
from tests.hub.releases import Review, write_release
from tests.hub.server import Hub
from zhiling.builders.publish import push
from zhiling.builders.publish_plan import Options
from zhiling.errors import UserError
from zhiling.store import files_below

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def one(shelf: Path, reviews: list[Review]) -> Path:
    return write_release(shelf / "out", reviews[:30])


@pytest.fixture(scope="module")
def two(shelf: Path, reviews: list[Review]) -> Path:
    """1.1.0: more rows."""
    return write_release(shelf / "out", reviews[:40], "1.1.0")


def test_a_push_is_one_commit_and_its_tag_and_holds_every_byte(hub: Hub, one: Path) -> None:
    assert push(one, "hub:org/tiny") == "hub:org/tiny@v1.0.0"
    repo = hub.history.find("dataset", "org/tiny")
    assert [c.title.split(" (")[0] for _, c in repo.log("main")] == ["tiny 1.0.0", "initial commit"]
    assert repo.refs["refs/tags/v1.0.0"] == repo.refs[MAIN]
    tree = repo.tree("v1.0.0")
    assert tree.keys() - {".gitattributes"} == {*files_below(one), "manifest.json"}
    assert all(hub.history.get(tree[name]) == (one / name).read_bytes() for name in tree if name != ".gitattributes")


def test_a_second_push_changes_nothing_and_sends_nothing(hub: Hub, one: Path) -> None:
    push(one, "hub:org/tiny")
    before = dict(hub.history.find("dataset", "org/tiny").refs)
    hub.log.clear()
    assert push(one, "hub:org/tiny") == "hub:org/tiny@v1.0.0"
    assert hub.history.find("dataset", "org/tiny").refs == before
    assert {"commit", "tag", "lfs_put", "preupload"} & {name for name, _ in hub.log} == set()


def test_the_next_version_sends_only_what_changed_and_deletes_what_is_gone(
    hub: Hub, tmp_path: Path, reviews: list[Review]
) -> None:
    push(write_release(tmp_path / "out", reviews[:30], shards=2), "hub:org/tiny")
    hub.log.clear()
    two = write_release(tmp_path / "out", reviews[:30], "1.0.1", shards=2, words="better words")
    push(two, "hub:org/tiny")
    assert hub.calls("lfs_put") == 0 and hub.calls("commit") == 1
    three = write_release(tmp_path / "out", reviews[:40], "1.1.0", shards=1)
    push(three, "hub:org/tiny")
    repo = hub.history.find("dataset", "org/tiny")
    assert repo.tree("main").keys() - {".gitattributes"} == {*files_below(three), "manifest.json"}
    assert {name for name in repo.tree("v1.0.0") if name.startswith("data/train")} == {
        "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
    }


def test_a_version_that_exists_with_other_bytes_is_refused(
    hub: Hub, one: Path, tmp_path: Path, reviews: list[Review]
) -> None:
    push(one, "hub:org/tiny")
    other = write_release(tmp_path / "other", reviews[:31])
    with pytest.raises(UserError, match=r"v1\.0\.0 is published with other bytes .*a published version never changes"):
        push(other, "hub:org/tiny")


def test_a_step_smaller_than_what_changed_is_refused_and_the_right_one_named(
    hub: Hub, one: Path, tmp_path: Path, reviews: list[Review]
) -> None:
    push(one, "hub:org/tiny")
    grown = write_release(tmp_path / "elsewhere", reviews[:40], "1.0.1")
    with pytest.raises(UserError, match=r"1\.0\.0 -> 1\.0\.1 is a patch step, but \d+ rows were added, a minor change"):
        push(grown, "hub:org/tiny")
    shrunk = write_release(tmp_path / "elsewhere", reviews[:20], "1.1.0")
    with pytest.raises(UserError, match=r"rows were removed, a major change; .* set the version to 2\.0\.0 or later"):
        push(shrunk, "hub:org/tiny")
    push(write_release(tmp_path / "elsewhere", reviews[:40], "1.1.0"), "hub:org/tiny")
    old = write_release(tmp_path / "elsewhere", reviews[:40], "1.0.5", words="late")
    with pytest.raises(UserError, match=r"version 1\.0\.5 is older than 1\.1\.0; nothing was .*; raise it to 1\.1\.1"):
        push(old, "hub:org/tiny")


def test_another_dataset_s_repository_is_refused(hub: Hub, one: Path, tmp_path: Path, reviews: list[Review]) -> None:
    push(one, "hub:org/tiny")
    with pytest.raises(UserError, match="holds the release 'tiny', and this is the release 'other'"):
        push(write_release(tmp_path / "out", reviews[:9], name="other", version="3.0.0"), "hub:org/tiny")


def test_files_that_others_put_there_are_kept_unless_the_person_says_yes(hub: Hub, one: Path, two: Path) -> None:
    push(one, "hub:org/tiny")
    from huggingface_hub import HfApi

    api = HfApi(hub.url)
    place = {"repo_id": "org/tiny", "repo_type": "dataset"}
    api.upload_file(path_or_fileobj=b"by hand", path_in_repo="NOTES.md", commit_message="a note", **place)
    with pytest.raises(UserError, match=r"1 files there were put or changed by others \(me: NOTES\.md\); nothing was"):
        push(two, "hub:org/tiny")
    assert "NOTES.md" in hub.history.find("dataset", "org/tiny").tree("main")
    push(two, "hub:org/tiny", Options(yes=True))
    assert "NOTES.md" not in hub.history.find("dataset", "org/tiny").tree("main")


def test_a_gitignore_there_cannot_swallow_files(hub: Hub, one: Path) -> None:
    repo = hub.history.create("dataset", "org/tiny", False, "me")
    from huggingface_hub import HfApi

    HfApi(hub.url).upload_file(
        path_or_fileobj=b"data\n*.svg\n", path_in_repo=".gitignore", repo_id="org/tiny", repo_type="dataset"
    )
    push(one, "hub:org/tiny", Options(yes=True))
    assert "plots/labels.svg" in repo.tree("v1.0.0") and "data/train-00000-of-00001.parquet" in repo.tree("v1.0.0")


@pytest.mark.parametrize("licence", ["CC-BY-ND-4.0", "all rights reserved", "unknown"])
def test_a_licence_that_forbids_sharing_keeps_a_release_out_of_public_repositories(
    hub: Hub, tmp_path: Path, reviews: list[Review], licence: str
) -> None:
    release = write_release(tmp_path / "out", reviews[:9], licence=licence)
    with pytest.raises(UserError, match=r"corpus 'reviews' .*; nothing was published; leave the corpus out, or make"):
        push(release, "hub:org/tiny")
    assert hub.history.repos == {}
    push(release, "hub:org/tiny", Options(private=True))
    assert hub.history.find("dataset", "org/tiny").private
    hub.history.create("dataset", "org/open", False, "me")
    with pytest.raises(UserError, match="nothing was published"):
        push(release, "hub:org/open", Options(private=True))


def test_a_reason_to_share_anyway_lets_a_release_out(hub: Hub, tmp_path: Path, reviews: list[Review]) -> None:
    from zhiling.store import read_json, write_manifest

    release = write_release(tmp_path / "out", reviews[:9], licence="unknown")
    about = {k: v for k, v in read_json(release / "manifest.json").items() if k not in ("kind", "files")}
    write_manifest(release, "release", about | {"license": {"share_anyway": "the author allowed it in a letter"}})
    assert push(release, "hub:org/tiny") == "hub:org/tiny@v1.0.0"


def test_private_onto_a_public_repository_is_refused(hub: Hub, one: Path) -> None:
    hub.history.create("dataset", "org/tiny", False, "me")
    with pytest.raises(UserError, match="is public, and --private was asked for"):
        push(one, "hub:org/tiny", Options(private=True))


def test_a_dry_run_shows_every_operation_and_the_card_and_changes_nothing(
    hub: Hub, one: Path, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(one, "hub:org/tiny", Options(dry_run=True))
    assert hub.history.repos == {}
    assert "would be made, public" in capsys.readouterr().out
    push(one, "hub:org/tiny")
    before = dict(hub.history.find("dataset", "org/tiny").refs)
    push(two, "hub:org/tiny", Options(dry_run=True))
    shown = capsys.readouterr().out
    assert hub.history.find("dataset", "org/tiny").refs == before
    assert "replace" in shown and "data/train-00000-of-00001.parquet" in shown
    assert "-# tiny 1.0.0" in shown and "+# tiny 1.1.0" in shown and "bytes to send" in shown


def test_a_person_who_is_asked_and_says_no_has_published_nothing(hub: Hub, one: Path) -> None:
    asked: list[str] = []
    with pytest.raises(UserError, match="not confirmed; nothing was published"):
        push(one, "hub:org/tiny", Options(confirm=lambda text: bool(asked.append(text))))
    assert "a new public one" in asked[0] and "Publish tiny 1.0.0" in asked[0] and hub.history.repos == {}


def test_a_pull_request_is_made_once_and_its_tag_set_after_the_merge(hub: Hub, one: Path, two: Path) -> None:
    push(one, "hub:org/tiny")
    assert push(two, "hub:org/tiny", Options(pr=True)) == "hub:org/tiny#1"
    assert push(two, "hub:org/tiny", Options(pr=True)) == "hub:org/tiny#1"
    repo = hub.history.find("dataset", "org/tiny")
    assert len(repo.pulls) == 1 and repo.pulls[0]["status"] == "open"
    assert repo.refs[MAIN] == repo.refs["refs/tags/v1.0.0"], "main is as it was"
    hub.history.merge(repo, 1, "me")
    assert push(two, "hub:org/tiny") == "hub:org/tiny@v1.1.0"
    assert repo.refs["refs/tags/v1.1.0"] == repo.refs[MAIN]


def test_a_merge_under_another_title_is_no_edit_of_others(
    hub: Hub, one: Path, two: Path, tmp_path: Path, reviews: list[Review]
) -> None:
    push(one, "hub:org/tiny")
    push(two, "hub:org/tiny", Options(pr=True))
    repo = hub.history.find("dataset", "org/tiny")
    repo.pulls[0]["title"] = "merged and squashed"
    hub.history.merge(repo, 1, "me")
    push(two, "hub:org/tiny")
    three = write_release(tmp_path / "out", reviews[:45], "1.2.0")
    assert push(three, "hub:org/tiny") == "hub:org/tiny@v1.2.0"


def test_who_may_not_write_may_still_open_a_pull_request(
    hub: Hub, one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(one, "hub:org/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_Stranger0000")
    with pytest.raises(UserError, match=r"no permission \(403.*; nothing was published; use a token with write access"):
        push(two, "hub:org/tiny")
    assert push(two, "hub:org/tiny", Options(pr=True)) == "hub:org/tiny#1"


def test_a_branch_gets_its_own_line_of_versions(
    hub: Hub, one: Path, two: Path, tmp_path: Path, reviews: list[Review]
) -> None:
    push(one, "hub:org/tiny")
    push(two, "hub:org/tiny")
    repo = hub.history.find("dataset", "org/tiny")
    with pytest.raises(UserError, match=r"--revision v1\.0\.0 is a version's tag, not a branch; nothing was published"):
        push(two, "hub:org/tiny", Options(revision="v1.0.0"))
    mended = write_release(tmp_path / "out", reviews[:30], "1.0.1", words="mended")
    assert push(mended, "hub:org/tiny", Options(revision="1.0.x")) == "hub:org/tiny@v1.0.1"
    assert repo.refs["refs/tags/v1.1.0"] == repo.refs[MAIN] != repo.refs["refs/tags/v1.0.1"]
    assert repo.commit(repo.refs["refs/heads/1.0.x"]).parent == repo.refs["refs/tags/v1.0.0"], "it starts there"


def test_two_pushes_at_once_one_wins_and_the_other_says_who(
    hub: Hub, one: Path, two: Path, tmp_path: Path, reviews: list[Review]
) -> None:
    push(one, "hub:org/tiny")
    rival = write_release(tmp_path / "rival", reviews[:35], "1.1.0")
    hub.before["commit"] = lambda: push(rival, "hub:org/tiny")
    with pytest.raises(UserError, match=r"me published 'tiny 1\.1\.0 \(\w+\)' meanwhile .*; nothing of yours was"):
        push(two, "hub:org/tiny")
    repo = hub.history.find("dataset", "org/tiny")
    assert len(list(repo.log("main"))) == 3 and repo.refs["refs/tags/v1.1.0"] == repo.refs[MAIN]


def test_two_pushes_of_the_same_release_both_succeed_with_one_commit(hub: Hub, one: Path, two: Path) -> None:
    push(one, "hub:org/tiny")
    hub.before["commit"] = lambda: push(two, "hub:org/tiny")
    assert push(two, "hub:org/tiny") == "hub:org/tiny@v1.1.0"
    assert len(list(hub.history.find("dataset", "org/tiny").log("main"))) == 3


def test_a_tag_that_someone_else_set_meanwhile_is_not_moved(hub: Hub, one: Path) -> None:
    def elsewhere() -> None:
        repo = hub.history.find("dataset", "org/tiny")
        with hub.history.changing(repo):
            repo.refs["refs/tags/v1.0.0"] = next(oid for oid, c in repo.log("main") if c.parent is None)

    hub.before["tag"] = elsewhere
    with pytest.raises(UserError, match=r"v1\.0\.0 names commit \w+, which someone set meanwhile"):
        push(one, "hub:org/tiny")


def test_a_collection_is_made_once_and_holds_the_repository_once(hub: Hub, one: Path, two: Path) -> None:
    push(one, "hub:org/tiny", Options(collection="Our data"))
    push(two, "hub:org/tiny", Options(collection="Our data"))
    (found,) = hub.history.collections.values()
    assert [item["id"] for item in found["items"]] == ["org/tiny"]


def test_the_user_s_own_namespace_works_as_an_organisation_s(hub: Hub, one: Path) -> None:
    hub.users["hf_Alone00000"] = User("alone")
    assert push(one, "hub:me/tiny") == "hub:me/tiny@v1.0.0"
