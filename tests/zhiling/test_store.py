"""A file is whole or absent; a manifest tells when a byte changed."""

import json
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.store import (
    atomic,
    atomic_folder,
    canonical_json,
    differences,
    digest,
    locked,
    read_json,
    read_manifest,
    write_jsonl,
    write_manifest,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic(target) as part:
        part.write_text("half")
        raise RuntimeError("stop")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another training is writing here; wait for it to end")
    with locked(tmp_path), refused, locked(tmp_path, "another training"):
        pass
    with pytest.raises(BlockingIOError), locked(tmp_path):
        raise BlockingIOError  # of something else: not said to be another one's


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "release") as part:
        (part / "a").write_text("half")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "release") as part:
        (part / "a").write_text("whole")
    assert (tmp_path / "release" / "a").read_text() == "whole"


def test_a_folder_left_by_a_killed_run_is_not_trusted(tmp_path: Path) -> None:
    left = tmp_path / ".release.part"
    left.mkdir()
    (left / "stale").write_text("half")
    with atomic_folder(tmp_path / "release") as part:
        (part / "a").write_text("whole")
    assert [p.name for p in (tmp_path / "release").iterdir()] == ["a"]


def test_digest_does_not_hang_on_key_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_canonical_json_refuses_what_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_differences_name_missing_changed_and_added_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_text(tmp_path / "sub" / name, name)
    write_manifest(tmp_path, "release", {"name": "x"})
    assert differences(tmp_path, "release") == []
    write_text(tmp_path / "sub" / "a", "changed")
    (tmp_path / "sub" / "b").unlink()
    write_text(tmp_path / "c", "new")
    assert differences(tmp_path, "release") == ["sub/b: missing", "c: not in the manifest", "sub/a: changed"]


def test_a_manifest_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, "model", {})
    with pytest.raises(UserError, match="kind is 'model'; give the folder of a release"):
        read_manifest(tmp_path, "release")


def test_damaged_json_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "y.json")


def test_jsonl_keeps_chinese_as_it_is(tmp_path: Path) -> None:
    assert write_jsonl(tmp_path / "x.jsonl", [{"a": "好"}, {"a": 'line\nbreak "quoted"'}]) == 2
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert "好" in lines[0]
    assert json.loads(lines[1])["a"] == 'line\nbreak "quoted"'


@pytest.mark.parametrize(
    ("said", "needed", "key"),
    [({"files": []}, (), "files"), ({"leak": None}, (), "leak"), ({"name": 3}, (), "name"), ({}, ("seed",), "seed")],
)
def test_a_damaged_manifest_is_one_clear_line(
    tmp_path: Path, said: dict[str, object], needed: list[str], key: str
) -> None:
    write_text(tmp_path / "manifest.json", json.dumps({"kind": "release", **said}))
    with pytest.raises(UserError, match=rf"no `{key}` in it, or none that can be used; get the release anew"):
        read_manifest(tmp_path, "release", *needed)


def test_what_is_on_the_hub_is_fetched_first() -> None:
    with pytest.raises(UserError, match=r"^hub:org/x: not on this machine; `zhiling pull` it first, then give"):
        read_manifest(Path("hub:org/x"), "release")


def test_a_manifest_without_its_files_is_not_compared(tmp_path: Path) -> None:
    write_text(tmp_path / "manifest.json", '{"kind": "model"}')
    with pytest.raises(UserError, match=r"manifest.json: no `files` in it"):
        differences(tmp_path, "model")
