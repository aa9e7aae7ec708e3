"""Rows one by one: in Jinja2's sandbox, or in minijinja where it has been shown to say the same.

In: rows that fit their pack. Out: each row's texts and choices, or why there are none. The sandbox is the
measure: minijinja renders a template only if `mini.py` takes it and if both give the same bytes on all
examples of the pack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhiling.errors import one_line
from zhiling.templates.batch import Rows, make_rows, order
from zhiling.templates.budget import BUDGET, choice_words
from zhiling.templates.compiled import Compiled
from zhiling.templates.filters import MAX_CHARACTERS
from zhiling.templates.mini import OWN_FOR_MINIJINJA, Render, minijinja_for
from zhiling.templates.sandbox import ERRORS

Texts = Mapping[str, str]


class Refused(Exception):  # noqa: N818 - a row is refused; nothing went wrong
    """A row that a template cannot render, and why."""


@dataclass(frozen=True)
class Said:
    """What a template says for a row."""

    texts: Texts
    words: Sequence[str] | None  # the choices, as shown


def render_row(compiled: Compiled, rows: Rows, i: int, only_sandbox: bool = False) -> Said | None:
    """The i-th row's texts; None where the template does not want the row. Raises Refused."""
    fast = None if only_sandbox else _fast(compiled)
    try:
        own = rows.own(i)
        BUDGET.start(own)
        values, words = _values(compiled, rows, i)
        if values is None:
            return None
        texts = _by_minijinja(fast, values) if fast and own <= OWN_FOR_MINIJINJA else None
        return Said(texts or _by_sandbox(compiled, values), words)
    except ERRORS as error:
        raise Refused(f"does not render: {one_line(str(error))}") from None


def _values(compiled: Compiled, rows: Rows, i: int) -> tuple[dict[str, Any] | None, Sequence[str] | None]:
    """What the row's texts are given, and its choices; nothing where the template does not want the row."""
    values = {**{name: rows.columns[name][i] for name in compiled.columns}, **compiled.names, "choices": []}
    if compiled.draws:
        values["draw"] = rows.draws[i]
    when, chosen = compiled.expressions.get("when"), compiled.expressions.get("choices")
    if when and not when(values):
        return None, None
    words = choice_words(chosen(values)) if chosen else compiled.words
    if words is not None and compiled.template.shuffle_choices:
        words = [words[k] for k in order(len(words), rows.orders[i])]
    values["choices"] = list(words or [])
    return values, words


def _by_sandbox(compiled: Compiled, values: Mapping[str, Any]) -> Texts:
    return {part: "".join(map(str, text(values))) for part, text in compiled.texts.items()}


def _by_minijinja(fast: Render, values: Mapping[str, Any]) -> Texts | None:
    """The texts; None where minijinja fails or says too much: the sandbox will tell why."""
    try:
        texts = fast(values)
    except Exception:
        return None
    return texts if sum(map(len, texts.values())) <= BUDGET.allowed else None


def _fast(compiled: Compiled) -> Render | None:
    """The template's renderer in minijinja, if both engines say the same of every example."""
    if not compiled.learnt.minijinja:
        fast = minijinja_for(compiled)
        compiled.learnt.minijinja.append(fast if fast and _says_the_same(compiled, fast) else None)
    found: Render | None = compiled.learnt.minijinja[0]
    return found


def _says_the_same(compiled: Compiled, fast: Render) -> bool:
    examples = compiled.pack.examples
    columns = {name: [row[name] for row in examples] for name in compiled.pack.settings.columns}
    rows, refusals = make_rows(compiled, columns, [f"example-{i}" for i in range(len(examples))], seed=0)
    compared = 0
    for i in set(range(len(examples))) - refusals.keys():
        BUDGET.start(MAX_CHARACTERS)
        try:
            values, _ = _values(compiled, rows, i)
            if values is not None:
                if _by_minijinja(fast, values) != _by_sandbox(compiled, values):
                    return False
                compared += 1
        except ERRORS:
            return False
    return compared > 0
