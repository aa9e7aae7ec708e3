"""Rows one by one: in Jinja2's sandbox, or in minijinja where it has been shown to say the same.

In: rows that fit their pack. Out: each row's texts and choices, or why there are none. minijinja renders a template
only if it is written in the part of the language that both engines share to the letter and if both give the same
bytes on all of the pack's examples. It counts its own steps and only gets rows too short to make much of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhiling.errors import one_line
from zhiling.templates.batch import Rows, order
from zhiling.templates.compiled import Compiled
from zhiling.templates.sandbox import BUDGET, ERRORS


class Refused(Exception):  # noqa: N818 - a row is refused; nothing went wrong
    """A row that a template cannot render, and why."""


@dataclass(frozen=True)
class Said:
    """What a template says for a row."""

    texts: Mapping[str, str]
    words: Sequence[str] | None  # the choices, as shown


def render_row(compiled: Compiled, rows: Rows, i: int) -> Said | None:
    """The i-th row's texts; None where the template does not want the row. Raises Refused."""
    values = {**{name: column[i] for name, column in rows.columns.items()}, **compiled.names}
    if compiled.draws:
        values["draw"] = rows.draws[i]
    BUDGET.start()
    try:
        when, chosen = compiled.expressions.get("when"), compiled.expressions.get("choices")
        if when and not when(values | {"choices": []}):
            return None
        words = compiled.words
        if chosen:
            words = [str(word).strip() for word in chosen(values | {"choices": []})]
        if words is not None and compiled.template.shuffle_choices:
            words = [words[k] for k in order(len(words), rows.orders[i])]
        values["choices"] = list(words or [])
        return Said({part: "".join(map(str, text(values))) for part, text in compiled.texts.items()}, words)
    except ERRORS as error:
        raise Refused(f"does not render: {one_line(str(error))}") from None
