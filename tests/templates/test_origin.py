"""Who wrote what: each character of a prompt is the template's, the row's, or made of both."""

from pathlib import Path
from typing import Any

import pytest

from tests.templates.strategies import make_pack
from zhiling.templates.origin import Span, render_spans, template_words
from zhiling.templates.pack import load_pack, pack_names
from zhiling.templates.render import compile_template

ROW = {"text": "好{{用}}", "label": "positive"}


def spans(folder: Path, row: dict[str, Any] = ROW, **template: Any) -> list[tuple[str, str]]:
    pack = make_pack(folder, {"completion": "{{ verbalizer[label] }}", **template})
    _, (found,) = render_spans(compile_template(pack, "t0"), [row], ["a"], 0)
    return [(span.text, span.origin) for span in found]


@pytest.mark.parametrize(("prompt", "found"), [
    ("评：{{ text }}。", [("评：", "template"), ("好{{用}}", "row"), ("。", "template")]),
    ("{{ text | upper }}{{ text[0] }}！", [("好{{用}}好", "row"), ("！", "template")]),
    ("{{ verbalizer[label] }}：", [("正面：", "template")]),
    ("{{ text ~ '啊' }}：", [("好{{用}}啊", "mixed"), ("：", "template")]),
    ("{% for c in text | list %}{{ c }}-{% endfor %}：", [
        ("好", "row"), ("-", "template"), ("{", "row"), ("-", "template"), ("{", "row"), ("-", "template"),
        ("用", "row"), ("-", "template"), ("}", "row"), ("-", "template"), ("}", "row"), ("-：", "template"),
    ]),
    ("{% set x = text %}{{ x }}：", [("好{{用}}", "row"), ("：", "template")]),
    ("{{ text | length }} 字：", [("6 字：", "template")]),
])
def test_each_character_has_an_origin(tmp_path: Path, prompt: str, found: list[tuple[str, str]]) -> None:
    assert spans(tmp_path, prompt=prompt) == found


def test_system_words_and_turns_have_origins_too(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "看：{{ text }}"}, {"role": "assistant", "content": "嗯"},
             {"role": "user", "content": "夸？"}]
    assert spans(tmp_path, turns=turns, system="你是客服。") == [
        ("你是客服。\n用户：看：", "template"), ("好{{用}}", "row"), ("\n助手：嗯\n用户：夸？\n助手：", "template"),
    ]


def test_where_the_marks_stand_in_the_row_nothing_is_guessed(tmp_path: Path) -> None:
    row = {**ROW, "text": "a\ufdd0b"}
    assert spans(tmp_path, row, prompt="评：{{ text }}。") == [("评：a\ufdd0b。", "mixed")]


def test_what_hangs_on_the_text_as_a_whole_is_mixed(tmp_path: Path) -> None:
    said = spans(tmp_path, prompt="{% filter upper %}ab{{ text }}{% endfilter %}：")
    assert "".join(text for text, _ in said) == "AB好{{用}}："


def test_template_words_leave_a_gap_for_the_row() -> None:
    said = [Span("评：", "template"), Span("好", "row"), Span("x", "mixed"), Span("。", "template")]
    assert template_words(said) == "评：\ufffc。"


@pytest.mark.parametrize("name", pack_names())
def test_spans_of_shipped_packs_are_their_prompts(name: str) -> None:
    pack = load_pack(name)
    for template in pack.settings.templates[:4]:
        rendered, found = render_spans(compile_template(pack, template.name), pack.examples[:3], list("abc"), 0)
        assert ["".join(s.text for s in row) for row in found] == rendered.prompts
