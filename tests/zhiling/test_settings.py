"""Complaints about YAML name file, line and key, and say what to do."""

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.settings import Settings, parse, read_yaml


class Inner(Settings):
    size: int = 1


class Outer(Settings):
    name: str
    parts: list[Inner] = Field([])


def complaint(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as error:
        parse(Outer, read_yaml(path))
    return str(error.value).removeprefix(str(tmp_path) + "/")


def test_good_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffname: a\nparts: [{size: 2}]\n", encoding="utf-8")
    assert parse(Outer, read_yaml(path)) == Outer(name="a", parts=[Inner(size=2)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nparts:\n  - siez: 2\n", "x.yaml:3: parts[0].siez: unknown key; did you mean 'size'?"),
        ("name: a\nwhat: 1\n", "x.yaml:2: what: unknown key; known: name, parts"),
        ("parts: []\n", "x.yaml:1: name: missing; add it"),
        ("name: a\nparts:\n  - size: big\n", "x.yaml:3: parts[0].size: found 'big'; Input should be a valid integer"),
        ("name: a\nname: b\n", "x.yaml:2: key 'name' stands twice; remove one"),
        ("- a\n", "x.yaml: not a mapping; write `key: value` lines"),
        ("name: [\n", "x.yaml:2: not valid YAML"),
        ("name: !!python/object/apply:os.system [ls]\n", "x.yaml:1: not valid YAML (could not determine a constructor"),
        (b"name: \xff\n", "x.yaml: not UTF-8 (byte 6); save it as UTF-8"),
        ("name: a\x00b\n", "x.yaml: not valid YAML"),
        ("a: &a [x]\nb: [" + "*a, " * 60 + "]\n", "x.yaml: 60 YAML aliases; use at most 50"),
        ("name: " + "[" * 2000 + "]" * 2000 + "\n", "x.yaml: nested too deep; flatten it"),
    ],
)
def test_each_mistake_gets_one_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    found = complaint(tmp_path, text)
    assert found.startswith(expected)
    assert "\n" not in found


def test_an_absent_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"a: " + b"x" * 5_000_000)
    with pytest.raises(UserError, match="5,000,003 bytes of YAML"):
        read_yaml(tmp_path / "huge.yaml")


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml here")
def test_files_are_read_alike_in_c_and_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["recipes/leaderboard.yaml", "templates/packs/zh/sentiment/pack.yaml"]
    root = Path(__file__).parents[2]
    files = [root / name for name in names]
    found = [read_yaml(path) for path in files]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert found == [read_yaml(path) for path in files]


def test_did_you_mean() -> None:
    assert did_you_mean("clozee", ["cloze", "json"]) == "did you mean 'cloze'?"
    assert did_you_mean("xyz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("xyz", []) == "none are known here"


def test_one_line_makes_control_characters_harmless() -> None:
    assert one_line("a\n\x1b[31m b\u202e") == "a  [31m b "
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
