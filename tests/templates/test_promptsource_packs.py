"""Packs out of promptsource's prompts: they say what `apply` says, and the report accounts for every prompt."""

from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_promptsource import write
from zhiling.errors import UserError
from zhiling.templates.origin import render_rows
from zhiling.templates.pack import read_pack
from zhiling.templates.promptsource import apply, compile_prompt, read_promptsource
from zhiling.templates.promptsource_columns import column_types
from zhiling.templates.promptsource_packs import import_prompts, summary
from zhiling.templates.render import compile_template


@pytest.mark.parametrize(("jinja", "choices", "row"), [
    ("{{ text }}? ||| {{ answer_choices[label] }}", "No ||| Yes", {"text": "Hm", "label": 1}),
    ("{% set q = text | upper %}{{ q }}!\n|||\n{{ q }}", None, {"text": "a b"}),
    ("{% if n == 0 %}A {{ text }} ||| one{% else %}B ||| two{% endif %}", None, {"text": "x", "n": 0}),
    ("Pick: {{ ws | join(\", \") }}. ||| {{ ws[0] }}", "{{ ws | join(\"|||\") }}", {"ws": ["a", "b"]}),
    ("{{ [1, 2, 3] | choice }} {{ [4, 5] | random }}: {{ Text }} ||| ok", None, {"Text": "x"}),
])
def test_a_pack_says_what_apply_says(tmp_path: Path, jinja: str, choices: str | None, row: dict[str, Any]) -> None:
    (prompt,) = read_promptsource(write(tmp_path, jinja, choices))
    (entry,) = import_prompts([prompt], tmp_path / "out")
    assert (entry.outcome, entry.pack, entry.template) == ("pack", "en/tiny_plain", "ask_it")
    pack = read_pack(tmp_path / "out" / "en" / "tiny_plain")
    renamed = {name.lower(): value for name, value in row.items()}
    for i in range(20):
        rendered = render_rows(compile_template(pack, "ask_it"), [renamed], [f"row-{i}"], 7)
        expected = apply(compile_prompt(prompt), row, f"row-{i}", 7)
        assert [rendered.prompts[0], rendered.completions[0].removeprefix(" ")] == expected


@pytest.mark.parametrize(("jinja", "choices", "outcome", "why"), [
    ("{{ a }}", None, "kept", "nothing stands behind a |||"),
    ("{{ a }} ||| {{ l.append(a) }}", None, "kept", "changes a list or mapping in place (.append)"),
    ("{% for a in b %}{{ a }} ||| x{% endfor %}", None, "kept", "||| inside a loop"),
    ("{{ a }} ||| {{ a }} ||| x", None, "kept", "more than one ||| on one way through it"),
    ("{{ a | most_frequent }} ||| x", None, "kept", "uses most_frequent"),
    ("{{ a }} ||| x", "{% if a %}x ||| y{% endif %}", "kept", "its answer choices are made by statements"),
    ("{{ a | pprint }} ||| x", None, "refused", "cannot be imported (No filter named 'pprint'.)"),
])
def test_what_no_pack_can_hold_is_named_with_the_reason(
    tmp_path: Path, jinja: str, choices: str | None, outcome: str, why: str
) -> None:
    entries = import_prompts(read_promptsource(write(tmp_path, jinja, choices)), tmp_path / "out")
    assert summary(entries) == [[outcome, why, 1]]
    assert not (tmp_path / "out").exists()


def test_the_report_says_what_is_called_otherwise(tmp_path: Path) -> None:
    (entry,) = import_prompts(read_promptsource(write(tmp_path, "{{ id }} {{ [1, 2] | choice }}: ||| x")))
    assert entry.mapped == (
        "called ask_it", "column id is id_2", "what promptsource draws by chance is drawn by the row's id",
    )


def test_a_pack_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    prompts = read_promptsource(write(tmp_path, "{{ a }}: ||| x"))
    import_prompts(prompts, tmp_path / "out")
    with pytest.raises(UserError, match="it is there already; give another folder with -o"):
        import_prompts(prompts, tmp_path / "out")


@pytest.mark.parametrize(("source", "kind"), [
    ("{{ a }}", "string"), ("{{ a.split(' ')[0] }}", "string"), ("{{ a[:3] }}", "string"), ("{{ a == 'x' }}", "string"),
    ("{{ a.b }}", "json"), ("{{ a[0] }}", "json"), ("{{ [1, 2][a] }}", "json"), ("{{ [1, 2][a - 1] }}", "json"),
    ("{% for x in a %}{% endfor %}", "json"), ("{{ a | join }}", "json"), ("{{ a == -1 }}", "json"),
    ("{{ a in [1, 2] }}", "json"), ("{{ a * 2 }}", "json"),
])
def test_a_columns_type_is_told_from_its_use(source: str, kind: str) -> None:
    assert column_types([(source, None)]) == {"a": kind}
