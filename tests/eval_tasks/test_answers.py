"""What a free text answers, and how right it is."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.eval_tasks.answers import code_in, exact, facts_f1, parse, rouge_l, span_f1
from zhiling.eval_tasks.task import said_by_pack
from zhiling.templates.pack import load_pack, pack_names
from zhiling.templates.render import compile_template, render_batch

TEXT = st.text(st.sampled_from("北京大学 ab，。1"), max_size=8)


@pytest.mark.parametrize(
    ("text", "parser", "answer"),
    [
        ("我觉得是负面，不是正面", {"kind": "first_choice", "choices": ["正面", "负面"]}, "负面"),
        ("看起来正面，其实\n结论：负面", {"kind": "first_choice", "choices": ["正面", "负面"], "line": "last"}, "负面"),
        ("都不是", {"kind": "first_choice", "choices": ["正面"]}, None),
        ("先得 12，再得１，２００.50 元。", {"kind": "last_number"}, "1200.5"),
        ("没有数", {"kind": "last_number"}, None),
        ("I know: yes, not no", {"kind": "first_choice", "choices": ["no", "yes"]}, "yes"),
        ('[注] {"answer": "北京"} 另见 {"answer": "天津"}', {"kind": "json_field", "field": "answer"}, "北京"),
        ('{"answer": {"answer": "北京"}', {"kind": "json"}, None),  # cut short: what is whole in it is no answer
        ('好的：{"answer": "北京", "b": 1}。', {"kind": "json_field", "field": "answer"}, "北京"),
        ("[1, 2]", {"kind": "json_field", "field": "answer"}, None),
        ("{坏了}", {"kind": "json"}, None),
        (" 北京 ", None, "北京"),
    ],
)
def test_answers_are_read_out_of_texts(text: str, parser: dict[str, str] | None, answer: str | None) -> None:
    assert parse(text, parser) == answer


def test_width_case_punctuation_and_spaces_make_no_difference() -> None:
    assert exact("《Ｂｅｉｊｉｎｇ》。", "beijing") == 1.0
    assert exact("", "。") == 0.0
    assert exact(None, "北京") == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [("-5", "5"), ("－5 度", "5 度"), ("3.5", "35"), ("1/2", "12"), ("1 2", "12"), ("BD/+", "BD/-"), ("1 √", "1 ×")],
)
def test_signs_points_and_symbols_make_one(a: str, b: str) -> None:
    assert exact(a, b) == 0.0


def test_how_a_number_is_written_makes_none() -> None:
    assert exact("共 1,234.5 元", "共1234.5元。") == 1.0
    assert exact("\N{MINUS SIGN}5", "-5") == 1.0
    assert exact("第 1、2 段", "第 [1][2] 段") == 1.0


def free_answers(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Each template of a shipped pack whose answers are texts: its name, its parser, what its examples answer."""
    pack = load_pack(name)
    columns = {column: [row[column] for row in pack.examples] for column in pack.settings.columns}
    for template in pack.settings.templates:
        ids = [str(i) for i in range(len(pack.examples))]
        found = render_batch(compile_template(pack, template.name), columns, ids, 42)
        rows = zip(found.completions, found.refusals, found.skipped, found.answers, strict=True)
        answers = sorted({text for text, bad, passed, place in rows if bad is None and not passed and place is None})
        yield template.name, said_by_pack(pack, template.name).get("parser", {}), answers


def test_in_every_shipped_pack_an_answer_is_itself_and_no_other() -> None:
    for name in pack_names():
        for template, parser, answers in free_answers(name):
            said = {text: parse(text, parser) for text in answers}
            for a, b in product(answers, answers):
                assert said[a] is not None, f"{name} {template}: no answer is found in {a!r}"
                same = said[a] == said[b] or a == b
                assert exact(said[a], said[b] or "") == same, f"{name} {template}: {a!r}, {b!r}"
                if parser.get("line") == "last":  # reasoning before it may differ, the answer may not
                    assert same == (a.rpartition("\n")[2] == b.rpartition("\n")[2]), f"{name} {template}: {a!r}, {b!r}"


def test_span_f1_is_cmrcs() -> None:
    assert span_f1("1546年", "在1546年") == pytest.approx(2 * 2 / (2 + 3))
    assert span_f1("北京大学", "北大") == pytest.approx(2 * 1 / 6)  # one run, as published, not a subsequence
    assert rouge_l("北京大学", "北大") == pytest.approx(2 * 2 / 6)


@given(TEXT, TEXT)
def test_scores_lie_between_0_and_1_and_a_text_is_itself(a: str, b: str) -> None:
    for metric in (span_f1, rouge_l, facts_f1):
        assert 0.0 <= metric(a, b) <= 1.0
        assert metric(a, a) == 1.0


def test_facts_are_the_items_of_json_or_lines() -> None:
    wanted = '[{"text": "桑吉", "type": "人"}, {"text": "成都", "type": "地"}]'
    assert facts_f1('[{"type": "人", "text": "桑吉"}]', wanted) == pytest.approx(2 / 3)
    assert facts_f1("成都：地\n桑吉：人", "桑吉：人\n成都：地") == 1.0
    assert facts_f1('{"共": -5}', '{"共": 5}') == facts_f1('[["王父", "亲", "张"]]', '[["王", "父亲", "张"]]') == 0.0


def test_code_is_what_a_fence_holds_or_everything() -> None:
    assert code_in("好的：\n```python\ndef f():\n    return 1\n```\n完") == "def f():\n    return 1\n"
    assert code_in("def f(): ...") == "def f(): ..."
    assert code_in("```\nx = 1") == "x = 1"  # cut short by the length limit
