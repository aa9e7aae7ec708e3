"""Snapshots: changed wording shows as a diff, and nothing else does."""

from pathlib import Path

import pytest

from zhiling.templates.pack import load_pack, pack_names, read_pack
from zhiling.templates.scaffold import new_pack
from zhiling.templates.snapshots import FILE, compare, snapshot, update


@pytest.mark.parametrize("name", pack_names())
def test_shipped_packs_say_what_their_snapshots_say(name: str) -> None:
    assert compare(load_pack(name)) == [], f"zhiling template test {name} --update"


def test_a_snapshot_is_written_once_and_then_agrees(tmp_path: Path) -> None:
    pack = read_pack(new_pack("zh/mine", tmp_path))
    assert compare(pack)[0].endswith("snapshot.txt")
    assert update(pack) and not update(pack)
    assert compare(pack) == []


def test_changed_wording_shows_in_the_diff(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    update(read_pack(folder))
    file = folder / "pack.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("      答：", "      回答：", 1), encoding="utf-8")
    lines = compare(read_pack(folder))
    assert {line for line in lines[2:] if line[0] in "+-"} == {"-答：", "+回答："}


def test_a_snapshot_holds_prompt_answer_and_choices(tmp_path: Path) -> None:
    pack = read_pack(new_pack("en/mine", tmp_path))
    first = snapshot(pack).split("════ ")[1]
    assert first == (
        "ask · 1\nIs the sentence below a question or a statement?\nWhen does the library close\nAnswer:\n"
        "⟶ question\n   of: question / statement\n"
    )


def test_a_damaged_snapshot_differs_and_is_mended(tmp_path: Path) -> None:
    pack = read_pack(new_pack("zh/mine", tmp_path))
    (pack.folder / FILE).write_bytes(b"\xff\xfe")
    assert compare(pack)
    assert update(pack) and compare(pack) == []
