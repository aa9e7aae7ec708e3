"""The filters, tests and methods that packs may use: pure functions, bounded before they run.

They are Jinja2's own wherever those are bounded by what they are given; those that could make much out of
little (`join`, `replace`, `round`, `format`, `range`) refuse before they do.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from inspect import unwrap
from typing import Any, cast

from jinja2 import Environment, StrictUndefined, pass_environment
from jinja2 import filters as plain
from jinja2.exceptions import SecurityError
from jinja2.tests import TESTS as PLAIN_TESTS

MAX_ITEMS = 10_000          # of any list
MAX_CHARACTERS = 1_000_000  # of any one value, and of what a row's texts say together
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{3}|\*)")


class Excess(ValueError):  # noqa: N818 - what it is: more than a row may take
    """More than one row may take or make."""


def fits(characters: int) -> None:
    """Raise Excess where a value of so many characters may not be made."""
    if characters > MAX_CHARACTERS:
        raise Excess(f"makes a value of more than {MAX_CHARACTERS:,} characters")


def get_item(owner: Any, key: Any) -> Any:
    """`owner[key]`, undefined where there is none."""
    try:
        return owner[key]
    except (TypeError, LookupError):
        return StrictUndefined(obj=owner, name=key)


def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`value[start:stop:step]`."""
    return value[start:stop:step]


def to_json(value: Any) -> str:
    """`value` as compact JSON, non-ASCII kept: a row's text, quoted, cannot end the JSON around it."""
    return _encode(value)


def letter(index: int) -> str:
    """0 is A, 1 is B, up to 25."""
    if not 0 <= index <= 25:
        raise ValueError(f"letter needs a number from 0 to 25, not {index}")
    return chr(ord("A") + index)


@pass_environment
def join(
    environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    """Jinja2's `join`."""
    if attribute is not None:
        value = map(plain.make_attrgetter(environment, attribute), value)
    return glue(*value, between=str(d))


def replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    """Jinja2's `replace`."""
    text, old, new = str(s), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    fits(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, -1 if count is None else count)


def round_(value: float, precision: int = 0, method: Any = "common") -> float:
    """Jinja2's `round`."""
    if not -20 <= precision <= 20:
        raise ValueError(f"round needs a precision from -20 to 20, not {precision}")
    return plain.do_round(value, precision, method)


def format_(value: Any, *args: Any, **kwargs: Any) -> str:
    """Jinja2's `format`."""
    if _WIDE.search(str(value)):
        raise ValueError("format takes no widths above 99 here")
    return plain.do_format(str(value), *args, **kwargs)


def glue(*parts: Any, between: str = "") -> str:
    """The texts of `parts` with `between` between them; without it, what `~` makes of them."""
    words = [str(part) for part in parts]
    fits(sum(map(len, words)) + len(between) * len(words))
    return between.join(words)


def small_range(*args: int) -> range:
    """Python's `range`, with at most 10,000 numbers."""
    found = range(*args)
    if len(found) > MAX_ITEMS:
        raise Excess(f"makes a list of more than {MAX_ITEMS:,} items")
    return found


def _methods(kind: type, *names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(kind, name) for name in names}


_JINJAS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr",
    "sort", "string", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount",
)
FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: cast(Any, unwrap)(plain.FILTERS[name]) for name in _JINJAS},
    "format": format_, "join": join, "json": to_json, "letter": letter, "replace": replace, "round": round_,
}
MODEST = frozenset({  # without arguments these make no more than a few times as much as they are given
    "abs", "capitalize", "float", "int", "json", "letter", "lower", "string", "title", "trim", "upper",
})
FREE = frozenset({"count", "d", "default", "first", "last", "length"})  # these take no time
STRUCTURAL = frozenset({  # these hand the items of a list on without looking at them
    "count", "d", "default", "first", "items", "last", "length", "list", "reverse",
    "map", "reject", "rejectattr", "select", "selectattr",
})
ITERATING = frozenset({"join", "max", "min", "sort", "sum", "unique"})  # a generator will do for these
WALKING = frozenset({  # these take a text character by character
    "list", "map", "reject", "rejectattr", "select", "selectattr", "title", "wordcount",
}) | ITERATING
TESTS: Mapping[str, Callable[..., Any]] = {
    name: cast(Any, test)
    for name, test in PLAIN_TESTS.items()
    if name not in ("callable", "escaped", "filter", "sameas", "test")
}
OF_KIND = frozenset({  # tests that look at no more than what kind of value they are given
    "boolean", "defined", "even", "false", "float", "integer", "iterable", "mapping", "none", "number", "odd",
    "sequence", "string", "true", "undefined",
})
METHODS: Mapping[type, Mapping[str, Callable[..., Any]]] = {
    str: {
        **_methods(
            str, "capitalize", "count", "endswith", "find", "index", "isalpha", "isascii", "isdecimal",
            "isdigit", "islower", "isnumeric", "isspace", "isupper", "lower", "lstrip", "partition",
            "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split",
            "splitlines", "startswith", "strip", "swapcase", "title", "upper",
        ),
        "join": lambda between, words: glue(*words, between=between), "replace": replace,
    },
    list: _methods(list, "count", "index"),
    tuple: _methods(tuple, "count", "index"),
    dict: _methods(dict, "get", "items", "keys", "values"),
}


def call_method(owner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call one of the methods that templates may use."""
    function = METHODS.get(type(owner), {}).get(name)
    if function is None:
        raise SecurityError(f"'{name}' of a {type(owner).__name__} is not for templates")
    return function(owner, *args, **kwargs)
