"""All ways of rendering give the same bytes: skeletons, minijinja, the sandbox, and plain Jinja2."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.render import PlainJinja
from tests.templates.strategies import columns
from zhiling.templates.batch import make_rows
from zhiling.templates.engines import Refused, render_row
from zhiling.templates.pack import load_pack, pack_names
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

SEED = 7
HEALTH = [HealthCheck.too_slow]


def outcomes(rendered: Rendered) -> list[tuple[Any, ...]]:
    r = rendered
    return list(zip(r.prompts, r.completions, r.choices, r.answers, r.messages, strict=True))


def check_all_ways(compiled: Compiled, cells: dict[str, list[Any]]) -> None:
    """A batch, another when more is known of the template, rows one by one in both engines, and plain Jinja2."""
    ids = [f"row-{i}" for i in range(len(next(iter(cells.values()))))]
    batch = render_batch(compiled, cells, ids, SEED)
    assert outcomes(batch) == list(PlainJinja(compiled).rows(cells, ids))
    assert outcomes(batch) == outcomes(render_batch(compiled, cells, ids, SEED))
    rows, refusals = make_rows(compiled, cells, ids, SEED)
    for i in set(range(len(ids))) - refusals.keys():
        assert said(compiled, rows, i, only_sandbox=True) == said(compiled, rows, i, only_sandbox=False)


def said(compiled: Compiled, rows: Any, i: int, only_sandbox: bool) -> Any:
    try:
        return render_row(compiled, rows, i, only_sandbox)
    except Refused as error:
        return str(error)


@pytest.mark.parametrize("name", pack_names())
@settings(max_examples=3, deadline=None, suppress_health_check=HEALTH, phases=[Phase.generate])
@given(data=st.data())
def test_shipped_templates_say_the_same_in_every_engine(name: str, data: st.DataObject) -> None:
    """A few templates of each pack a run; all of them, on many more rows, in the long run below."""
    pack = load_pack(name)
    cells = data.draw(columns(pack))
    names = st.sampled_from([t.name for t in pack.settings.templates])
    for template in data.draw(st.lists(names, min_size=3, max_size=3)):
        check_all_ways(compile_template(pack, template), cells)


@pytest.mark.long
@pytest.mark.parametrize("name", pack_names())
@settings(max_examples=100, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_every_shipped_template_says_the_same_in_every_engine(name: str, data: st.DataObject) -> None:
    pack = load_pack(name)
    cells = data.draw(columns(pack, most=20))
    for template in pack.settings.templates:
        check_all_ways(compile_template(pack, template.name), cells)
