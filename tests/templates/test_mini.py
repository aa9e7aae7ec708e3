"""minijinja renders a template only if it is written for it and says the same of every example."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import minijinja
import pytest

from tests.templates.strategies import make_pack
from zhiling.templates.batch import make_rows
from zhiling.templates.engines import Refused, render_row
from zhiling.templates.mini import OWN_FOR_MINIJINJA, minijinja_for
from zhiling.templates.render import Compiled, compile_template

EXAMPLES = [{"text": "一 a", "label": "negative"}, {"text": "\x1c b\x1f", "label": "positive"}]


def compiled(folder: Path, prompt: str, **changes: Any) -> Compiled:
    template = {"prompt": prompt, "completion": "{{ verbalizer[label] }}"}
    return compile_template(make_pack(folder, template, examples=EXAMPLES, **changes), "t0")


@pytest.mark.parametrize(("prompt", "written_for_it"), [
    ("{{ text }}{% if 'a' in text %}!{% endif %}", True),
    ("{% for c in choices %}{{ loop.index0 | letter }}. {{ c }}{% endfor %}", True),
    ("{{ text | trim | json }}", True),
    ("{{ text.strip() }}", False),
    ("{{ text | sort | join }}", False),
    ("{{ draw / 2 }}", False),
    ("{{ 1.5 }}", False),
    ("{{ [text] }}", False),
    ("{{ choices }}", False),
    ("{% if text is even %}{% endif %}", False),
    ("{{ text if text }}", False),
    ("{% set x = labels %}{{ x }}", False),
    ("{% filter upper %}{{ text }}{% endfilter %}", False),
])
def test_it_takes_what_both_engines_share(tmp_path: Path, prompt: str, written_for_it: bool) -> None:
    assert (minijinja_for(compiled(tmp_path, prompt)) is not None) == written_for_it


def test_filters_that_change_texts_are_jinja2_s_own(tmp_path: Path) -> None:
    """Rust strips other characters than Python does."""
    render = minijinja_for(compiled(tmp_path, "<{{ text | trim }}>"))
    assert render is not None
    values = {"text": "\x1c b\x1f", "label": "negative", "verbalizer": {"negative": "x"}}
    assert render(values)["prompt"] == "<b>"


@pytest.mark.parametrize("what", ["choices[9]", "choices[2:] | first", "[choices[9]]"])
def test_filters_fail_on_what_is_not_there(tmp_path: Path, what: str) -> None:
    """minijinja would hand it over as None, and go on."""
    render = minijinja_for(compiled(tmp_path, "{{ " + what + " | json }}"))
    assert render is not None
    values = {"text": "a", "label": "negative", "verbalizer": {"negative": "x"}, "choices": ["x", "y"]}
    with pytest.raises(ValueError, match="undefined"):
        render(values)


def test_an_example_that_it_cannot_render_is_enough_to_do_without_it(tmp_path: Path) -> None:
    cases = [("{% if text < 'b' %}1{% endif %}", True), ("{{ text | default(value='x') }}", False)]
    for prompt, used in cases:
        template = compiled(tmp_path, prompt)
        rows, _ = make_rows(template, {"text": ["a"], "label": ["negative"]}, ["r"], seed=0)
        with suppress(Refused):
            render_row(template, rows, 0)
        assert (template.learnt.minijinja[0] is not None) == used


def test_its_steps_are_counted(tmp_path: Path) -> None:
    template = compiled(tmp_path, "{% for a in text %}{% for b in text %}x{% endfor %}{% endfor %}")
    render = minijinja_for(template)
    assert render is not None
    with pytest.raises(minijinja.TemplateError, match="ran out of fuel"):
        render({"text": "x" * OWN_FOR_MINIJINJA, "label": "negative", "verbalizer": {"negative": "x"}})


def test_a_long_row_goes_to_the_sandbox(tmp_path: Path) -> None:
    template = compiled(tmp_path, "{% if 'a' in text %}{{ text }}{% endif %}")
    long = "a" * (OWN_FOR_MINIJINJA + 1)
    rows, _ = make_rows(template, {"text": [long], "label": ["negative"]}, ["r"], seed=0)
    said = render_row(template, rows, 0)
    assert said is not None and said.texts["prompt"] == long
