"""The Jinja2 that packs are written in: its environment, its filters, and what is refused before anything runs."""

import json
from collections.abc import Collection
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zhiling.errors import did_you_mean, one_line


class Problem(Exception):
    """Why a source cannot be part of a pack: what was seen in which of its lines, and what to do."""

    def __init__(self, saw: str, do: str, line: int = 1) -> None:
        self.saw, self.do, self.line = saw, do, line
        super().__init__(f"{saw}; {do}")


def to_json(value: Any) -> str:
    """`value` as compact JSON, non-ASCII kept: a row's text, quoted so that it cannot end the JSON around it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def letter(index: int) -> str:
    """0 is A, 1 is B, up to 25."""
    if not 0 <= index <= 25:
        raise ValueError(f"letter needs a number from 0 to 25, not {index}")
    return chr(ord("A") + index)


FILTERS = {"json": to_json, "letter": letter}


def environment() -> ImmutableSandboxedEnvironment:
    """A sandboxed Jinja2 in which undefined names are errors."""
    made = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    made.filters |= FILTERS
    return made


_PARSER = environment()


def check_text(source: str, known: Collection[str]) -> None:
    """Refuse a text that does not parse or that uses names not `known`. Raises Problem."""
    try:
        tree = _PARSER.parse(source)
        used = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise Problem(f"does not parse ({one_line(error.message or 'syntax', 100)})", "mend it", error.lineno) from None
    for name in sorted(used - set(known)):
        raise Problem(f"uses the undefined name '{name}'", did_you_mean(name, known))


def check_expression(source: str, known: Collection[str]) -> None:
    """Refuse an expression that does not parse or that uses names not `known`. Raises Problem."""
    check_text("{{ (" + source + ") }}", known)
