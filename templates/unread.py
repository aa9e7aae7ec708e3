"""Texts that nobody may look at: what a template does with them is the same for every row.

A template is run once on unread values. It may print them and hand them to filters, which are then put off until
there is a row; as soon as it wants to know what one says (to compare it, to count it, to loop over it), `Looked` is
raised and the row has to be rendered on its own. What runs to the end has proved that the words around the unread
values hang on nothing but the values that were shown.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from math import lcm
from typing import Any

LARGEST_REMAINDER = 24  # `draw % 24` is looked at, `draw % 9000` stays unread
LARGEST_STEP = 2_000    # so many remainders may tell rows apart


class Looked(BaseException):  # noqa: N818 - it is a signal; no `except Exception` of a filter may stop it
    """A template wants to know what an unread value says."""


class Unread:
    """A value of a row, by its place (`("text",)`, `("options", 2)`), or what a function makes of unread values."""

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
    """The row's draw. Its remainders may be looked at: `seen` notes by what number it was divided to get them."""

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
        if operator == "%" and right <= LARGEST_REMAINDER and lcm(left.step * right, *left.seen) <= LARGEST_STEP:
            left.seen.add(left.step * right)
            return left.number % right
        if operator in ("+", "-", "//"):
            step = left.step * right if operator == "//" else left.step
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


def weight(value: Any) -> int:
    """How many unread values there are in `value`, and how much is done with them."""
    if isinstance(value, Unread):
        return 1 + sum(map(weight, value.args)) + sum(map(weight, value.kwargs.values()))
    if isinstance(value, dict):
        return sum(map(weight, value.values()))
    return sum(map(weight, value)) if isinstance(value, list | tuple) else 0


def read(value: Any, columns: Mapping[str, Sequence[Any]], count: int) -> Sequence[Any]:
    """`value` in each of `count` rows, all that is unread in it read from the rows' `columns`."""
    if isinstance(value, Unread):
        if value.make is not None:
            return _made(value.make, value.args, value.kwargs, columns, count)
        found = columns[str(value.place[0])]
        for step in value.place[1:]:
            found = [item[step] for item in found]
        return found
    if isinstance(value, list | tuple) and holds_unread(value):
        return [type(value)(row) for row in zip(*(read(v, columns, count) for v in value), strict=True)]
    if isinstance(value, dict) and holds_unread(value):
        rows = zip(*(read(v, columns, count) for v in value.values()), strict=True)
        return [dict(zip(value, row, strict=True)) for row in rows]
    return list(repeat(value, count))


def _made(
    make: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]], count: int,
) -> Sequence[Any]:
    if kwargs:
        names = list(kwargs)
        rows = zip(*(read(v, columns, count) for v in [*args, *kwargs.values()]), strict=True)
        return [make(*row[: len(args)], **dict(zip(names, row[len(args):], strict=True))) for row in rows]
    return list(map(make, *(read(arg, columns, count) for arg in args)))
