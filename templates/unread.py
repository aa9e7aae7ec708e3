"""Texts that a template is not shown: what it does with them is the same for every row.

A template is tried on one row whose texts are unread. It may print them and hand them to filters, which are put off
until the texts are read. What decides what it does next (is this the answer? is there an x in it?) is a question:
it gets the row's own answer, and the question is noted, so that other rows can be asked the same. What cannot be
asked raises `Looked`; such rows are rendered one by one. Rows of one shape that answer all questions alike are
rendered alike, but for the unread texts themselves.
"""

import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from math import lcm
from typing import TYPE_CHECKING, Any

from zhiling.templates.filters import get_item

if TYPE_CHECKING:
    from zhiling.templates.reading import Reading

LARGEST_REMAINDER = 24  # `draw % 24` is shown, `draw % 9000` is not
LARGEST_STEP = 2_000    # so many remainders may tell rows apart
LARGEST_ANSWER = 24     # numbers up to this are answers
MOST_ASKED = 48         # questions in one trial; rows of which more has to be asked are better rendered on their own
PLAIN = {str, int, float, bool, type(None)}


class Looked(BaseException):  # no `except Exception` of a filter may stop it
    """A template wants to know something of an unread value that cannot be asked."""


class Unread:
    """A value of a row, by its place (`("text",)`, `("options", 2)`), or what a function makes of such."""

    __slots__ = ("args", "kwargs", "make", "place")

    def __init__(
        self, place: tuple[str | int, ...] = (), make: Callable[..., Any] | None = None,
        args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.place, self.make, self.args, self.kwargs = place, make, args, kwargs or {}

    def __bool__(self) -> bool:
        return self.make is None or bool(ask(bool, self))  # what is in its place is not empty: an empty text is shown

    def __eq__(self, other: object) -> bool:
        return bool(ask(operator.eq, self, other))

    def __ne__(self, other: object) -> bool:
        return bool(ask(operator.ne, self, other))

    def __lt__(self, other: object) -> bool:
        return bool(ask(operator.lt, self, other))

    def __le__(self, other: object) -> bool:
        return bool(ask(operator.le, self, other))

    def __gt__(self, other: object) -> bool:
        return bool(ask(operator.gt, self, other))

    def __ge__(self, other: object) -> bool:
        return bool(ask(operator.ge, self, other))

    def __contains__(self, item: object) -> bool:
        return bool(ask(operator.contains, self, item))

    def __index__(self) -> int:
        return int(ask(operator.index, self))

    def _look(self, *_: Any) -> Any:
        raise Looked

    __hash__ = __str__ = __repr__ = __format__ = __len__ = __iter__ = __reversed__ = _look
    __int__ = __float__ = __complex__ = __round__ = __trunc__ = __getitem__ = __call__ = _look
    __neg__ = __pos__ = __abs__ = __invert__ = __divmod__ = __rdivmod__ = _look
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _look
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = _look


class Draw(Unread):
    """The row's draw. Its remainders are shown: `seen` notes by what it was divided to get them."""

    __slots__ = ("number", "seen", "step")

    def __init__(self, number: int, seen: set[int], step: int = 1, made: Unread | None = None) -> None:
        super().__init__(("draw",), None if made is None else made.make, () if made is None else made.args)
        self.number, self.seen, self.step = number, seen, step

    def __bool__(self) -> bool:
        return bool(ask(bool, self))


def calculate(symbol: str, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """`left symbol right` where one of them is unread: put off, but for small remainders of a draw.

    What a draw leaves when divided by n, after + b and // a, is told by the draw's remainder by a * n.
    """
    later = Unread((), function, (left, right))
    if isinstance(left, Draw) and type(right) is int and right > 0:
        step = left.step * right
        if symbol == "%" and right <= LARGEST_REMAINDER and lcm(step, *left.seen) <= LARGEST_STEP:
            left.seen.add(step)
            return left.number % right
        if symbol in ("+", "-", "//"):
            step = step if symbol == "//" else left.step
            return Draw(function(left.number, right), left.seen, step, later)
    if isinstance(right, Draw) and type(left) is int and symbol == "+":
        return Draw(left + right.number, right.seen, right.step, later)
    return later


class Trial(threading.local):
    """The row that a template is tried on, and what was asked of it."""

    row: "Reading | None" = None  # none where nothing is tried: then nothing can be asked

    def start(self, row: "Reading") -> None:
        """Try another row, the only one that `row` reads."""
        self.row = row
        self.asked: list[tuple[Unread, Any]] = []
        self.answers: dict[Any, Any] = {}
        self.numbers: dict[Any, int] = {}
        self.numbered: dict[int, tuple[Unread, int]] = {}

    def end(self) -> list[tuple[Unread, Any]]:
        """All that was asked, with the row's answers."""
        self.row = None
        return self.asked

    def key(self, value: Any) -> Any:
        """Equal for expressions that are built alike of the same places; each part is looked at once."""
        if isinstance(value, Unread):
            if value.make is None:
                return value.place
            if id(value) not in self.numbered:
                built = (value.make, *map(self.key, value.args), self.key(value.kwargs))
                self.numbered[id(value)] = value, self.numbers.setdefault(built, len(self.numbers))
            return Unread, self.numbered[id(value)][1]
        if isinstance(value, list | tuple):
            return (type(value), *map(self.key, value))
        if isinstance(value, dict):
            return (dict, *value, *map(self.key, value.values()))
        return type(value), repr(value)


TRIAL = Trial()


def ask(make: Callable[..., Any], *args: Any) -> Any:
    """What `make` says of the tried row's values. Raises Looked where that is no answer."""
    if TRIAL.row is None:
        raise Looked
    question = Unread((), make, args)
    key = TRIAL.key(question)
    if key not in TRIAL.answers:
        if len(TRIAL.asked) == MOST_ASKED:
            raise Looked
        try:
            (answer,) = TRIAL.row.column(question)
        except Exception:
            raise Looked from None
        if not is_answer(answer):
            raise Looked
        TRIAL.asked.append((question, answer))
        TRIAL.answers[key] = answer
    return TRIAL.answers[key]


def is_answer(value: Any) -> bool:
    """Whether a value may decide what a template does: yes, no, or a small number."""
    return type(value) is bool or (type(value) is int and abs(value) <= LARGEST_ANSWER)


def items_of(value: Unread) -> list[Unread]:
    """The items of an unread list, unread; how many they are is asked."""
    return [Unread((), get_item, (value, i)) for i in range(ask(_list_length, value))]


def _list_length(value: Any) -> int:
    if not isinstance(value, list):
        raise TypeError("only lists have their items told apart")
    return len(value)


def holds_unread(value: Any) -> bool:
    """Whether anything in `value` is unread."""
    if isinstance(value, Unread):
        return True
    if isinstance(value, dict):
        return any(map(holds_unread, value.values()))
    return isinstance(value, list | tuple) and any(map(holds_unread, value))


def places_of(value: Any) -> set[tuple[str | int, ...]]:
    """The places that a value is read from."""
    found: set[tuple[str | int, ...]] = set()
    seen, todo = set[int](), [value]
    while todo:
        part = todo.pop()
        if isinstance(part, Unread) and part.make is None:
            found.add(part.place)
        elif isinstance(part, Unread) and id(part) not in seen:
            seen.add(id(part))
            todo += [*part.args, *part.kwargs.values()]
        elif isinstance(part, list | tuple | dict):
            todo += part.values() if isinstance(part, dict) else part
    return found
