"""Rows that fit a pack, as columns: checked, JSON decoded, and all that is drawn for them drawn.

In: the declared columns of some rows and their ids. Out: `Rows`. Refused, row by row: unknown labels, nulls,
values of another type, text that is not JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import factorial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zhiling.errors import did_you_mean, one_line
from zhiling.rows import ColumnType
from zhiling.seeds import draw, draws
from zhiling.templates.columns import MOST_LEVELS, Kind, Look, is_deep, look, measure
from zhiling.templates.compiled import Compiled
from zhiling.templates.examples import SHAPES, fits
from zhiling.templates.pack import Pack

MOST_LISTED = 5   # choices whose orders are listed beforehand
MOST_TOLD = 20    # choices of which a 64-bit number tells every order
Refusals = dict[int, str]  # place of a row -> why


@dataclass(frozen=True)
class Rows:
    """Rows that fit a pack, as columns, with what is drawn for them."""

    ids: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    draws: Sequence[int]   # empty where the template draws nothing
    orders: Sequence[int]  # likewise, for shuffled choices: each tells an order
    shown: Mapping[str, Kind]  # as what the template is shown each column
    looks: Mapping[str, Look | None]  # what a look at each column told; None where it has yet to be told

    def own(self, i: int) -> int:
        """Characters and items in the i-th row."""
        return sum(measure(column[i]) for column in self.columns.values())

    def some(self, places: Sequence[int]) -> "Rows":
        """The rows at `places`."""
        def take(column: Sequence[Any]) -> list[Any]:
            return [column[i] for i in places] if column else []

        columns = {name: take(column) for name, column in self.columns.items()}
        return Rows(take(self.ids), columns, take(self.draws), take(self.orders), self.shown, dict.fromkeys(columns))


def order(count: int, number: int) -> Sequence[int]:
    """One of the orders of `count` things, as a drawn number tells it."""
    if count > MOST_TOLD:
        return sorted(range(count), key=lambda i: draw(number, "order", str(i)))
    left, found = list(range(count)), []
    for size in range(count, MOST_LISTED, -1):
        number, place = divmod(number, size)
        found.append(left.pop(place))
    rest = _orders(len(left))[number % factorial(len(left))]
    return found + [left[k] for k in rest] if found else rest


def orders(count: int, numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """`order` of up to MOST_TOLD things for many numbers, a row each."""
    left = np.tile(np.arange(count), (len(numbers), 1))
    found = []
    for size in range(count, MOST_LISTED, -1):
        numbers, place = np.divmod(numbers, np.uint64(size))
        place = place.astype(np.int64)[:, None]
        found.append(np.take_along_axis(left, place, 1))
        others = np.arange(size - 1)
        left = np.take_along_axis(left, others + (others >= place), 1)
    listed = np.array(_orders(left.shape[1])).reshape(-1, left.shape[1])
    rest = np.take_along_axis(left, listed[(numbers % np.uint64(len(listed))).astype(np.int64)], 1)
    return np.hstack([*found, rest])


@lru_cache(maxsize=MOST_LISTED + 1)
def _orders(count: int) -> list[tuple[int, ...]]:
    return list(permutations(range(count)))


def make_rows(
    compiled: Compiled, columns: Mapping[str, Sequence[Any]], ids: Sequence[str], seed: int
) -> tuple[Rows, Refusals]:
    """The rows for `compiled`, and a refusal for each that does not fit; its place holds what was given."""
    refusals: Refusals = {}
    found, looks, shown = {}, {}, compiled.shown
    for name, kind in compiled.pack.settings.columns.items():
        column = _decoded(name, columns[name], refusals) if kind == "json" else columns[name]
        told = look(shown.get(name, kind), column)
        if told is None or (kind == "label" and not compiled.pack.labels_of(name).keys() >= set(column)):
            for i, value in enumerate(column):
                if problem := _misfit(compiled.pack, name, kind, value):
                    refusals.setdefault(i, problem)
        if name in compiled.columns:
            found[name], looks[name] = column, told
    drawn = draws(seed, f"draw:{compiled.purpose}", ids) if compiled.draws else []
    orders = draws(seed, f"choices:{compiled.purpose}", ids) if compiled.template.shuffle_choices else []
    return Rows(ids, found, [number >> 33 for number in drawn], orders, shown, looks), refusals


def _misfit(pack: Pack, name: str, kind: ColumnType, value: Any) -> str | None:
    if kind == "json":
        return f"column '{name}' has more than {MOST_LEVELS} levels" if is_deep(value) else None
    if value is None:
        return f"column '{name}' is null"
    if not fits(value, kind):
        return f"column '{name}' is a {type(value).__name__}, not {SHAPES[kind]}"
    labels = pack.labels_of(name) if kind == "label" else ()
    if kind == "label" and value not in labels:
        return f"'{one_line(value, 40)}' is no label; {did_you_mean(value, labels)}"
    return None


def _decoded(name: str, column: Sequence[Any], refusals: Refusals) -> list[Any]:
    """A JSON column, decoded where it holds text as tables do."""
    found = []
    for i, value in enumerate(column):
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                refusals.setdefault(i, f"column '{name}' is not JSON")
        found.append(value)
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")
