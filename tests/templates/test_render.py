"""What a template says for a row: prompts, completions, choices, conversations, and rows that get nothing."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.templates.strategies import NASTY, TEXT, columns, make_pack
from zhiling.templates.pack import load_pack
from zhiling.templates.render import Rendered, compile_template, render_batch

PLAIN = {"prompt": "{{ text }}\n感情：", "completion": "{{ verbalizer[label] }}"}
QUOTED = {
    "prompt": 'text = {{ text | json }}\nJSON:',
    "completion": '{"quote": {{ text | json }}, "label": {{ label | json }}}',
    "choices": "none",
}


def render(
    folder: Path, template: dict[str, Any], rows: list[dict[str, Any]] | None = None, **changes: Any
) -> Rendered:
    rows = rows or [{"text": "很好用", "label": "positive"}]
    pack = make_pack(folder, template, **changes)
    cells = {name: [row[name] for row in rows] for name in pack.settings.columns}
    return render_batch(compile_template(pack, "t0"), cells, [f"row-{i}" for i in range(len(rows))], seed=7)


def test_a_row_becomes_a_prompt_its_completion_and_choices(tmp_path: Path) -> None:
    rendered = render(tmp_path, PLAIN)
    assert (rendered.prompts, rendered.completions) == (["很好用\n感情："], ["正面"])
    assert (rendered.choices, rendered.answers) == ([["负面", "正面"]], [1])
    assert (rendered.messages, rendered.refusals, rendered.skipped) == ([None], [None], [False])


def test_english_completions_and_choices_start_with_a_space(tmp_path: Path) -> None:
    english = {"language": "en", "pack": "en/trial", "labels": {"negative": "bad", "positive": "good"}}
    rendered = render(tmp_path, {**PLAIN, "prompt": "{{ text }}\nIt is: "}, **english)
    assert (rendered.prompts, rendered.completions) == (["很好用\nIt is:"], [" good"])
    assert rendered.choices == [[" bad", " good"]]


def test_a_template_may_have_its_own_delimiter(tmp_path: Path) -> None:
    rendered = render(tmp_path, {**PLAIN, "delimiter": "\n"})
    assert (rendered.completions, rendered.choices) == (["\n正面"], [["\n负面", "\n正面"]])


def test_a_template_may_have_its_own_words(tmp_path: Path) -> None:
    rendered = render(tmp_path, {**PLAIN, "choices": {"negative": "差", "positive": "好"}})
    assert (rendered.completions, rendered.choices, rendered.answers) == (["好"], [["差", "好"]], [1])


def test_choices_may_come_with_the_row(tmp_path: Path) -> None:
    template = {"prompt": "{% for c in choices %}{{ loop.index0 | letter }}. {{ c }}\n{% endfor %}答：",
                "completion": "{{ options[1] }}", "choices": "options"}
    rows = [{"options": [" 甲 ", "乙"]}, {"options": ["丙", "丁", "戊"]}]
    rendered = render(tmp_path, template, rows, columns={"options": "strings"}, labels={})
    assert rendered.prompts == ["A. 甲\nB. 乙\n答：", "A. 丙\nB. 丁\nC. 戊\n答："]
    assert (rendered.choices, rendered.answers) == ([["甲", "乙"], ["丙", "丁", "戊"]], [1, 1])


def test_shuffled_choices_take_every_order_about_as_often(tmp_path: Path) -> None:
    template = {**PLAIN, "prompt": "{{ choices | join }}：", "shuffle_choices": True}
    rendered = render(tmp_path, template, [{"text": "x", "label": "positive"}] * 400)
    assert 150 < rendered.prompts.count("负面正面：") < 250
    assert 150 < rendered.answers.count(0) < 250
    assert all(c and c[a or 0] == "正面" for c, a in zip(rendered.choices, rendered.answers, strict=True))


def test_one_label_of_several_columns(tmp_path: Path) -> None:
    template = {"prompt": "{{ labels.topic | join('、') }}：",
                "completion": "{{ verbalizer.topic[topic] }}，{{ verbalizer.opinion[opinion] }}"}
    rendered = render(
        tmp_path, template, [{"topic": "a", "opinion": "c"}], columns={"topic": "label", "opinion": "label"},
        labels={"topic": {"a": "甲", "b": "乙"}, "opinion": {"c": "丙"}},
    )
    assert (rendered.prompts, rendered.completions, rendered.choices) == (["a、b："], ["甲，丙"], [None])


def test_inverted_templates_and_free_text_have_no_choices(tmp_path: Path) -> None:
    template = {"inverted": True, "prompt": "写{{ verbalizer[label] }}评论：", "completion": "{{ text }}"}
    inverted = render(tmp_path, template)
    assert (inverted.completions, inverted.choices, inverted.answers) == (["很好用"], [None], [None])
    free = render(tmp_path, {**PLAIN, "choices": "none"})
    assert (free.completions, free.choices) == (["正面"], [None])


def test_reasoning_stands_before_the_answer(tmp_path: Path) -> None:
    rendered = render(tmp_path, {
        "prompt": "{{ choices | join('、') }}", "rationale": "因为说了“{{ text }}”。\n",
        "completion": "所以是{{ verbalizer[label] }}", "parser": {"kind": "first_choice"},
    })
    assert rendered.prompts == ["负面、正面"]
    assert (rendered.completions, rendered.choices) == (["因为说了“很好用”。\n所以是正面"], [None])


def test_a_system_prompt_makes_a_conversation(tmp_path: Path) -> None:
    rendered = render(tmp_path, {**PLAIN, "system": "只答两个字。\n"})
    assert rendered.prompts == ["只答两个字。\n用户：很好用\n感情：\n助手："]
    assert rendered.messages == [[
        {"role": "system", "content": "只答两个字。"}, {"role": "user", "content": "很好用\n感情："},
        {"role": "assistant", "content": "正面"},
    ]]
    assert (rendered.completions, rendered.choices) == (["正面"], [["负面", "正面"]])


def test_turns_make_a_conversation(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi {{ label }}"}, {"role": "assistant", "content": "100%"},
             {"role": "user", "content": "{{ text }}?"}]
    english = {"language": "en", "pack": "en/trial"}
    rendered = render(tmp_path, {"turns": turns, "completion": "{{ verbalizer[label] }}"}, **english)
    assert rendered.prompts == ["User: hi positive\nAssistant: 100%\nUser: 很好用?\nAssistant:"]
    assert rendered.completions == [" 正面"]
    (messages,) = rendered.messages
    assert messages is not None and messages[-1] == {"role": "assistant", "content": "正面"}


def test_json_columns_are_read_from_text_as_tables_hold_it(tmp_path: Path) -> None:
    template = {"prompt": "{{ record.a[0] }}：", "completion": "{{ record | json }}"}
    rows = [{"record": '{"a": ["甲", 1]}'}, {"record": {"a": ["乙"]}}, {"record": "{"}, {"record": "[NaN]"}]
    rendered = render(tmp_path, template, rows, columns={"record": "json"}, labels={})
    assert rendered.completions == ['{"a":["甲",1]}', '{"a":["乙"]}', "", ""]
    assert rendered.refusals == [None, None, "column 'record' is not JSON", "column 'record' is not JSON"]


def test_rows_that_a_template_does_not_want_are_skipped(tmp_path: Path) -> None:
    rows = [{"text": text, "label": "negative"} for text in ("有", "", "有", "", "有")]
    rendered = render(tmp_path, {**PLAIN, "when": "text"}, rows)
    assert rendered.skipped == [False, True, False, True, False]
    assert rendered.refusals == [None] * 5
    assert rendered.prompts == ["有\n感情：", "", "有\n感情：", "", "有\n感情："]


def test_rows_that_cannot_be_rendered_are_refused_with_the_reason(tmp_path: Path) -> None:
    texts = [None, 3, "", "x"]
    rows = [{"text": "x", "label": "positiv"}, *({"text": text, "label": "positive"} for text in texts)]
    rendered = render(tmp_path, {**PLAIN, "prompt": "{{ text }}"}, rows)
    assert rendered.refusals == [
        "'positiv' is no label; did you mean 'positive'?", "column 'text' is null",
        "column 'text' is a int, not a text",
        "empty prompt", None,
    ]
    assert rendered.prompts == ["", "", "", "", "x"] and rendered.choices[:4] == [None] * 4


def test_answers_that_are_not_among_the_choices_are_refused(tmp_path: Path) -> None:
    options = {"columns": {"options": "strings"}, "labels": {}}
    template = {"prompt": "选：", "completion": "{{ options[0] }}", "choices": "options[1:]"}
    rows = [{"options": list(options)} for options in ("甲甲乙", "甲乙", "甲甲甲", "")]
    assert render(tmp_path, template, rows, **options).refusals == [
        None, "completion '甲' is not among the choices", "choices repeat",
        "does not render: list object has no element 0",
    ]


def test_what_stands_empty_is_named(tmp_path: Path) -> None:
    for template, said in [
        ({**PLAIN, "completion": "{{ text[9:] }}", "choices": "none"}, "empty completion"),
        ({**PLAIN, "system": " {{ text[9:] }} "}, "empty system"),
        (
            {"turns": [{"role": "user", "content": "{{ text[9:] }}"}], "completion": "x", "choices": "none"},
            "empty turn 1",
        ),
    ]:
        assert render(tmp_path, template).refusals == [said]


def test_draws_are_keyed_by_seed_pack_template_and_row(tmp_path: Path) -> None:
    template = {**PLAIN, "prompt": "{{ labels[draw % labels | length] }}{{ draw % 1000 }}"}
    pack = make_pack(tmp_path, template, {**template, "name": "other"})
    cells = {"text": ["x"] * 6, "label": ["positive"] * 6}
    ids = [f"row-{i}" for i in range(6)]
    first = render_batch(compile_template(pack, "t0"), cells, ids, seed=7).prompts
    assert first == render_batch(compile_template(pack, "t0"), cells, ids, seed=7).prompts
    assert first[::-1] == render_batch(compile_template(pack, "t0"), cells, ids[::-1], seed=7).prompts
    assert first != render_batch(compile_template(pack, "t0"), cells, ids, seed=8).prompts
    assert first != render_batch(compile_template(pack, "other"), cells, ids, seed=7).prompts
    assert len(set(first)) > 3


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_row_says_the_same_in_any_company(data: st.DataObject) -> None:
    pack = load_pack("zh/city_events")
    cells = data.draw(columns(pack))
    ids = [f"row-{i}" for i in range(len(cells["text"]))]
    for template in pack.settings.templates:
        together = render_batch(compile_template(pack, template.name), cells, ids, seed=7)
        alone = compile_template(pack, template.name)
        for i, row_id in enumerate(ids[:3]):
            one = render_batch(alone, {name: [column[i]] for name, column in cells.items()}, [row_id], seed=7)
            assert (one.prompts[0], one.completions[0], one.refusals[0]) == (
                together.prompts[i], together.completions[i], together.refusals[i],
            )


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXT | st.sampled_from(NASTY), min_size=1, max_size=9))
def test_the_text_of_a_row_is_data(tmp_path_factory: Any, texts: list[str]) -> None:
    """Braces are never read, and quotes and backslashes end no JSON."""
    folder = tmp_path_factory.mktemp("pack")
    rendered = render(folder, QUOTED, [{"text": text, "label": "positive"} for text in texts])
    for text, prompt, completion in zip(texts, rendered.prompts, rendered.completions, strict=True):
        assert json.loads(completion) == {"quote": text, "label": "positive"}
        assert json.loads(prompt.removeprefix("text = ").removesuffix("\nJSON:")) == text
    shown = render(folder, {"prompt": "<{{ text }}>", "completion": "x", "choices": "none"},
                   [{"text": text, "label": "positive"} for text in texts])
    assert shown.prompts == [f"<{text}>" for text in texts]


def test_a_text_of_a_megabyte_is_rendered_where_a_row_may_be_so_long(tmp_path: Path) -> None:
    rows = [{"text": "字" * n, "label": "positive"} for n in (999_000, 999_999)]
    rendered = render(tmp_path, {**PLAIN, "completion": "好", "choices": "none"}, rows)
    assert [len(p) for p in rendered.prompts] == [999_004, 0]
    assert rendered.refusals == [None, "does not render: says more than 1,000,000 characters"]


def test_no_rows_at_all(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, PLAIN)
    assert render_batch(compile_template(pack, "t0"), {"text": [], "label": []}, [], seed=0) == Rendered()
