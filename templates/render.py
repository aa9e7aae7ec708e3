"""Rows to prompt, choices and completion: whole batches, sandboxed, every draw keyed by the row's id.

The text of a row is data: nothing in it is ever read as template language. A row that a template does not
want (`when`) is skipped; one that cannot be rendered is refused with a reason. Neither stops the others. Rows
are filled into the skeleton of their shape where there is one (`skeletons.py`), else rendered one by one
(`engines.py`); both give the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zhiling.templates.assemble import ROLES, Message, Rendered, assemble
from zhiling.templates.batch import Rows, make_rows
from zhiling.templates.compiled import DELIMITERS, Compiled, compile_template
from zhiling.templates.engines import Refused, Said, render_row
from zhiling.templates.skeletons import fill, group

__all__ = ["DELIMITERS", "ROLES", "Compiled", "Message", "Rendered", "compile_template", "render_batch"]


def render_batch(
    compiled: Compiled, columns: Mapping[str, Sequence[Any]], ids: Sequence[str], seed: int
) -> Rendered:
    """Render one row per id. `columns` holds the pack's declared columns, each as long as `ids`."""
    rows, refusals = make_rows(compiled, columns, ids, seed)
    rendered = Rendered.blank(len(ids))
    for i, reason in refusals.items():
        rendered.refusals[i] = reason
    places: Sequence[int] = range(len(ids))
    if refusals:
        places = [i for i in places if i not in refusals]
        rows = rows.some(places)
    alone: list[int] = []
    for members, skeleton, reading in group(compiled, rows):
        if skeleton is None:
            alone += members
        elif skeleton.skipped:
            rendered.skip(places[i] for i in members)
        elif (filled := fill(skeleton, rows.some(members), reading)) is None:
            alone += members
        else:
            rendered.put([places[i] for i in members], assemble(compiled, *filled))
    _render_alone(compiled, rows, alone, places, rendered)
    return rendered


def _render_alone(
    compiled: Compiled, rows: Rows, members: Sequence[int], places: Sequence[int], rendered: Rendered
) -> None:
    """Render rows one by one and put them in their places."""
    said: list[tuple[int, Said]] = []
    for i in members:
        try:
            found = render_row(compiled, rows, i)
        except Refused as error:
            rendered.refusals[places[i]] = str(error)
            continue
        if found is None:
            rendered.skip([places[i]])
        else:
            said.append((places[i], found))
    if said:
        texts = {part: [s.texts[part] for _, s in said] for part in compiled.texts}
        words = None if said[0][1].words is None else [s.words or [] for _, s in said]
        rendered.put([place for place, _ in said], assemble(compiled, texts, words))
