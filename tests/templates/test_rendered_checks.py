"""What lint says of rendered examples: for each code a template that has it, beside one that does not."""

from pathlib import Path
from typing import Any

import pytest

from tests.templates.strategies import make_pack
from zhiling.templates.rendered_checks import check_renderings

ROWS = [
    {"text": text, "label": label}
    for text, label in [
        ("很好用。", "positive"), ("坏了", "negative"), ("味道不错！", "positive"), ("太慢，差评。", "negative"),
        ("推荐", "positive"), ("“一般”而已", "negative"), ("喜欢", "positive"), ("退货", "negative"),
    ]
]
SOUND = {"prompt": "评论：{{ text }}\n这条评论是夸还是骂？\n答：", "completion": "{{ verbalizer[label] }}"}
ENGLISH = {"language": "en", "pack": "en/trial", "labels": {"negative": "bad", "positive": "good"}}


def codes(folder: Path, *templates: dict[str, Any], **changes: Any) -> list[str]:
    pack = make_pack(folder, *templates, **{"examples": ROWS, **changes})
    return sorted({finding.code for finding in check_renderings(pack)})


def prompt(text: str, **more: Any) -> dict[str, Any]:
    return {**SOUND, "prompt": text, **more}


def test_a_sound_template_has_nothing_to_say(tmp_path: Path) -> None:
    assert codes(tmp_path, SOUND) == []


@pytest.mark.parametrize(("code", "template"), [
    ("ZT020", {**SOUND, "completion": "{{ label }}"}),
    ("ZT020", prompt("{{ text[99].x }}：")),
    ("ZT021", {**SOUND, "when": "text == 'x'"}),
    ("ZT022", prompt("{{ text }}\n这是{{ verbalizer[label] }}的评论。感情：")),
    ("ZT023", {**SOUND, "completion": "正面", "choices": "none"}),
    ("ZT024", prompt("{{ text }}\nTODO：")),
    ("ZT025", prompt("评论：：{{ text }}\n答：")),
    ("ZT025", prompt("{{ text }}，是夸还是骂？\n答：")),
    ("ZT026", prompt("评论:{{ text }}\n答：")),
    ("ZT029", prompt("{{ text }}\n感情是")),
    ("ZT030", prompt("{{ text | replace('。', '') | replace('！', '') }}")),
    ("ZT031", {**SOUND, "delimiter": " "}),
    ("ZT032", {**SOUND, "completion": "{{ text }}{{ label }}", "choices": "none"}),
    ("ZT034", prompt("这条评论是夸还是骂？\n答：")),
    ("ZT034", prompt("这条评论是{{ choices | join('还是') }}？\n答：", shuffle_choices=True)),
    ("ZT035", {**SOUND, "choices": {"negative": "好", "positive": "好得很"}}),
])
def test_each_fault_has_its_code(tmp_path: Path, code: str, template: dict[str, Any]) -> None:
    assert code in codes(tmp_path, template)


@pytest.mark.parametrize(("code", "template"), [
    ("ZT022", {**prompt("请写一条{{ verbalizer[label] }}的评论："), "completion": "{{ text }}", "inverted": True}),
    ("ZT022", prompt("{{ text }}\n有人说这是{{ verbalizer[labels[draw % 2]] }}的。对吗？",
                     completion="{{ '对' if labels[draw % 2] == label else '错' }}", choices=["对", "错"])),
    ("ZT025", prompt("评论：“{{ text }}”\n答：")),
    ("ZT026", prompt("评论：{{ text }}\nJSON: ")),
    ("ZT029", prompt("{{ text }}\n感情是“")),
    ("ZT032", {**SOUND, "completion": "{{ label }}: {{ text | length }}", "choices": "none"}),
    ("ZT034", {**prompt("请写一条评论："), "completion": "{{ text }}", "inverted": True}),
    ("ZT035", {**SOUND, "choices": {"negative": "不好", "positive": "好"}}),
])
def test_what_only_looks_like_a_fault_is_none(tmp_path: Path, code: str, template: dict[str, Any]) -> None:
    assert code not in codes(tmp_path, template)


def test_what_a_row_says_is_not_the_templates_fault(tmp_path: Path) -> None:
    rows = [{"text": f"TODO：：{{{{ x }}}}中,文 None {i}", "label": row["label"]} for i, row in enumerate(ROWS)]
    assert codes(tmp_path, SOUND, examples=rows) == []


def test_turns_are_looked_at_as_well(tmp_path: Path) -> None:
    def turns(last: str) -> dict[str, Any]:
        said = [("user", "看一条评论：\n{{ text }}"), ("assistant", "好。"), ("user", last)]
        return {"turns": [{"role": r, "content": c} for r, c in said], "completion": "{{ verbalizer[label] }}"}

    rows = [{"text": "xxx 待补充", "label": row["label"]} for row in ROWS]
    assert codes(tmp_path / "a", turns("是夸还是骂？"), examples=rows) == []
    assert codes(tmp_path / "b", turns("是夸还是骂？？")) == ["ZT025"]


def test_templates_that_differ_in_punctuation_are_alike(tmp_path: Path) -> None:
    again = prompt("评论：{{ text }}\n这条评论，是夸还是骂？\n答：")
    other = prompt("{{ text }}\n如果打分，作者会给高分还是低分？\n我猜：")
    assert codes(tmp_path / "a", SOUND, again) == ["ZT027"]
    assert codes(tmp_path / "b", SOUND, other) == []


@pytest.mark.parametrize(("choices", "found"), [(["甲", "乙", "丙"], ["ZT028"]), (["乙", "甲", "丙"], [])])
def test_a_right_choice_that_keeps_its_place(tmp_path: Path, choices: list[str], found: list[str]) -> None:
    rows = [{"question": f"问题{i}", "options": ["甲", "乙", "丙"], "answer": "甲"} for i in range(9)]
    if not found:
        rows = [{**row, "answer": choices[i % 3]} for i, row in enumerate(rows)]
    template = {"prompt": "{{ question }}\n{{ options | join('、') }}\n答：", "completion": "{{ answer }}",
                "choices": "options"}
    columns = {"question": "string", "options": "strings", "answer": "string"}
    said = codes(tmp_path, template, examples=rows, columns=columns, labels={})
    assert [code for code in said if code == "ZT028"] == found


def test_english_has_its_own_punctuation(tmp_path: Path) -> None:
    rows = [{"text": text, "label": row["label"]} for text, row in zip("abcdefgh", ROWS, strict=True)]
    good = {"prompt": "Review: {{ text }}\nIs it good or bad?\nAnswer:", "completion": "{{ verbalizer[label] }}"}
    wide = {**good, "prompt": "Review：{{ text }}\nAnswer:"}
    assert codes(tmp_path / "good", good, examples=rows, **ENGLISH) == []
    assert codes(tmp_path / "wide", wide, examples=rows, **ENGLISH) == ["ZT026"]


def test_an_absent_value_that_prints_as_none_is_unfinished(tmp_path: Path) -> None:
    columns = {"text": "string", "meta": "json", "label": "label"}
    template = prompt("作者：{{ meta.author }}\n评论：{{ text }}\n答：")
    rows = [{**row, "meta": {"author": "老王"}} for row in ROWS]
    assert codes(tmp_path / "a", template, columns=columns, examples=rows) == []
    rows[3]["meta"] = {"author": None}
    assert codes(tmp_path / "b", template, columns=columns, examples=rows) == ["ZT024"]


def test_a_template_that_only_the_sandbox_renders_is_noted(tmp_path: Path) -> None:
    slow = prompt("{% for c in text | list %}{{ c if loop.changed(c) }}{% endfor %}\n答：")
    assert codes(tmp_path / "fast", SOUND) == []
    assert codes(tmp_path / "slow", slow) == ["ZT033"]
