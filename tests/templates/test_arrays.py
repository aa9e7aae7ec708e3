"""Rendering by Arrow arrays: the bytes of rendering by rows, where it is sure of them, and of nothing else."""

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.templates.strategies import columns, make_pack
from zhiling.templates.arrays import Columns, Printed, escaped, render_arrays
from zhiling.templates.batch import order, orders
from zhiling.templates.compiled import Compiled
from zhiling.templates.filters import to_json
from zhiling.templates.pack import load_pack
from zhiling.templates.render import compile_template, render_batch

PACKS = ("zh/sentiment", "zh/topic", "en/sentiment", "zh/nli", "zh/matching")


def arrays(compiled: Compiled, cells: dict[str, list[Any]], ids: list[str]) -> Columns:
    return Columns(compiled.pack, {name: pa.array(cells[name], pa.string()) for name in cells}, ids)


def check(compiled: Compiled, cells: dict[str, list[Any]]) -> Printed | None:
    """What is rendered by arrays is what is rendered by rows; all rows twice, in another order."""
    ids = [f"row-{i}" for i in range(len(next(iter(cells.values()))))]
    rows = np.array([*range(len(ids)), *reversed(range(len(ids)))])
    found = render_arrays(compiled, arrays(compiled, cells, ids), rows, seed=7)
    if found is None:
        return None
    at = rows[found.rows]
    plain = render_batch(compile_template(compiled.pack, compiled.template.name), cells, ids, seed=7)
    assert [plain.refusals[i] for i in at] == [None] * len(at)
    assert not any(plain.skipped[i] or plain.messages[i] for i in at)
    assert found.prompts.to_pylist() == [plain.prompts[i] for i in at]
    assert found.completions.to_pylist() == [plain.completions[i] for i in at]
    assert found.answers.to_pylist() == [plain.answers[i] for i in at]
    if found.words is None:
        assert not any(plain.choices[i] for i in at)
    else:
        shown = [[*range(len(found.words))]] * len(at) if found.orders is None else found.orders.tolist()
        assert [[found.words[k] for k in own] for own in shown] == [plain.choices[i] for i in at]
    return found


@settings(max_examples=12, deadline=None)
@given(data=st.data(), name=st.sampled_from(PACKS))
def test_arrays_say_what_rows_say(data: st.DataObject, name: str) -> None:
    pack = load_pack(name)
    cells = data.draw(columns(pack))
    for template in pack.settings.templates:
        check(compile_template(pack, template.name), cells)


def test_most_templates_of_texts_and_labels_are_rendered_by_arrays() -> None:
    pack = load_pack("zh/topic")
    cells = {name: [row[name] for row in pack.examples] * 12 for name in pack.settings.columns}
    found = {t.name: check(compile_template(pack, t.name), cells) for t in pack.settings.templates}
    whole = [name for name, printed in found.items() if printed and len(printed.rows) == 2 * len(cells["text"])]
    assert len(whole) > len(found) / 2, found.keys() - set(whole)


@pytest.mark.parametrize("template", [
    {"prompt": "{{ text }}", "completion": "好", "choices": "none"},
    {"prompt": "{{ draw % 3 }}{{ text }}", "completion": "{{ verbalizer[label] }}"},
    {"prompt": "{{ choices | join('、') }} {{ text | json }}", "completion": "{{ verbalizer[label] }}",
     "shuffle_choices": True},
    {"prompt": "x", "completion": "{{ text }}", "choices": "none"},
    {"prompt": "{% if '好' in text %}a{% endif %}{{ text }}", "completion": "{{ verbalizer[label] }}"},
    {"prompt": "{{ text | upper }}", "completion": "{{ verbalizer[label] }}"},
    {"prompt": "{{ text }}", "completion": "{{ verbalizer[label] }}", "when": "label == 'positive'"},
    {"prompt": "{{ text }}" * 9, "completion": "{{ verbalizer[label] }}", "delimiter": "\n"},
])
def test_rows_of_all_kinds(tmp_path: Any, template: dict[str, Any]) -> None:
    """Empty, padded, long and escaped texts, nulls and unknown labels are left to rows."""
    compiled = compile_template(make_pack(tmp_path, template), "t0")
    texts = ["很好", "", " 前", "后\u3000", "\x1f", '"引"\\\n中', "a\u00a0", "长" * 3_000, "长" * 11_000, "\x00", "é😊"]
    cells = {"text": texts * 2, "label": ["positive"] * len(texts) + ["negative"] * len(texts)}
    check(compiled, cells)
    ids = [f"row-{i}" for i in range(22)]
    odd = {"text": [None, *cells["text"][1:]], "label": [*cells["label"][:-1], "unheard of"]}
    found = render_arrays(compiled, arrays(compiled, odd, ids), np.arange(22), seed=7)
    assert found is None or not {0, 21} & set(found.rows.tolist())


def test_spaces_are_those_of_python() -> None:
    every = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000]
    pack = load_pack("zh/sentiment")
    for texts in ([c + "x" for c in every], ["x" + c for c in every]):
        found = Columns(pack, {"text": pa.array(texts), "label": pa.repeat("positive", len(texts))}, texts).plain
        assert found.tolist() == [own == own.strip() for own in texts]


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_json_is_that_of_the_filter(texts: list[str]) -> None:
    assert [f'"{own}"' for own in escaped(pa.array(texts, pa.string())).to_pylist()] == list(map(to_json, texts))


def test_a_part_of_some_texts_is_escaped_as_they_are_and_nulls_stay() -> None:
    texts = pa.array(['"a"', "b", None, "c\\", '"', None])
    assert escaped(texts).to_pylist() == ['\\"a\\"', "b", None, "c\\\\", '\\"', None]
    assert escaped(texts.slice(1, 3)).to_pylist() == ["b", None, "c\\\\"]
    assert escaped(texts.slice(0, 0)).to_pylist() == []


@given(st.integers(1, 20), st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_many_orders_at_once(count: int, numbers: list[int]) -> None:
    assert orders(count, np.array(numbers, np.uint64)).tolist() == [list(order(count, n)) for n in numbers]
