"""Rows to prompt, choices and completion: whole batches, sandboxed, every draw keyed by the row's id.

The text of a row is data: nothing in it is ever read as template language. A row that a template does not
want (`when`) is skipped; one that cannot be rendered is refused with a reason. Neither stops the others. Rows
are filled into the skeleton of their shape where there is one (`skeletons.py`), else rendered one by one
(`engines.py`); both give the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zhiling.templates.assemble import ROLES, Message, Rendered, assemble, merged
from zhiling.templates.batch import Refusals, Rows, make_rows
from zhiling.templates.compiled import DELIMITERS, Compiled, compile_template
from zhiling.templates.engines import Refused, Said, render_row
from zhiling.templates.lines import stripped
from zhiling.templates.reading import taken
from zhiling.templates.skeletons import fill, group

__all__ = ["DELIMITERS", "ROLES", "Compiled", "Message", "Rendered", "compile_template", "render_batch"]
Part = tuple[Sequence[int], Rendered]  # the places of some rows in the batch, and what they say


def render_batch(
    compiled: Compiled, columns: Mapping[str, Sequence[Any]], ids: Sequence[str], seed: int
) -> Rendered:
    """Render one row per id. `columns` holds the pack's declared columns, each as long as `ids`."""
    rows, refusals = make_rows(compiled, columns, ids, seed)
    places: Sequence[int] = range(len(ids))
    parts: list[Part] = []
    if refusals:
        parts.append(_refused(refusals))
        places = [i for i in places if i not in refusals]
        rows = rows.some(places)
    alone: list[int] = []
    for members, skeleton, reading in group(compiled, rows):
        if skeleton is None or reading is None:
            alone += members
        elif skeleton.skipped:
            parts.append((taken(places, members), Rendered.blank(len(members), skipped=True)))
        elif (filled := fill(skeleton, reading)) is None:
            alone += members
        else:
            parts.append((taken(places, members), assemble(compiled, *filled)))
    return merged([*parts, *_render_alone(compiled, rows, alone, places)])


def _refused(refusals: Refusals) -> Part:
    """Rows that are refused."""
    return list(refusals), replace(Rendered.blank(len(refusals)), refusals=list(refusals.values()))


def _render_alone(compiled: Compiled, rows: Rows, members: Sequence[int], places: Sequence[int]) -> Iterator[Part]:
    """Render rows one by one."""
    refusals: Refusals = {}
    skipped: list[int] = []
    said: dict[int, Said] = {}
    for i in members:
        try:
            found = render_row(compiled, rows, i)
        except Refused as error:
            refusals[places[i]] = str(error)
            continue
        if found is None:
            skipped.append(places[i])
        else:
            said[places[i]] = found
    if refusals:
        yield _refused(refusals)
    if skipped:
        yield skipped, Rendered.blank(len(skipped), skipped=True)
    if said:
        every = list(said.values())
        texts = {part: [stripped(part, s.texts[part]) for s in every] for part in compiled.texts}
        words = None if every[0].words is None else [list(s.words or ()) for s in every]
        yield list(said), assemble(compiled, texts, words)
