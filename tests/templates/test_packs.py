"""The shipped packs keep their word: JSON stays JSON whatever a row says, spans lie where they say, code runs."""

import json
from contextlib import suppress
from typing import Any

import pytest

from zhiling.templates.pack import Pack, TemplateSettings, load_pack, pack_names
from zhiling.templates.render import compile_template, render_batch

HOSTILE = 'x"}, {{ y }} \\ \n|||"]}\u202e'  # would end a text of JSON, a Jinja2 print, a promptsource half, a line


def spoilt(value: Any) -> Any:
    """`value` with something hostile after each of its texts."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [spoilt(item) for item in value]
    return {key: spoilt(item) for key, item in value.items()} if isinstance(value, dict) else value


def spoilt_rows(pack: Pack) -> dict[str, list[Any]]:
    """The pack's examples with all their texts spoilt; labels and spans stay, as they must fit."""
    fixed = {column for column, kind in pack.settings.columns.items() if kind in ("label", "spans")}
    rows = pack.examples
    return {c: [row[c] if c in fixed else spoilt(row[c]) for row in rows] for c in pack.settings.columns}


def says_json(template: TemplateSettings) -> bool:
    """Whether the whole answer is meant to be JSON."""
    return bool(template.parser and template.parser.kind in ("json", "json_field"))


@pytest.mark.parametrize("name", pack_names())
def test_no_row_can_break_out_of_a_json_answer(name: str) -> None:
    pack = load_pack(name)
    columns, ids = spoilt_rows(pack), [f"row-{i}" for i in range(len(pack.examples))]
    for template in filter(says_json, pack.settings.templates):
        rendered = render_batch(compile_template(pack, template.name), columns, ids, 0)
        answers = [answer for answer in rendered.completions if answer]
        assert answers, f"{template.name}: {rendered.refusals[0]}"
        for answer in answers:
            assert isinstance(json.loads(answer), dict | list), template.name


def test_spans_of_examples_lie_where_they_say() -> None:
    seen = 0
    for pack in map(load_pack, pack_names()):
        for column in (c for c, kind in pack.settings.columns.items() if kind == "spans"):
            for row in pack.examples:
                for span in row[column]:
                    assert row["text"][span["start"] :].startswith(span["text"]), f"{pack.name}: {span}"
                    seen += 1
    assert seen


@pytest.mark.parametrize("row", load_pack("zh/code").examples, ids=lambda row: str(row["name"]))
def test_code_passes_its_tests_and_broken_code_does_not(row: dict[str, str]) -> None:
    right: dict[str, Any] = {}
    exec(row["code"], right)
    exec(row["tests"], right)
    if row["broken"] and row["tests"]:
        wrong: dict[str, Any] = {}
        exec(row["broken"], wrong)
        with suppress(Exception):
            exec(row["tests"], wrong)
            pytest.fail(f"the broken {row['name']} passes")
