"""Unread values read: whole columns at once, from the columns of some rows.

In: columns and places in them. Out: the column of any unread value, made once. Nothing that is too long is made, and
not too much altogether: Excess says so, and such rows are rendered one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import getitem, itemgetter
from typing import Any

from zhiling.templates.filters import METHODS, Excess, call_method, get_item
from zhiling.templates.lines import joined, take_apart
from zhiling.templates.unread import PLAIN, Unread, holds_unread

KEPT = 40     # times what one value may be long, all that is made of a row may be
AT_ONCE = 64  # rows, so that what is too long is found before there is too much of it
SIZED = {str, list, tuple, dict}
PRINTED = PLAIN | SIZED  # by what prints; see the sandbox


class Once:
    """A generator among the values of rows. Where it is read twice, or looked at, rows are rendered one by one."""

    def __init__(self, values: Iterator[Any]) -> None:
        self.values: Iterator[Any] | None = values

    def __iter__(self) -> Iterator[Any]:
        found, self.values = self.values, None
        return found if found is not None else self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise Excess("a generator can be read only once")

    __getitem__ = __eq__ = __str__ = __repr__ = __format__ = _refuse


class Reading:
    """Unread values read from the columns of some rows; nothing longer than `longest` is made of them."""

    def __init__(
        self, columns: Mapping[str, Sequence[Any]], places: Sequence[int], longest: int, own: int = 0
    ) -> None:
        self.columns, self.places, self.longest = columns, places, longest
        self.count = len(places)
        self.characters, self.items = own, 0  # in the largest of the rows, and of the values that were checked
        self.kept = 0  # characters and items, at most, in all that was made of a row
        self.above: tuple[Reading, Sequence[int]] | None = None
        self._placed: dict[tuple[str | int, ...], Sequence[Any]] = {}
        self._prints: dict[Any, tuple[Sequence[str], int]] = {}
        self._made: dict[int, tuple[Unread, Sequence[Any]]] = {}

    def some(self, kept: Sequence[int]) -> "Reading":
        """The same for fewer rows, those at `kept` here; what has been made is not made again."""
        if kept == range(self.count):
            return self
        few = Reading(self.columns, taken(self.places, kept), self.longest, self.characters)
        few.items, few.kept, few.above = self.items, self.kept, (self, kept)
        return few

    def alone(self, i: int) -> "Reading":
        """The i-th row, nothing of which has been read."""
        return Reading(self.columns, [self.places[i]], self.longest, self.characters)

    def column(self, value: Any) -> Sequence[Any]:
        """`value` in each row, all that is unread in it read."""
        if isinstance(value, Unread):
            if value.make is None:
                return self.placed(value.place)
            found = self._known(value)
            return self._make(value) if found is None else found
        if not holds_unread(value):
            return [value] * self.count
        if isinstance(value, dict):
            rows = zip(*map(self.column, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in rows]
        return list(map(type(value), zip(*map(self.column, value), strict=True)))

    def placed(self, place: tuple[str | int, ...]) -> Sequence[Any]:
        """What stands in each row at `place`."""
        if place not in self._placed:
            if len(place) == 1:
                self._placed[place] = taken(self.columns[str(place[0])], self.places)
            else:
                self._placed[place] = list(map(itemgetter(place[-1]), self.placed(place[:-1])))
        return self._placed[place]

    def printed(self, value: Unread) -> tuple[Sequence[str], int]:
        """`value` in each row as it prints, and how long the longest is. Raises ValueError where it does not print."""
        key = value.place if value.make is None else id(value)
        if key not in self._prints:
            self._prints[key] = _printed(self.column(value))
        return self._prints[key]

    def _known(self, value: Unread) -> Sequence[Any] | None:
        """What was made of `value` here, or of more rows before; generators are made anew."""
        if id(value) in self._made:
            return self._made[id(value)][1]
        found = self.above and self.above[0]._known(value)
        if self.above is None or found is None or Once in set(map(type, found)):
            return None
        self._made[id(value)] = value, taken(found, self.above[1])
        return self._made[id(value)][1]

    def _make(self, value: Unread) -> Sequence[Any]:
        if parts := take_apart(value):
            made = self._join(parts)
        else:
            make, args = self._plainly(value)
            made = self._map(make, list(map(self.column, args)))
        if any(hasattr(kind, "__next__") for kind in set(map(type, made))):
            made = [Once(found) if hasattr(found, "__next__") else found for found in made]
        self._made[id(value)] = value, made
        return made

    def _join(self, parts: Sequence[Any]) -> Sequence[Any]:
        """The texts that these parts make."""
        columns = [self.printed(part) if isinstance(part, Unread) else (str(part), len(str(part))) for part in parts]
        longest = sum(length for _, length in columns)
        if longest > self.longest:
            raise Excess("a value is too long to be made in many rows at once")
        self.characters = max(self.characters, longest)
        return self._keep(joined([texts for texts, _ in columns], self.count), longest)

    def _plainly(self, value: Unread) -> tuple[Callable[..., Any], Sequence[Any]]:
        """What makes `value`, and of what: methods of texts as such, named arguments without their names."""
        assert value.make is not None
        args, kwargs = value.args, value.kwargs
        if kwargs:
            return partial(_call, value.make, len(args), list(kwargs)), [*args, *kwargs.values()]
        if value.make is call_method:
            owner, name, *rest = args
            if name in METHODS[str] and set(map(type, self.column(owner))) <= {str}:
                return METHODS[str][name], [owner, *rest]
        return value.make, args

    def _map(self, make: Callable[..., Any], columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
        made: list[Any] = []
        largest = 0
        for start in range(0, self.count, AT_ONCE):
            found = _mapped(make, [column[start : start + AT_ONCE] for column in columns])
            largest = max(largest, self.check(found))
            made += found
        return self._keep(made, largest)

    def _keep(self, made: Sequence[Any], largest: int) -> Sequence[Any]:
        self.kept += largest
        if self.kept > KEPT * self.longest:
            raise Excess("too much is made of many rows at once")
        return made

    def check(self, values: Sequence[Any]) -> int:
        """Note how large `values` are, and say it of the largest. Raises Excess where one is too long."""
        kinds, largest = set(map(type, values)), 0
        if kinds <= {str}:
            largest = max(map(len, values), default=0)
            self.characters = max(self.characters, largest)
        elif not kinds <= PLAIN:
            largest = max(map(len, values) if kinds <= SIZED else map(_length, values), default=0)
            self.items = max(self.items, largest)
        if largest > self.longest:
            raise Excess("a value is too long to be made in many rows at once")
        return largest


def taken(column: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    """What stands at `places` of `column`."""
    if places == range(len(column)):
        return column
    return itemgetter(*places)(column) if len(places) > 1 else [column[i] for i in places]


def _printed(column: Sequence[Any]) -> tuple[Sequence[str], int]:
    kinds = set(map(type, column))
    if not kinds <= PRINTED:
        raise ValueError("a value that does not print")
    texts = column if kinds <= {str} else list(map(str, column))
    return texts, max(map(len, texts), default=0)


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _mapped(make: Callable[..., Any], columns: Sequence[Sequence[Any]]) -> list[Any]:
    if make is get_item:
        with suppress(TypeError, LookupError):
            return list(map(getitem, *columns))
    return list(map(make, *columns))


def _call(make: Callable[..., Any], count: int, names: Sequence[str], *args: Any) -> Any:
    return make(*args[:count], **dict(zip(names, args[count:], strict=True)))
