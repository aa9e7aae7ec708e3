"""Filling in skeletons gives what Jinja2 gives, whatever a template does; what it looks at is not unread."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.templates.strategies import columns, make_pack
from tests.templates.test_engines import check_all_ways
from zhiling.templates.batch import make_rows
from zhiling.templates.render import Compiled, compile_template
from zhiling.templates.skeletons import group

COLUMNS = {
    "text": "string", "other": "string", "label": "label", "options": "strings", "spans": "spans",
    "record": "json",
}
EXAMPLE = {
    "text": "一段文字", "other": "another", "label": "negative", "options": ["甲", "乙", "丙"],
    "spans": [{"start": 3, "text": "北京", "label": "LOC"}, {"start": 0, "text": "Li", "label": "PER"}],
    "record": {"name": "张三", "age": 30, "tags": ["a", "b"], "none": None, "yes": True, "inner": {"x": 1.5}},
}
HEALTH = [HealthCheck.too_slow]
FRAGMENTS = [
    "{{ text }}", "{{ other }}。", "100%", "%s", "{{ text | json }}", "{{ text | trim }}",
    "{{ text | upper }}",
    "{{ text ~ other }}", "{{ text[:3] }}", "{{ text[0] }}", "{{ text | length }}",
    "{{ text | replace('a', other) }}",
    "{{ text.strip() }}", "{{ text.split() | join('/') }}", "{{ text.replace(other, '') }}",
    "{{ (text + other) | lower }}",
    "{{ text * 2 }}", "{{ 2 * text }}", "{{ text | default('x') }}", "{{ text | default('空', true) }}",
    "{{ text | first }}",
    "{{ text | list | length }}", "{{ text | reverse }}", "{{ text | title }}", "{{ text | int }}",
    "{{ text | wordcount }}",
    "{% if text %}有{% else %}无{% endif %}", "{% if text == other %}同{% endif %}",
    "{% if 'a' in text %}a{% endif %}",
    "{% if text | length > 3 %}长{% endif %}", "{% if text.startswith('a') %}a{% endif %}",
    "{% if text is string %}s{% endif %}",
    "{% if text is defined %}d{% endif %}", "{% if text is sequence %}q{% endif %}",
    "{% if text is none %}n{% endif %}",
    "{% if text < other %}<{% endif %}", "{{ text or other }}", "{{ text and other }}", "{{ not text }}",
    "{% if text in options %}在{% endif %}", "{% if text not in other %}不在{% endif %}",
    "{{ [text, other] | join(' ') }}",
    "{{ [text, other] | json }}", "{{ {'a': text, 'b': [other, 1]} | json }}", "{{ [text, 1, none, true] }}",
    "{{ {text: 1} }}", "{{ {'x': text}.x }}", "{{ {'x': text}['y'] }}", "{{ [text, other][1] }}",
    "{{ (text, other) | first }}",
    "{% for c in text %}{{ c }}.{% endfor %}",
    "{% for o in options %}{{ loop.index0 | letter }}. {{ o }}\n{% endfor %}",
    "{% for o in options %}{{ o }}{{ '、' if not loop.last }}{% else %}空{% endfor %}",
    "{{ options | join('、') }}",
    "{{ options | length }}", "{{ options | first }}", "{{ options[-1] }}", "{{ options[1:] | join }}",
    "{{ options | sort | join }}",
    "{{ options | unique | list | length }}", "{{ options | unique | join or '无' }}",
    "{% set u = options | unique %}{{ u | join }}/{{ u | join }}", "{% if options | unique %}总{% endif %}",
    "{{ (options[:draw % 3] + ['_'] + options[1:]) | join(' ') }}",
    "{% set s = spans | sort(attribute='start') %}{% for x in s %}{{ loop.previtem.start < x.start if loop.index0 }}"
    "{% endfor %}", "{{ options | reverse | join('-') }}",
    "{{ options | map('upper') | join(',') }}",
    "{{ options | map('length') | sum }}", "{{ options | select('equalto', text) | list | length }}",
    "{{ options | max }}",
    "{{ options | reject('in', [text]) | join }}", "{{ options | json }}", "{{ options }}",
    "{{ options.index(text) }}",
    "{% for o in options if o != text %}{{ o }}{% endfor %}",
    "{% for o in options %}{{ loop.changed(o) }}{% endfor %}",
    "{% for o in options %}{{ loop.cycle('单', '双') }}{{ '' if loop.first else loop.previtem }}{% endfor %}",
    "{% for s in spans %}{{ s.text }}（{{ s.label }}，{{ s.start }}）{% endfor %}",
    "{{ spans | map(attribute='text') | join('、') }}",
    "{{ spans | selectattr('label', 'equalto', 'PER') | map(attribute='text') | join }}",
    "{{ spans | json }}", "{{ spans[0].text }}",
    "{% for s in spans if s.label == 'LOC' %}{{ s.text }}{% endfor %}",
    "{{ spans | sort(attribute='start') | map(attribute='text') | join }}",
    "{{ spans | join(';', attribute='text') }}", "{{ spans[0].start + 1 }}",
    "{{ spans | sum(attribute='start') }}",
    "{% for k, v in record.items() %}{{ k }}={{ v }};{% endfor %}", "{{ record.name }}{{ record['age'] }}",
    "{{ record | json }}",
    "{{ record.tags | join('+') }}", "{% if record.none is none %}无{% endif %}", "{{ record.inner.x }}",
    "{{ record.get('no', text) }}",
    "{{ draw % 2 }}", "{{ draw % 9000 + 1000 }}", "{{ draw }}", "{{ labels[draw % labels | length] }}",
    "{{ draw // 2 % 3 }}",
    "{% for l in labels %}{{ labels[(loop.index0 + draw) % 2] }}{% endfor %}", "{{ (draw - 3) % 4 }}",
    "{{ draw * 3 % 5 }}",
    "{% if draw % 3 == 1 %}一{% elif draw % 3 == 2 %}二{% endif %}", "{{ -draw % 7 }}", "{{ draw / 2 }}",
    "{{ options[draw % 5] }}",
    "{{ verbalizer[label] }}", "{{ label }}", "{% if label == labels[0] %}负{% endif %}",
    "{{ choices | join('还是') }}",
    "{% for c in choices %}{{ loop.index }}{{ c }}{% endfor %}", "{{ choices.index(verbalizer[label]) }}",
    "{{ choices[draw % 2] }}",
    "{% set x = text %}{{ x }}{{ x | length }}", "{% set x %}{{ text }}!{% endset %}{{ x | upper }}",
    "{% set x = [text] %}{{ x[0] }}",
    "{% filter upper %}{{ text }}a{% endfilter %}", "{{ text | truncate(4) }}",
    "{{ '%s-%s' | format(text, label) }}", "{{ 7 // 2 }}",
    "{{ range(options | length) | join }}", "{{ text | string | replace('\n', ' ') }}",
    "{{ text | json | json }}",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pack")


@pytest.fixture(scope="module")
def fragments(tmp_path_factory: pytest.TempPathFactory) -> list[Compiled]:
    """A template for each fragment."""
    templates = [{"prompt": f"问：{f}答：", "completion": "{{ verbalizer[label] }}"} for f in FRAGMENTS]
    pack = make_pack(tmp_path_factory.mktemp("fragments"), *templates, columns=COLUMNS, examples=[EXAMPLE])
    return [compile_template(pack, template.name) for template in pack.settings.templates]


@settings(max_examples=10, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_each_fragment_says_what_jinja2_says(fragments: list[Compiled], data: st.DataObject) -> None:
    cells = data.draw(columns(fragments[0].pack))
    for compiled in fragments:
        check_all_ways(compiled, cells)


@pytest.mark.long
@settings(max_examples=2_000, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_each_fragment_says_what_jinja2_says_for_long(fragments: list[Compiled], data: st.DataObject) -> None:
    cells = data.draw(columns(fragments[0].pack))
    for compiled in fragments:
        check_all_ways(compiled, cells)


@st.composite
def template(draw: st.DrawFn) -> dict[str, Any]:
    pieces = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map("".join)
    made: dict[str, Any] = {"prompt": "问：" + draw(pieces) + "答：", "completion": "{{ verbalizer[label] }}"}
    made |= draw(st.sampled_from([
        {}, {"shuffle_choices": True}, {"choices": "options", "completion": "{{ options[0] }}"},
        {"choices": "none"}, {"choices": "['甲', '乙', '丙'][:options | unique | list | length]"},
        {"choices": "options | reject('equalto', text) | list", "completion": "{{ choices[0] }}",
         "shuffle_choices": True},
        {"choices": ["一", "二", "三", "四", "五", "六"], "completion": "{{ choices[draw % 6] }}",
         "shuffle_choices": True},
        {"choices": {"negative": "差", "positive": "好"}}, {"inverted": True, "completion": "{{ text }}"},
        {"when": "text"}, {"when": "options | length > 1 and draw % 2"}, {"when": "'a' in text"},
        {"system": "{{ label }}：", "delimiter": "\n"},
        {"rationale": "因为{{ other }}", "parser": {"kind": "text"}},
    ]))
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_skeletons_say_what_jinja2_says(folder: Path, data: st.DataObject) -> None:
    pack = make_pack(folder, data.draw(template()), columns=COLUMNS, examples=[EXAMPLE])
    check_all_ways(compile_template(pack, "t0"), data.draw(columns(pack)))


def test_each_shape_is_told_apart_by_remainders_of_its_own(folder: Path) -> None:
    """Lists of five and of seven have 5 + 7 skeletons, not 2 * 35."""
    made = {"prompt": "{{ options[draw % options | length] }}", "completion": "{{ verbalizer[label] }}"}
    compiled = compile_template(make_pack(folder, made, columns=COLUMNS, examples=[EXAMPLE]), "t0")
    cells = {name: [value] * 480 for name, value in EXAMPLE.items()}
    cells["options"] = [list("abcdefg"[: 5 + i % 2 * 2]) for i in range(480)]
    rows, _ = make_rows(compiled, cells, [str(i) for i in range(480)], seed=1)
    found = list(group(compiled, rows))
    assert sum(len(members) for members, _, _ in found) == 480
    assert sum(skeleton is not None for _, skeleton, _ in found) == 12


@pytest.mark.parametrize(("prompt", "by_labels"), [
    ("{% for s in spans %}{{ s.text }}（{{ s.label }}）{% endfor %}", False),
    ("{{ spans | selectattr('label', 'equalto', 'PER') | map(attribute='text') | join }}", True),
])
def test_labels_of_spans_tell_rows_apart_only_where_the_template_goes_by_them(
    folder: Path, prompt: str, by_labels: bool
) -> None:
    made = {"prompt": f"找：{prompt}", "completion": "{{ verbalizer[label] }}"}
    compiled = compile_template(make_pack(folder, made, columns=COLUMNS, examples=[EXAMPLE]), "t0")
    cells = {name: [value] * 360 for name, value in EXAMPLE.items()}
    cells["spans"] = [[{"start": 0, "text": "北京", "label": ("PER", "LOC", "ORG")[i % 3]}] for i in range(360)]
    check_all_ways(compiled, cells)
    rows, _ = make_rows(compiled, cells, [str(i) for i in range(360)], seed=1)
    assert compiled.learnt.goes_by_labels == by_labels
    assert len(list(group(compiled, rows))) == (3 if by_labels else 1)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_skeletons_say_what_jinja2_says_for_long(folder: Path, data: st.DataObject) -> None:
    pack = make_pack(folder, data.draw(template()), columns=COLUMNS, examples=[EXAMPLE])
    check_all_ways(compile_template(pack, "t0"), data.draw(columns(pack)))
