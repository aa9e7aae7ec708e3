"""promptsource's prompts, rendered as its `Template.apply(example, truncate=False)` does; written here for the test."""

from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import UserError
from zhiling.templates.engines import Refused
from zhiling.templates.promptsource import apply, compile_prompt, read_promptsource, slug

HEAD = "dataset: tiny\nsubset: plain\ntemplates:\n"


def write(folder: Path, jinja: str, choices: str | None = None, name: str = "Ask it!", tag: str = "!Template") -> Path:
    block = "\n".join("      " + line for line in jinja.split("\n"))
    answers = "null" if choices is None else f"'{choices}'"
    file = folder / "templates.yaml"
    file.write_text(
        f"{HEAD}  abc: {tag}\n    id: abc\n    name: {name}\n    reference: ''\n    answer_choices: {answers}\n"
        f"    metadata: !TemplateMetadata\n      metrics: [Accuracy]\n      languages: [en]\n    jinja: |-\n{block}\n"
    )
    return file


def render(
    folder: Path, jinja: str, row: dict[str, Any], choices: str | None = None, *, marks: bool = False
) -> list[str]:
    (prompt,) = read_promptsource(write(folder, jinja, choices))
    return apply(compile_prompt(prompt, marks), row, "row-1", 7)


@pytest.mark.parametrize(("jinja", "row", "choices", "parts"), [
    ("{{ text }}? ||| {{ answer_choices[label] }}", {"text": "Hm", "label": 1}, "No ||| Yes", ["Hm?", "Yes"]),
    ("{{ text }}\n|||\n\n {{ text }} ", {"text": " a "}, None, ["a", "a"]),
    ("{{ text }} ||| x", {"text": "a ||| b"}, None, ["a ||| b", "x"]),
    ("{{ nothing }}{{ text }}", {"text": "{{ 7 * 7 }}"}, None, ["{{ 7 * 7 }}"]),
    ("{% if a %}{{ a }} ||| {{ b }}{% endif %}", {"a": "", "b": ""}, None, [""]),
    ("{{ answer_choices | join(', ') }}", {"words": ["x", "y |||"]}, "{{ words | join(\"|||\") }}", ["x, y,"]),
    ("{% set l = [] %}{% for w in ws %}{{ l.append(w | upper) or '' }}{% endfor %}{{ l | join('-') }}",
     {"ws": ["a", "b"]}, None, ["A-B"]),
    ("{% set n = namespace(x=0) %}{% for w in ws %}{% set n.x = n.x + w %}{% endfor %}{{ n.x }}",
     {"ws": [1, 2]}, None, ["3"]),
    ("{% for a, b in zip(ws, ws) %}{{ a }}{{ b }}{% endfor %}", {"ws": [1, 2]}, None, ["1122"]),
    ("{{ ws | most_frequent | join }}", {"ws": list("abcba")}, None, ["ab"]),
])
def test_what_apply_gives(
    tmp_path: Path, jinja: str, row: dict[str, Any], choices: str | None, parts: list[str]
) -> None:
    assert render(tmp_path, jinja, row, choices) == parts


def test_marks_around_what_the_row_brought(tmp_path: Path) -> None:
    said = render(tmp_path, "Say {{ text }}. ||| ok", {"text": "x"}, marks=True)
    assert said == ["Say <span style='color: #F08080'>x</span>.", "ok"]


def test_chance_is_drawn_by_the_rows_id(tmp_path: Path) -> None:
    (prompt,) = read_promptsource(write(tmp_path, "{{ ws | choice }} {{ ws | random }} {{ ws | choice }}"))
    compiled, row = compile_prompt(prompt), {"ws": list("abcdefgh")}
    said = [apply(compiled, row, f"row-{i}", 7)[0] for i in range(40)]
    assert said == [apply(compiled, row, f"row-{i}", 7)[0] for i in range(40)]
    assert len(set(said)) > 30 and any(len(set(words.split())) == 3 for words in said)


def test_a_row_stays_as_it_was(tmp_path: Path) -> None:
    row = {"ws": ["a"]}
    assert render(tmp_path, "{{ ws.append('b') or '' }}{{ ws | join }}", row) == ["ab"]
    assert row == {"ws": ["a"]}


@pytest.mark.parametrize(("jinja", "said"), [
    ("{{ ws.append(ws) }}{% for w in ws %}{{ ws.append(w) }}{% endfor %}", "does not render"),
    ("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "says more than"),
    ("{{ 'a' * 1000000000 }}", "makes a value of more than"),
    ("{{ [].__class__ }}{{ [].__class__.__mro__ }}", "does not render"),
    ("{% for i in range(9999) %}{% for j in range(9999) %}{% set x = i %}{% endfor %}{% endfor %}", "takes more than"),
    ("{{ '{0.__class__}'.format(ws) }}", "does not render"),
    ("{{ 'x'.center(1000000000) }}", "calls 'center'"),
    ("{{ range }}", "cannot be printed"),
])
def test_what_would_lead_out_or_take_too_much_is_refused(tmp_path: Path, jinja: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        render(tmp_path, jinja, {"ws": ["a"]})


def test_attributes_with_underscores_are_as_undefined(tmp_path: Path) -> None:
    assert render(tmp_path, "a{{ 'x'.format.__globals__ }}{{ ws.__class__ }}", {"ws": []}) == ["a"]


@pytest.mark.parametrize("jinja", [
    "{% include '/etc/passwd' %}", "{% import 'x' as y %}", "{% macro f() %}{% endmacro %}", "{{ x | pprint }}",
    "{% for a in b recursive %}{% endfor %}", "{{ unclosed",
])
def test_what_prompts_do_not_have_is_refused_before_it_runs(tmp_path: Path, jinja: str) -> None:
    (prompt,) = read_promptsource(write(tmp_path, jinja))
    with pytest.raises(UserError, match=r"templates.yaml:4: templates.abc: cannot be imported"):
        compile_prompt(prompt)


def test_only_promptsources_own_tags_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, "x", tag="!!python/object/apply:os.system")
    with pytest.raises(UserError, match="not valid YAML"):
        read_promptsource(file)


def test_a_folder_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no templates.yaml in it; give promptsource's folder of templates"):
        read_promptsource(tmp_path)


@pytest.mark.parametrize(("name", "plain"), [
    ("Ask it!", "ask_it"), ("6 words", "t_6_words"), ("Où?", "ou"), ("x" * 80, "x" * 60), ("中文", "t"),
])
def test_names_in_our_alphabet(name: str, plain: str) -> None:
    assert slug(name) == plain
