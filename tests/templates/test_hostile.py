"""A pack is a stranger's file: what it may not do is refused when it is read, or contained when it runs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.templates.strategies import make_pack
from zhiling.errors import UserError
from zhiling.settings import MAX_BYTES
from zhiling.templates.budget import BUDGET, STEPS
from zhiling.templates.filters import FILTERS, METHODS
from zhiling.templates.pack import load_pack, read_pack
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

LONG = "字" * 1_000_000


def compiled(folder: Path, prompt: str, **template: Any) -> Compiled:
    made = {"prompt": prompt, "completion": "答", "choices": "none"} | template
    columns = {"text": "string", "options": "strings", "record": "json"}
    pack = make_pack(folder, made, columns=columns, labels={})
    return compile_template(pack, "t0")


def run(template: Compiled, text: str = "一", options: list[str] | None = None, rows: int = 1) -> Rendered:
    """Rows of one shape: alone where there is one, by their skeleton where there are more."""
    record = {"name": text, "many": [1] * 50}
    columns = {"text": [text] * rows, "options": [options or ["甲", "乙"]] * rows, "record": [record] * rows}
    return render_batch(template, columns, [f"r{i}" for i in range(rows)], seed=0)


SEEN_BEFORE = [  # (source, what is said of it)
    (
        "{{ ''.__class__.__mro__ }}",
        "reaches for '__mro__'; names with an underscore first are not for templates",
    ),
    ("{{ text._private }}", "reaches for '_private'"),
    ("{{ text | attr('__class__') }}", "uses the filter 'attr', which packs do not have"),
    ("{{ self._TemplateReference__context }}", "reaches for '_TemplateReference__context'"),
    ("{{ self.block }}", "uses self, which packs do not have"),
    ("{{ cycler.__init__.__globals__ }}", "reaches for '__globals__'"),
    ("{{ cycler('a').next() }}", "calls 'next', which packs do not have"),
    ("{{ cycler }}", "uses the undefined name 'cycler'"),
    ("{{ joiner() }}", "calls 'joiner', which packs do not have"),
    ("{{ lipsum() }}", "calls 'lipsum', which packs do not have"),
    ("{{ namespace(a=1) }}", "calls 'namespace', which packs do not have"),
    ("{% set ns.a = 1 %}", "uses nsref, which packs do not have"),
    ("{{ dict(a=1) }}", "calls 'dict', which packs do not have"),
    ("{{ '{0.__class__}'.format(text) }}", "calls 'format', which packs do not have"),
    ("{{ text.format_map(record) }}", "calls 'format_map', which packs do not have"),
    ("{{ [].append(1) }}", "calls 'append', which packs do not have"),
    ("{% include '/etc/passwd' %}", "uses include, which packs do not have; write it without"),
    ("{% import 'x' as y %}", "uses import, which packs do not have"),
    ("{% from 'x' import y %}", "uses fromimport, which packs do not have"),
    ("{% extends 'x' %}", "uses extends, which packs do not have"),
    ("{% block a %}{% endblock %}", "uses block, which packs do not have"),
    ("{% macro m() %}{{ m() }}{% endmacro %}", "uses macro, which packs do not have"),
    ("{% call x() %}{% endcall %}", "uses callblock, which packs do not have"),
    ("{% autoescape true %}{% endautoescape %}", "uses scope, which packs do not have"),
    ("{% for x in options recursive %}{% endfor %}", "has a recursive loop; simplify it"),
    ("{% for x in text %}" * 5 + "{% endfor %}" * 5, "has 5 loops in one another; simplify it"),
    ("{{ 2 ** 999999999 }}", "uses pow, which packs do not have"),
    ("{{ 'x' | center(999999999) }}", "uses the filter 'center', which packs do not have"),
    ("{{ 'x' | indent(999999999) }}", "uses the filter 'indent', which packs do not have"),
    ("{{ text | urlize }}", "uses the filter 'urlize', which packs do not have"),
    ("{{ text | random }}", "uses the filter 'random', which packs do not have"),
    ("{{ text | regex_replace('(a+)+$', '') }}", "uses the filter 'regex_replace', which packs do not have"),
    ("{{ text is match('(a+)+$') }}", "uses the test 'match', which packs do not have"),
    ("{{ text is callable }}", "uses the test 'callable', which packs do not have"),
    ("{{ " + "(" * 3000, "does not parse (nested too deep); simplify it"),
    ("{{ 1" + "+1" * 3000 + " }}", "is nested too deep; simplify it"),
    (
        "{{ " + "9" * 5000 + " }}",
        "does not parse (Exceeds the limit (4300 digits) for integer string conversi…); simplify it",
    ),
    ("x" * 20_001, "is 20,001 characters long; keep it under 20,000"),
]


@pytest.mark.parametrize(("source", "said"), SEEN_BEFORE, ids=[source[:40] for source, _ in SEEN_BEFORE])
def test_what_can_be_seen_is_refused_when_the_pack_is_read(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        compiled(tmp_path, source)
    assert str(caught.value).startswith(f"{tmp_path}/pack.yaml:") and said in str(caught.value)


@pytest.mark.parametrize("part", ["completion", "system", "rationale", "choices", "when"])
def test_every_part_of_a_template_is_looked_at(tmp_path: Path, part: str) -> None:
    source = "''.__class__" if part in ("choices", "when") else "{{ ''.__class__ }}"
    with pytest.raises(UserError, match=rf"templates\[0\].{part}: template 't0' reaches for '__class__'"):
        compiled(tmp_path, "问：", **{part: source, "parser": {"kind": "text"}})


def doubled(first: str, step: str, last: str) -> str:
    return first + step * 60 + last


CONTAINED = [  # (source, what is said of the row)
    ("{{ 'a' * 1000000000 }}", "makes a value of more than 1,000,000 characters"),
    ("{{ 1000000000 * [1] }}", "makes a value of more than 1,000,000 characters"),
    ("{{ text * 9999999 }}", "makes a value of more than 1,000,000 characters"),
    (doubled("{% set a = 'x' * 999 %}", "{% set a = a ~ a %}", "{{ a }}"), "makes a value of more than"),
    (doubled("{% set a = 'x' * 999 %}", "{% set a = a + a %}", "{{ a }}"), "makes a value of more than"),
    (doubled("{% set a = [1] %}", "{% set a = a + a %}", "{{ a }}"), "takes more than 500,000 steps"),
    (doubled("{% set a = [1] %}", "{% set a = [a, a] %}", "{{ a }}"), "takes more than 500,000 steps"),
    (
        doubled("{% set a = {'k': 1} %}", "{% set a = {'k': a, 'l': a} %}", "{{ a }}"),
        "takes more than 500,000 steps",
    ),
    (
        doubled("{% set a = 'xy' %}", "{% set a %}{{ a }}{{ a }}{% endset %}", ""),
        "makes a value of more than",
    ),
    (
        doubled("{% set a = 99999999999 %}", "{% set a = a * a %}", ""),
        "makes a number of more than 4,096 bits",
    ),
    (
        doubled("{% set a = 'aa' %}", "{% set a = a | replace('a', 'aaaa') %}", ""),
        "makes a value of more than",
    ),
    (doubled("{% set a = 'aa' %}", "{% set a = a.replace('a', 'aaaa') %}", ""), "makes a value of more than"),
    (doubled("{% set a = 'ab' %}", "{% set a = a | list | join(a) %}", ""), "takes more than 500,000 steps"),
    (doubled("{% set a = 'ab' %}", "{% set a = a.join(a) %}", ""), "makes a value of more than"),
    (doubled("{% set a = 'a' %}", "{% set a = '%s%s' | format(a, a) %}", ""), "makes a value of more than"),
    (doubled("{% set a = text %}", "{% set a = a | json %}", ""), "makes a value of more than"),
    (
        doubled("{% set a = text %}", "{% set a = a ~ a %}", "{% if a == 'x' %}{% endif %}"),
        "makes a value of more than",
    ),
    ("{{ range(99999999) | list }}", "makes a list of more than 10,000 items"),
    ("{{ '%999999999d' | format(1) }}", "format takes no widths above 99 here"),
    ("{{ '%*d' | format(999999999, 1) }}", "format takes no widths above 99 here"),
    ("{{ '%999999999d' % 1 }}", "texts are not formatted by %; use ~ or format"),
    ("{{ 5 | round(-999999999) }}", "round needs a precision from -20 to 20, not -999999999"),
    (
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "takes more than 500,000 steps",
    ),
    ("{% for a in range(9999) %}" + "x" * 9999 + "{% endfor %}", "takes more than 500,000 steps"),
    ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "takes more than 500,000 steps"),
    ("{% for a in range(300) %}{{ 'x' * 999 }}{% endfor %}", "says more than 20,"),
    (
        "{% for a in range(9999) %}{% set b = 'a' | upper | lower | title | trim %}{% endfor %}" * 20,
        "takes more than",
    ),
    (
        "{{ range(9999) | map('string') | map('upper') | map('lower') | map('title') | list }}" * 20,
        "takes more than",
    ),
    ("{{ text['__class__'] }}", "has no attribute '__class__'"),
    ("{{ record['__class__'] }}", "has no attribute '__class__'"),
    ("{{ record.update }}", "'update' of a dict is not for templates"),
    ("{{ text.encode }}", "'encode' of a str is not for templates"),
    ("{{ text.split }}", "cannot be printed"),
    ("{{ range }}", "a function cannot be printed"),
    ("{% for a in options %}{{ loop }}{% endfor %}", "a LoopContext cannot be printed"),
    ("{% for a in options %}{{ loop.nope }}{% endfor %}", "no attribute 'nope'"),
    ("{{ [text] | map('nope') | list }}", "No filter named 'nope'"),
    ("{{ [text] | map(attribute='__class__') | first }}", "has no attribute '__class__'"),
]


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(("source", "said"), CONTAINED, ids=[source[:50] for source, _ in CONTAINED])
def test_what_runs_is_contained_and_refused(tmp_path: Path, source: str, said: str, rows: int) -> None:
    rendered = run(compiled(tmp_path, source), rows=rows)
    assert all(said in str(refusal) for refusal in rendered.refusals), rendered.refusals
    assert rendered.prompts == [""] * rows


ON_LONG_ROWS = [
    "{% for a in text %}{{ a }}{% endfor %}",
    "{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}",
    "{{ text | list | join('、') }}", "{{ text | sort | first }}", "{{ text | unique | list }}",
    "{{ text | title }}",
    "{{ text | wordcount }}", "{{ text.split('字') | length }}", "{{ text | replace('字', text) }}",
    "{{ text ~ text }}",
    "{{ text | map('upper') | list | length }}", "{% for i in range(500) %}{{ text }}{% endfor %}",
    "{% for i in range(5000) %}{% if text == text ~ i %}{% endif %}{% endfor %}", "{{ [text, text] }}",
    "{% for i in range(5000) %}{% if 'z' in text %}{% endif %}{% endfor %}",
    "{{ text | json | json | json }}",
    "{% for i in range(5000) %}{% set a = text[1:] %}{% endfor %}",
    "{{ text.join(options) }}{{ text.join(options) }}",
    "{{ ('%' ~ text) | format }}", "{{ (text | replace('字', '% 1')) | format }}",  # what looks for widths is a regex
]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("source", ON_LONG_ROWS)
def test_a_long_row_takes_no_more_than_a_row_may(tmp_path: Path, source: str, rows: int) -> None:
    rendered = run(compiled(tmp_path, source), text=LONG, rows=rows)
    assert all(r and ("more than" in r or "longer than" in r) for r in rendered.refusals), rendered.refusals
    assert STEPS - BUDGET.steps < 12 * STEPS  # what was asked for last was asked for before it was done


def test_a_refused_row_does_not_stop_the_others(tmp_path: Path) -> None:
    template = compiled(tmp_path, "{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}{{ text }}")
    columns = {"text": ["短", LONG, "也短"], "options": [[]] * 3, "record": [1] * 3}
    rendered = render_batch(template, columns, ["a", "b", "c"], seed=0)
    assert rendered.prompts == ["短", "", "也短"]
    assert rendered.refusals == [None, "does not render: takes more than 500,000 steps", None]


def test_no_filter_or_method_leads_out_of_the_template(tmp_path: Path) -> None:
    """Whatever a filter or method gives is a text, a number, a list or a mapping, or cannot be printed."""
    for name in FILTERS:
        (prompt,) = run(compiled(tmp_path, "{{ text | " + name + " }}|{{ options | " + name + " }}")).prompts
        assert "<" not in prompt and "object at" not in prompt, name
    for name in {name for methods in METHODS.values() for name in methods}:
        (prompt,) = run(compiled(tmp_path, "{{ text." + name + "() }}|{{ record." + name + "() }}")).prompts
        assert "built-in" not in prompt and "object at" not in prompt, name


class TestFiles:
    def refused(self, folder: Path, content: bytes) -> str:
        (folder / "pack.yaml").write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_pack(folder)
        said = str(caught.value)
        assert "\n" not in said
        return said.replace(f"{folder}/", "")

    def test_alias_bombs(self, tmp_path: Path) -> None:
        nine = "abcdefghij"
        bomb = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(nine))
        said = self.refused(tmp_path, f"a: &a [x, x]\n{bomb}".encode())
        assert said == "pack.yaml: 81 YAML aliases; use at most 50"
        assert self.refused(tmp_path, b"a: &a [*a]\n").startswith("pack.yaml")

    def test_keys_that_stand_twice(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, b"pack: zh/a\npack: zh/b\n")
        assert said == "pack.yaml:2: key 'pack' stands twice; remove one"

    def test_tags_that_make_objects(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, b"pack: !!python/object/apply:os.system ['true']\n")
        assert said.startswith("pack.yaml:1: not valid YAML (could not determine a constructor for the tag")

    def test_gigantic_files(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, b"#" * (MAX_BYTES + 1))
        assert said == "pack.yaml: 4,194,305 bytes of YAML; keep it under 4,194,304"

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, b"pack: \xff\xfe\n")
        assert said == "pack.yaml: not UTF-8 (byte 6); save it as UTF-8"
        assert self.refused(tmp_path, b"pack: zh\x00\n").startswith("pack.yaml: not valid YAML (")
        assert "half of a surrogate pair" in self.refused(tmp_path, b'pack: "\\ud800"\n')

    def test_nesting_without_end(self, tmp_path: Path) -> None:
        for content in (b"[" * 300_000, b"{a: " * 300_000, b"- " * 300_000):
            assert self.refused(tmp_path, content) == "pack.yaml: nested too deep; flatten it"

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "zh/../../etc", "zh\0x", "", "."])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match="no such pack or folder"):
            load_pack(name, tmp_path)

    def test_too_many_templates(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="List should have at most 300 items"):
            make_pack(tmp_path, *[{"prompt": "一：", "completion": "二"}] * 301)


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("levels", ["[%s]", '{"a": %s}'])
def test_a_row_nested_too_deep_is_refused_and_the_others_go_on(tmp_path: Path, levels: str, rows: int) -> None:
    deep = "1"
    for _ in range(900):
        deep = levels % deep
    template = compiled(tmp_path, "{{ record | json }}")
    columns = {"text": ["一"] * 2 * rows, "options": [[]] * 2 * rows, "record": [deep, "[1]"] * rows}
    rendered = render_batch(template, columns, [f"r{i}" for i in range(2 * rows)], seed=0)
    assert rendered.refusals == ["column 'record' has more than 100 levels", None] * rows
    assert rendered.prompts == ["", "[1]"] * rows
