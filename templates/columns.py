"""A column seen as a whole: whether all values are of its type, how long the longest is, which of them are alike.

In: a column's type and its values. Out: `Look`, and the shape of a value: all that a template is shown of it while its
texts are unread (which of them are empty, how long its lists are, its numbers, the labels of its spans if it goes by
them). Lists and
mappings are looked at level by level, each key's values as a column of their own, which takes a fraction of the time
that looking at each value takes.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Literal

from zhiling.rows import ColumnType

MOST_LEVELS = 100  # of lists and mappings in one another
SPAN_KEYS = frozenset({"start", "text", "label"})
_NUMBERS = {int, float, bool, type(None)}
SPANS = ("spans", "bare spans")  # bare ones do not show their labels
Kind = ColumnType | Literal["bare spans"]
Marks = Sequence[Hashable] | None  # values with equal marks have one shape; None where all have


@dataclass(frozen=True)
class Look:
    """What a look at a column told."""

    longest: int  # no value has more characters and items
    marks: Marks


def look(kind: Kind, column: Sequence[Any]) -> Look | None:
    """A look at a column; None where not every value is plainly of its type, or some are nested too deep."""
    if not _plain(kind, column):
        return None
    if kind == "label":
        return Look(_longest(column), column)
    try:
        return Look(*_look(column, kind, MOST_LEVELS))
    except RecursionError:
        return None


def look_closely(kind: Kind, column: Sequence[Any]) -> Look:
    """A look at a column value by value, whatever they are."""
    return Look(max(map(measure, column), default=0), [shape(kind, value) for value in column])


def _plain(kind: Kind, column: Sequence[Any]) -> bool:
    if kind in ("string", "label"):
        return set(map(type, column)) <= {str}
    if kind == "json":
        return True
    if not set(map(type, column)) <= {list}:
        return False
    inside = list(chain.from_iterable(column))
    if kind == "strings":
        return set(map(type, inside)) <= {str}
    if not set(map(type, inside)) <= {dict} or any(set(keys) != SPAN_KEYS for keys in set(map(tuple, inside))):
        return False
    kinds = [(key, set(map(type, map(itemgetter(key), inside)))) for key in SPAN_KEYS]
    return all(found <= ({int} if key == "start" else {str}) for key, found in kinds)


def _look(column: Sequence[Any], kind: Kind, levels: int) -> tuple[int, Marks]:
    """The longest of a column's values, and their marks. Raises RecursionError where they have too many levels."""
    kinds = set(map(type, column))
    if kinds <= {str}:
        return _longest(column), None if all(column) else list(map(bool, column))
    if not levels and not kinds <= _NUMBERS:
        raise RecursionError
    if kinds == {list}:
        longest, marks = _look(list(chain.from_iterable(column)), kind, levels - 1)
        counts = list(map(len, column))
        if marks is not None:
            rest = iter(marks)
            return max(counts) * (1 + longest), [tuple(islice(rest, count)) for count in counts]
        return max(counts) * (1 + longest), counts
    if kinds == {dict} and len(orders := set(map(tuple, column))) == 1:
        return _look_at_keys(column, orders.pop(), kind, levels - 1)
    if kinds == {int}:
        return _longest([str(min(column)), str(max(column))]), column
    if kinds <= _NUMBERS:
        printed = list(map(repr, column))
        return _longest(printed), printed
    if any(is_deep(value, levels) for value in column):
        raise RecursionError
    return max(map(measure, column)), [_shape_inside(kind, value) for value in column]


def _look_at_keys(column: Sequence[Any], keys: Sequence[Any], kind: Kind, levels: int) -> tuple[int, Marks]:
    total, differing = len(keys) + sum(map(measure, keys)), list[Any]()
    for key in keys:
        values = list(map(itemgetter(key), column))
        longest, marks = _look(values, kind, levels)
        total += longest
        if kind in SPANS and key == "start":
            marks = None  # places are not shown
        if kind == "spans" and key == "label":
            marks = values
        if marks is not None:
            differing.append(marks)
    if len(differing) < 2:
        return total, differing[0] if differing else None
    return total, list(zip(*differing, strict=True))


def _longest(values: Iterable[Any]) -> int:
    return max(map(len, values), default=0)


def shape(kind: Kind, value: Any) -> Hashable:
    """A value's shape: templates are shown no more of it."""
    if kind == "label":
        return str(value)
    if kind in SPANS:
        return tuple(_shape_inside(kind, span) for span in value)
    return _json_shape(value)


def _shape_inside(kind: Kind, value: Any) -> Hashable:
    """The shape of a span, or of whatever stands in JSON."""
    if kind not in SPANS:
        return _json_shape(value)
    return (bool(value["text"]), value["label"] if kind == "spans" else bool(value["label"]), *value)


def _json_shape(value: Any) -> Hashable:
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, list):
        return ("list", *map(_json_shape, value))
    if isinstance(value, dict):
        return ("dict", *value, *map(_json_shape, value.values()))
    return repr(value)


def is_deep(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether a value has more levels of lists and mappings than that."""
    if not isinstance(value, list | tuple | dict):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return not levels or any(is_deep(item, levels - 1) for item in inside)


def measure(value: Any) -> int:
    """Characters and items in `value`."""
    if isinstance(value, dict):
        total = len(value) + sum(map(measure, value))
        value = value.values()
    elif isinstance(value, list | tuple):
        total = len(value)
    else:
        return len(str(value))
    for item in value:
        total += len(item) if type(item) is str else measure(item)
    return total


def items_in(value: Any) -> int:
    """Items in a list or mapping, and in those inside it."""
    if not isinstance(value, list | tuple | dict):
        return 0
    return len(value) + sum(map(items_in, value.values() if isinstance(value, dict) else value))
