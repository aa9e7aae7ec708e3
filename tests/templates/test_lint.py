"""Lint as a whole: which packs it looks at, what it says of a pack that cannot be read, what `--fix` mends."""

import re
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.templates import lint
from zhiling.templates.findings import CODES, Finding
from zhiling.templates.lint import codes_table, lint_pack, pack_folders
from zhiling.templates.mend import mend_pack, mend_words
from zhiling.templates.pack import pack_names, read_pack
from zhiling.templates.scaffold import new_pack

DOCS = Path(__file__).parents[2] / "docs" / "lint.md"


@pytest.mark.parametrize("name", pack_names())
def test_every_shipped_pack_is_free_of_errors(name: str) -> None:
    found = [f for folder in pack_folders([name]) for f in lint_pack(folder)]
    assert [str(f) for f in found if f.severity == "error"] == []


def test_packs_are_named_by_name_by_folder_or_by_the_folder_above(tmp_path: Path) -> None:
    one, two = new_pack("zh/one", tmp_path), new_pack("en/two", tmp_path)
    assert pack_folders([str(one)]) == [one]
    assert pack_folders([str(tmp_path), str(two)]) == [two, one]
    assert [f.name for f in pack_folders(["zh/sentiment"])] == ["sentiment"]
    assert len(pack_folders([])) == len(pack_names())


def test_a_target_without_a_pack_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"no such pack, and no folder with a pack.yaml in it; did you mean 'zh/topic'"):
        pack_folders(["zh/topik"])


def test_a_pack_that_cannot_be_read_is_one_finding_at_its_line(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("{{ text }}", "{{ txet }}", 1), encoding="utf-8")
    (found,) = lint_pack(folder)
    line = file.read_text(encoding="utf-8").split("\n").index("      {{ txet }}") + 1
    assert (found.code, found.line, found.severity) == ("ZT001", line, "error")
    assert "uses the undefined name 'txet'; did you mean 'text'?" in str(found)


def test_of_a_key_that_is_wrong_or_missing_the_name_is_told(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    sound = file.read_text(encoding="utf-8")
    for old, new, told in (
        ("    kind: question", "    promt: x", "templates[0].promt: unknown key; did you mean 'prompt'?"),
        ('    completion: "{{ text }}"', "    note: x", "templates[4].completion: missing; add it"),
    ):
        file.write_text(sound.replace(old, new, 1), encoding="utf-8")
        (found,) = lint_pack(folder)
        assert f"the pack cannot be read: {told}" in str(found)


def test_a_finding_reads_as_one_line_and_as_json() -> None:
    found = Finding("ZT025", "a/pack.yaml", 7, "，，", "ask")
    assert str(found) == (
        "a/pack.yaml:7: ZT025 warning [ask]: doubled punctuation: “，，”; "
        "keep one (--fix does); put row text in quotes or on its own line"
    )
    assert found.as_dict()["severity"] == "warning" and found.as_dict()["line"] == 7


def test_errors_come_first(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("pack: zh/mine", "pack: zh/ours"), encoding="utf-8")
    severities = [finding.severity for finding in lint_pack(folder)]
    assert severities == sorted(severities, key=["error", "warning", "note"].index) and severities[0] == "error"


def test_the_docs_list_every_code() -> None:
    assert codes_table() in DOCS.read_text(encoding="utf-8"), "docs/lint.md: put lint.codes_table() into it"
    assert all(re.fullmatch(r"ZT\d{3}", code) for code in CODES)
    assert lint.__doc__


@pytest.mark.parametrize(("language", "before", "after"), [
    ("zh", "你好,世界!{{ text,x }}？", "你好，世界！{{ text,x }}？"),
    ("zh", "好。。真的？？", "好。真的？"),
    ("zh", "好，。", "好。"),
    ("zh", "JSON: {\"a\": 1}", "JSON: {\"a\": 1}"),
    ("en", "Well，really？", "Well,really?"),
    ("en", "Wait,. what?.", "Wait. what?"),
    ("en", "and so on... {% if a,b %}", "and so on... {% if a,b %}"),
])
def test_words_are_mended_and_expressions_left_alone(language: str, before: str, after: str) -> None:
    assert mend_words(before, language) == after


def test_fix_changes_the_templates_words_alone(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    sound = file.read_text(encoding="utf-8")
    commented = sound.replace("# 直接问", "# 直接问,,")
    broken = commented.replace("下面这句话是在提问，还是在陈述？", "下面这句话是在提问,还是在陈述？？  ")
    file.write_text(broken, encoding="utf-8")
    assert {"ZT009", "ZT025", "ZT026"} <= {f.code for f in lint_pack(folder)}
    assert mend_pack(folder) == 1
    assert file.read_text(encoding="utf-8") == commented
    assert mend_pack(folder) == 0 and read_pack(folder).name == "zh/mine"


def test_a_pack_that_says_the_wrong_language_is_told_so_and_its_punctuation_left_alone(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    wrong = file.read_text(encoding="utf-8").replace("language: zh", "language: en", 1)
    file.write_text(wrong, encoding="utf-8")
    found = {f.code: str(f) for f in lint_pack(folder)}
    assert "the templates are in another language: the words look like “zh”, “en”" in found["ZT014"]
    assert "ZT026" not in found
    assert mend_pack(folder) == 0 and file.read_text(encoding="utf-8") == wrong
