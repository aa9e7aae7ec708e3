"""Texts that nobody may look at: what a template does with them is the same for every row.

A template is run once on unread values. It may print them and hand them to filters, which are then put off
until there is a row; as soon as it wants to know what one says (to compare it, to count it, to loop over it),
`Looked` is raised and the row has to be rendered on its own. What runs to the end has proved that the words
around the unread values hang on nothing but the values that were shown.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import lcm
from typing import Any

from zhiling.templates.filters import Excess

LARGEST_REMAINDER = 24  # `draw % 24` is looked at, `draw % 9000` stays unread
LARGEST_STEP = 2_000    # so many remainders may tell rows apart
AT_ONCE = 64            # rows, so that what is too long is found before there is too much of it


class Looked(BaseException):  # no `except Exception` of a filter may stop it
    """A template wants to know what an unread value says."""


class Unread:
    """A value of a row, by its place (`("text",)`, `("options", 2)`), or what a function makes of such."""

    __slots__ = ("args", "kwargs", "make", "place")

    def __init__(
        self, place: tuple[str | int, ...] = (), make: Callable[..., Any] | None = None,
        args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.place, self.make, self.args, self.kwargs = place, make, args, kwargs or {}

    def __bool__(self) -> bool:
        if self.make is not None or self.place[0] in ("choices", "draw"):
            raise Looked
        return True  # an empty text of a row is never unread

    def _look(self, *_: Any) -> Any:
        raise Looked

    __hash__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _look
    __str__ = __repr__ = __format__ = __len__ = __iter__ = __next__ = __contains__ = __reversed__ = _look
    __int__ = __float__ = __complex__ = __index__ = __round__ = __trunc__ = __getitem__ = __call__ = _look
    __neg__ = __pos__ = __abs__ = __invert__ = _look
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _look
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __divmod__ = _look


class Draw(Unread):
    """The row's draw. Its remainders may be looked at: `seen` notes by what it was divided to get them."""

    __slots__ = ("number", "seen", "step")

    def __init__(self, number: int, seen: set[int], step: int = 1, made: Unread | None = None) -> None:
        super().__init__(("draw",), None if made is None else made.make, () if made is None else made.args)
        self.number, self.seen, self.step = number, seen, step


def calculate(operator: str, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """`left operator right` where one of them is unread: put off, but for small remainders of a draw.

    What a draw leaves when divided by n, after + b and // a, is told by the draw's remainder by a * n.
    """
    later = Unread((), function, (left, right))
    if isinstance(left, Draw) and type(right) is int and right > 0:
        step = left.step * right
        if operator == "%" and right <= LARGEST_REMAINDER and lcm(step, *left.seen) <= LARGEST_STEP:
            left.seen.add(step)
            return left.number % right
        if operator in ("+", "-", "//"):
            step = step if operator == "//" else left.step
            return Draw(function(left.number, right), left.seen, step, later)
    if isinstance(right, Draw) and type(left) is int and operator == "+":
        return Draw(left + right.number, right.seen, right.step, later)
    return later


def holds_unread(value: Any) -> bool:
    """Whether anything in `value` is unread."""
    if isinstance(value, Unread):
        return True
    if isinstance(value, dict):
        return any(map(holds_unread, value.values()))
    return isinstance(value, list | tuple) and any(map(holds_unread, value))


class Reading:
    """Unread values read from the columns of some rows; nothing longer than `longest` is made of them."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], count: int, longest: int) -> None:
        self.columns, self.count, self.longest = columns, count, longest
        self.made: dict[int, Sequence[Any]] = {}

    def column(self, value: Any) -> Sequence[Any]:
        """`value` in each row, all that is unread in it read."""
        if not holds_unread(value):
            return [value] * self.count
        if isinstance(value, dict):
            rows = zip(*map(self.column, value.values()), strict=True)
            return [dict(zip(value, row, strict=True)) for row in rows]
        if isinstance(value, list | tuple):
            return list(map(type(value), zip(*map(self.column, value), strict=True)))
        if value.make is None:
            return self._placed(value.place)
        if id(value) not in self.made:
            self.made[id(value)] = self._made(value)
        return self.made[id(value)]

    def _placed(self, place: tuple[str | int, ...]) -> Sequence[Any]:
        found = self.columns[str(place[0])]
        for step in place[1:]:
            found = [item[step] for item in found]
        return found

    def _made(self, value: Unread) -> Sequence[Any]:
        assert value.make is not None
        columns = list(map(self.column, [*value.args, *value.kwargs.values()]))
        make = partial(_call, value.make, len(value.args), list(value.kwargs)) if value.kwargs else value.make
        made: list[Any] = []
        for start in range(0, self.count, AT_ONCE):
            made += map(make, *(column[start : start + AT_ONCE] for column in columns))
            self.check(made[start:])
        return made

    def check(self, values: Sequence[Any]) -> None:
        """Raise Excess where one of `values` is too long."""
        if longest(values) > self.longest:
            raise Excess("a value is too long to be made in many rows at once")


def _call(make: Callable[..., Any], count: int, names: Sequence[str], *args: Any) -> Any:
    return make(*args[:count], **dict(zip(names, args[count:], strict=True)))


def longest(values: Sequence[Any]) -> int:
    """The largest size among `values`."""
    return max(map(len if set(map(type, values)) <= {str} else measure, values), default=0)


def measure(value: Any) -> int:
    """Characters and items in `value`."""
    if isinstance(value, dict):
        return len(value) + sum(map(measure, value)) + sum(map(measure, value.values()))
    if isinstance(value, list | tuple):
        return len(value) + sum(map(measure, value))
    return len(str(value))
