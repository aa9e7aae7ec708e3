"""Packs as people write them: what is read, what extends what, and the one line that says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.templates.strategies import make_pack, write_pack
from zhiling.errors import UserError
from zhiling.templates.pack import load_pack, pack_names, read_pack

PLAIN = {"prompt": "{{ text }}\n感情：", "completion": "{{ verbalizer[label] }}"}


def refusal(folder: Path, *templates: dict[str, Any], **changes: Any) -> str:
    """What is said about a pack that is refused, without its folder."""
    with pytest.raises(UserError) as caught:
        make_pack(folder, *(templates or (PLAIN,)), **changes)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", pack_names())
def test_every_shipped_pack_is_read_and_named_by_its_folder(name: str) -> None:
    pack = load_pack(name)
    assert pack.name == name and pack.name.startswith(pack.settings.language)
    assert len(pack.examples) >= 8


def test_a_template_may_be_all_that_the_format_has(tmp_path: Path) -> None:
    pack = make_pack(
        tmp_path,
        {"prompt": "{{ text }}：", "completion": "{{ choices[0] }}", "choices": ["甲", "乙"],
         "kind": "question", "shuffle_choices": True, "delimiter": "\n", "metrics": ["mcc"], "note": "注"},
        {"turns": [{"role": "user", "content": "{{ text }}"}, {"role": "assistant", "content": "嗯"},
                   {"role": "user", "content": "好不好？"}], "completion": "{{ verbalizer[label] }}"},
        {"system": "你是客服。", "prompt": "{{ text }}", "rationale": "因为", "completion": "{{ label }}",
         "parser": {"kind": "json_field", "field": "answer"}, "when": "text | length > 3"},
    )
    first, second, third = pack.settings.templates
    assert first.texts.keys() == {("prompt",), ("completion",)}
    assert list(second.texts) == [*(("turns", i, "content") for i in range(3)), ("completion",)]
    assert third.expressions == {("when",): "text | length > 3"}
    assert (second.chat, third.chat, third.free) == (True, True, True)


def test_labels_stand_for_one_column_or_for_each(tmp_path: Path) -> None:
    one = make_pack(tmp_path / "one", PLAIN)
    assert one.labels_of("label") == {"negative": "负面", "positive": "正面"}
    two = make_pack(
        tmp_path / "two", {"prompt": "{{ text }}", "completion": "{{ verbalizer.topic[topic] }}"},
        columns={"text": "string", "topic": "label", "opinion": "label"},
        labels={"topic": {"stock": "股票"}, "opinion": {"bull": "看多", "bear": "看空"}},
    )
    assert two.label_columns == ("topic", "opinion")
    assert two.labels_of("opinion") == {"bull": "看多", "bear": "看空"}


def test_the_digest_hangs_on_what_is_rendered_alone(tmp_path: Path) -> None:
    digest = make_pack(tmp_path / "a", PLAIN).digest
    assert make_pack(tmp_path / "b", PLAIN, summary="另一句话").digest == digest
    assert make_pack(tmp_path / "c", {**PLAIN, "prompt": "{{ text }}\n情感："}).digest != digest


@pytest.mark.parametrize(("changes", "said"), [
    (
        {"pack": "../trial"},
        "pack.yaml:1: pack: found '../trial'; String should match pattern '^(zh|en)/[a-z][a-z0-9_]*$'",
    ),
    ({"pack": "zh/trial\n"}, "pack.yaml:1: pack: found 'zh/trial\\n'; String should match"),
    ({"version": "1"}, "pack.yaml:2: version: found '1'; String should match"),
    ({"task": "fun"}, "pack.yaml:4: task: found 'fun'; Input should be 'classification', 'nli'"),
    ({"colour": "red"}, "pack.yaml:12: colour: unknown key; did you mean 'columns'?"),
    (
        {"columns": {}},
        "pack.yaml:6: columns: no columns; declare what a row holds, as `{text: string, label: label}`",
    ),
    (
        {"columns": {"draw": "string"}, "labels": {}},
        "pack.yaml:7: columns.draw: 'draw' is a name of zhiling's own; choose another",
    ),
    ({"columns": {"_x": "string"}}, "pack.yaml:7: columns._x.[key]: found '_x'; String should match pattern"),
    (
        {"columns": {"text": "text"}},
        "pack.yaml:7: columns.text: found 'text'; Input should be 'string', 'label'",
    ),
    ({"labels": {}}, "pack.yaml:9: labels: a label column without labels; declare both or none"),
    (
        {"labels": {0: "负面", 1: "正面"}},
        "pack.yaml:9: labels: found {0: '负面', 1: '正面'}; give `label: word` pairs, or such pairs",
    ),
    (
        {"labels": {"other": {"a": "甲"}}},
        "pack.yaml:9: labels: no labels for the column 'label'; write `label: {label: word}`",
    ),
    ({"metrics": ["f1"]}, "pack.yaml:13: metrics[0]: found 'f1'; Input should be 'accuracy', 'f1_macro'"),
])
def test_settings_that_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert refusal(tmp_path, **changes).startswith(said)


@pytest.mark.parametrize(("template", "said"), [
    ({"completion": "x"}, "templates[0]: template 't0' has not just one of prompt and turns; give either"),
    (
        {**PLAIN, "turns": [{"role": "user", "content": "x"}]},
        "templates[0]: template 't0' has not just one of prompt and turns",
    ),
    (
        {"turns": [{"role": "assistant", "content": "x"}], "completion": "y"},
        "template 't0' has turns out of order; let user and",
    ),
    (
        {**PLAIN, "rationale": "x"},
        "template 't0' has a rationale and no parser; say with `parser:` how its answer is found",
    ),
    (
        {**PLAIN, "parser": {"kind": "json_field"}},
        "template 't0' has a parser whose field does not fit; json_field takes a `field`",
    ),
    (
        {**PLAIN, "choices": {"negativ": "差"}},
        "choices.negativ: template 't0' has the unknown label 'negativ'; did you mean 'negative'?",
    ),
    (
        {**PLAIN, "choices": [1, 2]},
        "choices: found [1, 2]; give `label: word` pairs, a list of words, an expression, or none (at most",
    ),
    ({**PLAIN, "choices": {"negative": True}}, "choices: found {'negative': True}; give `label: word` pairs"),
    (
        {**PLAIN, "choices": "options"},
        "choices: template 't0' uses the undefined name 'options'; known: choices, draw, label",
    ),
    (
        {**PLAIN, "choices": "[text"},
        "choices: template 't0' does not parse (unexpected end of template, expected ','.); mend it",
    ),
    (
        {**PLAIN, "completion": "{{ choices[label] }}"},
        "completion: template 't0' looks a label up in `choices`, which is a list; write verbalizer[label]",
    ),
    ({**PLAIN, "when": "text) }}{{ (label"}, "when: template 't0' does not parse (unexpected ')'); mend it"),
    (
        {**PLAIN, "when": "text label"},
        "when: template 't0' does not parse (more follows the expression); mend it",
    ),
    (
        {**PLAIN, "prompt": "{{ text"},
        "prompt: template 't0' does not parse (unexpected end of template, expected 'end of print",
    ),
    (
        {**PLAIN, "prompt": "{{ txt }}"},
        "prompt: template 't0' uses the undefined name 'txt'; did you mean 'text'?",
    ),
    (
        {**PLAIN, "prompt": "{{ text | tojson }}"},
        "prompt: template 't0' uses the filter 'tojson', which packs do not have; use json",
    ),
    ({**PLAIN, "delimiter": "x"}, "delimiter: found 'x'; Input should be '', ' ' or '\\n'"),
    (
        {**PLAIN, "name": "Has Spaces"},
        "name: found 'Has Spaces'; String should match pattern '^[a-z][a-z0-9_]*$'",
    ),
])
def test_templates_that_are_refused(tmp_path: Path, template: dict[str, Any], said: str) -> None:
    assert said in refusal(tmp_path, template)


def test_the_line_of_a_block_is_the_line_that_is_wrong(tmp_path: Path) -> None:
    make_pack(tmp_path, PLAIN)
    path = tmp_path / "pack.yaml"
    head = yaml.safe_load(path.read_text(encoding="utf-8")) | {"templates": []}
    text = yaml.safe_dump(head, allow_unicode=True, sort_keys=False).replace("templates: []\n", "")
    text += "templates:\n  - name: a\n    prompt: |-\n      one\n      {{ txt }}\n    completion: x\n"
    path.write_text(text, encoding="utf-8")
    line = 1 + text[: text.index("{{ txt")].count("\n")
    said = rf"pack.yaml:{line}: templates\[0\].prompt: template 'a' uses the undefined name 'txt'"
    with pytest.raises(UserError, match=said):
        read_pack(tmp_path)


def test_a_name_stands_once(tmp_path: Path) -> None:
    same = {**PLAIN, "name": "same"}
    assert "template 'same' stands twice; rename one" in refusal(tmp_path, same, same)


def test_words_are_for_one_of_several_label_columns(tmp_path: Path) -> None:
    columns = {"text": "string", "topic": "label", "opinion": "label"}
    labels = {"topic": {"a": "甲"}, "opinion": {"b": "乙"}}
    template = {"prompt": "{{ text }}", "completion": "x", "choices": {"a": "一", "b": "二"}}
    said = refusal(tmp_path, template, columns=columns, labels=labels)
    assert "template 't0' has words for labels of several columns; keep to one column's" in said


def test_an_absent_pack_is_named_with_the_nearest(tmp_path: Path) -> None:
    said = "pack 'zh/sentimant': no such pack or folder; did you mean 'zh/sentiment'"
    with pytest.raises(UserError, match=said):
        load_pack("zh/sentimant", tmp_path)


class TestExtends:
    def test_it_has_both_templates_and_the_rest_from_the_base(self, tmp_path: Path) -> None:
        examples = [{"text": "好", "label": "positive"}]
        base = make_pack(tmp_path / "zh" / "trial", PLAIN, examples=examples, metrics=["mcc"])
        more = make_pack(
            tmp_path / "zh" / "more", {**PLAIN, "name": "mine"},
            pack="zh/more", extends="zh/trial", columns={}, labels={},
        )
        assert [t.name for t in more.settings.templates] == ["t0", "mine"]
        assert (more.settings.columns, more.settings.labels) == (base.settings.columns, base.settings.labels)
        assert (more.examples, more.settings.metrics) == (base.examples, ["mcc"])
        assert more.base is not None and more.base.name == "zh/trial"

    def test_a_shipped_pack_can_be_extended_from_anywhere(self, tmp_path: Path) -> None:
        more = make_pack(tmp_path, {**PLAIN, "name": "mine"}, extends="zh/sentiment", columns={}, labels={})
        assert len(more.settings.templates) == len(load_pack("zh/sentiment").settings.templates) + 1

    def test_own_labels_stand_before_the_base_s(self, tmp_path: Path) -> None:
        make_pack(tmp_path / "zh" / "trial", PLAIN)
        more = make_pack(
            tmp_path / "zh" / "more", {**PLAIN, "name": "mine"}, pack="zh/more", extends="zh/trial",
            columns={},
            labels={"negative": "差评", "positive": "好评"},
        )
        assert more.labels_of("label")["negative"] == "差评"

    @pytest.mark.parametrize(("changes", "said"), [
        ({"extends": "zh/none_such"}, "extends: no pack 'zh/none_such'"),
        ({"extends": "../../etc/passwd"}, "extends: found '../../etc/passwd'; String should match pattern"),
        ({"extends": "zh/../../etc"}, "extends: found 'zh/../../etc'; String should match pattern"),
        (
            {"extends": "zh/more"},
            "extends: packs extend one another in a circle (zh/more → zh/more); break it",
        ),
        (
            {"extends": "en/sentiment"},
            "language: en/sentiment is in another language; extend a pack in the same one",
        ),
        (
            {"extends": "zh/trial", "columns": {"body": "string", "label": "label"}},
            "extends: template 't0' uses the undefined name 'text'",
        ),
        (
            {"extends": "zh/trial", "labels": {"bad": "差"}},
            "extends: an example of zh/trial does not fit: 'label' is the unknown label 'positive'",
        ),
    ])
    def test_what_is_refused(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        make_pack(tmp_path / "zh" / "trial", PLAIN, examples=[{"text": "好", "label": "positive"}])
        own = {"prompt": "一：", "completion": "二", "name": "mine", "choices": "none"}
        defaults: dict[str, Any] = {"pack": "zh/more", "columns": {}, "labels": {}}
        assert said in refusal(tmp_path / "zh" / "more", own, **(defaults | changes))

    def test_a_template_of_the_base_s_name_is_refused(self, tmp_path: Path) -> None:
        make_pack(tmp_path / "zh" / "trial", PLAIN)
        said = refusal(tmp_path / "zh" / "more", PLAIN, pack="zh/more", extends="zh/trial")
        assert "templates[0].name: zh/trial has a template 't0' already; rename this one" in said

    def test_circles_and_long_chains_are_refused(self, tmp_path: Path) -> None:
        names = [f"zh/p{i}" for i in range(8)]
        for name, following in zip(names, [*names[1:], names[0]], strict=True):
            settings = {
                "pack": name, "version": "1.0.0", "summary": "s", "task": "classification", "language": "zh",
                "extends": following, "templates": [{"name": name[3:], "prompt": "一", "completion": "二"}],
            }
            write_pack(tmp_path / name, settings)
        with pytest.raises(UserError, match="5 packs extend one another; keep the chain to 5"):
            read_pack(tmp_path / names[0])
        settings["extends"] = "zh/p7"
        write_pack(tmp_path / "zh" / "p7", settings)
        with pytest.raises(UserError, match=r"in a circle \(zh/p6 → zh/p7 → zh/p7\); break it"):
            read_pack(tmp_path / "zh" / "p6")
