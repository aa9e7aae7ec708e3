"""What lint says of a pack as it is written: a pack for each code that has it, and a pack that has none."""

from pathlib import Path
from typing import Any

import pytest

from tests.templates.strategies import make_pack, write_pack
from zhiling.templates.checks import check_declarations
from zhiling.templates.pack import read_pack
from zhiling.templates.scaffold import new_pack

PLAIN = {"prompt": "句子：{{ text }}\n感情：", "completion": "{{ verbalizer[label] }}"}
ROWS = [{"text": f"第{i}句话。", "label": label} for i, label in enumerate(["positive", "negative"] * 4)]


def codes(
    folder: Path, *templates: dict[str, Any], rows: list[dict[str, Any]] | None = None, **changes: Any
) -> set[str]:
    settings = {"metrics": ["accuracy"], **changes}
    named = folder / "zh" / "trial"
    pack = make_pack(named, *(templates or [PLAIN] * 10), examples=ROWS if rows is None else rows, **settings)
    return {finding.code for finding in check_declarations(pack)}


def test_a_sound_pack_has_nothing_to_say(tmp_path: Path) -> None:
    assert codes(tmp_path) == set()


@pytest.mark.parametrize(("code", "changes"), [
    ("ZT002", {"pack": "zh/other"}),
    ("ZT005", {"columns": {"text": "string", "label": "label", "title": "string"},
               "rows": [{**row, "title": "题"} for row in ROWS]}),
    ("ZT006", {"labels": {"negative": "一般", "positive": "一般"}}),
    ("ZT007", {"corpora": [{"hub": "a/b", "license": " ? "}]}),
    ("ZT007", {"corpora": [{"hub": "a/b", "license": "unknown"}]}),
    ("ZT008", {"metrics": []}),
    ("ZT011", {"labels": {"negative": "负面", "positive": "正面", "mixed": "参半"}}),
    ("ZT012", {"rows": [*ROWS, ROWS[0]]}),
    ("ZT013", {"corpora": [{"hub": "a/b", "license": "mit", "columns": {"txet": "t"}}]}),
    ("ZT013", {"corpora": [{"hub": "a/b", "license": "mit", "labels": {"1": "positiv"}}]}),
    ("ZT014", {"language": "en"}),
    ("ZT004", {"rows": ROWS[:7]}),
])
def test_each_fault_of_the_pack_has_its_code(tmp_path: Path, code: str, changes: dict[str, Any]) -> None:
    assert codes(tmp_path, **changes) == {code}


@pytest.mark.parametrize("corpus", [
    {"hub": "a/b", "license": "mit", "columns": {"text": "sentence"}, "labels": {"1": "positive"}},
    {"hub": "a/b", "license": "unknown", "note": "The card says so."},
])
def test_a_corpus_that_maps_and_says_its_licence_is_fine(tmp_path: Path, corpus: dict[str, Any]) -> None:
    assert codes(tmp_path, corpora=[corpus]) == set()


def test_few_templates_are_worth_a_word(tmp_path: Path) -> None:
    assert codes(tmp_path, *[PLAIN] * 9) == {"ZT003"}


def test_a_template_whose_own_words_repeat_is_told(tmp_path: Path) -> None:
    same = {**PLAIN, "choices": {"negative": "行", "positive": "行"}}
    assert codes(tmp_path, *[PLAIN] * 9, same) == {"ZT006"}


@pytest.mark.parametrize(("start", "code"), [(1, set()), (2, {"ZT015"})])
def test_a_span_stands_where_it_says(tmp_path: Path, start: int, code: set[str]) -> None:
    rows = [{**row, "names": [{"start": start, "text": f"{n}句话", "label": "x"}]} for n, row in enumerate(ROWS)]
    shown = {**PLAIN, "prompt": "句子：{{ text }}，{{ names | length }}\n感情："}
    columns = {"text": "string", "label": "label", "names": "spans"}
    assert codes(tmp_path, *[shown] * 10, rows=rows, columns=columns) == code


def test_shuffled_choices_are_to_be_shown(tmp_path: Path) -> None:
    hidden = {**PLAIN, "shuffle_choices": True}
    shown = {**hidden, "prompt": "{{ text }}\n是{{ choices | join('还是') }}？"}
    assert codes(tmp_path / "hidden", *[PLAIN] * 9, hidden) == {"ZT010"}
    assert codes(tmp_path / "shown", *[PLAIN] * 9, shown) == set()


def test_white_space_at_the_end_of_a_line_is_found_on_its_line(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    file = folder / "pack.yaml"
    lines = file.read_text(encoding="utf-8").split("\n")
    lines[6] += "  "
    file.write_text("\n".join(lines), encoding="utf-8")
    found = [f for f in check_declarations(read_pack(folder)) if f.code == "ZT009"]
    assert [(f.line, Path(f.file).name) for f in found] == [(7, "pack.yaml")]


def test_several_label_columns_are_told_apart(tmp_path: Path) -> None:
    settings = {
        "pack": "zh/two", "version": "1.0.0", "summary": "两个标签", "task": "classification", "language": "zh",
        "columns": {"topic": "label", "view": "label"}, "metrics": ["accuracy"],
        "labels": {"topic": {"a": "甲", "b": "乙"}, "view": {"up": "涨", "down": "涨"}},
        "templates": [{"name": f"t{i}", "prompt": "{{ verbalizer.topic[topic] }}：", "completion": "{{ view }}",
                       "choices": "none"} for i in range(10)],
    }
    rows = [{"topic": topic, "view": "up"} for topic in "ab" * 4]
    write_pack(tmp_path / "zh" / "two", settings, rows)
    found = list(check_declarations(read_pack(tmp_path / "zh" / "two")))
    assert {(f.code, f.found) for f in found if f.code != "ZT012"} == {("ZT006", "涨"), ("ZT011", "down")}
