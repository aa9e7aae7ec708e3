"""Jinja2 as packs run it: no way out of the template, and a budget of steps for each row.

In: syntax trees that `language.py` has passed. Out: functions that render them. Every value that a template
makes, every turn of a loop and every text that it prints is paid for from the row's budget; what would take
more, or make a larger value than a row may be, is refused. The budget counts steps and not seconds, so that
every machine refuses the same rows; all of it takes well under a second.
"""

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zhiling.templates.counting import PER_STEP, counted
from zhiling.templates.filters import (
    FILTERS,
    ITERATING,
    MAX_CHARACTERS,
    METHODS,
    STRUCTURAL,
    TESTS,
    WALKING,
    Excess,
    cut,
    fits,
    get_item,
    glue,
    small_range,
)
from zhiling.templates.language import LOOP_NAMES
from zhiling.templates.schema import MOST_CHOICES
from zhiling.templates.unread import Looked, Unread, calculate, holds_unread

ERRORS = (  # what a template can do to itself
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)
STEPS = 500_000         # for one row
SAID_BY_ANY = 20_000    # characters that any row may say
SAID_PER_OWN = 20       # and for each of its own so many more, up to MAX_CHARACTERS
PER_ITEM = 4            # steps for an item of a list
MAX_BITS = 4096         # of a product
MOST_PUT_OFF = 100      # calls for one row; with more it is better rendered on its own
Piece = str | Unread


class Budget(threading.local):
    """What is left for the row that is being rendered."""

    steps = 0
    allowed = 0     # characters that the row may say
    characters = 0  # those that are left
    unread = False  # whether the row's texts are unread
    touched = 0     # how often an unread value should have been paid for
    put_off: Sequence[Unread] = ()  # what is to be done once they are read

    def start(self, own: int = 0, unread: bool = False) -> None:
        """A new row, that has so many characters of its own."""
        self.allowed = self.characters = min(MAX_CHARACTERS, SAID_BY_ANY + SAID_PER_OWN * own)
        self.steps, self.unread, self.touched, self.put_off = STEPS, unread, 0, []

    def pay(self, steps: int) -> None:
        """Take `steps`. Raises Excess where they are not left."""
        self.steps -= steps
        if self.steps < 0:
            raise Excess(f"takes more than {STEPS:,} steps")

    def say(self, text: str) -> None:
        """Take the characters of `text`. Raises Excess where they are not left."""
        self.characters -= len(text)
        if self.characters < 0:
            raise Excess(f"says more than {self.allowed:,} characters")


BUDGET = Budget()


def choice_words(found: Iterable[Any]) -> list[Any]:
    """What an expression for choices gave, as words; unread ones are put off. Raises Excess at too many."""
    words: list[Any] = []
    for word in found:
        if len(words) == MOST_CHOICES:
            raise Excess(f"has more than {MOST_CHOICES:,} choices")
        words.append(Unread((), _stripped, (word,)) if isinstance(word, Unread) else _stripped(word))
        BUDGET.say("" if isinstance(word, Unread) else words[-1])
    return words


def _stripped(word: Any) -> str:
    return str(word).strip()


def _size(value: Any) -> int:
    """Characters and items in `value`; looking through a list is paid for."""
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is int:
        return int(value.bit_length()) // 3
    if isinstance(value, list | tuple | dict):
        BUDGET.pay(PER_ITEM * len(value))
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return len(value) + sum(map(_size, inside))
    BUDGET.touched += isinstance(value, Unread)
    return len(value) if kind is range else 1


def _paid(value: Any) -> Any:
    """`value`, its handling paid for. Raises Excess where it is too large."""
    if hasattr(value, "__next__") and not isinstance(value, LoopContext):
        return _each(value, PER_ITEM)
    size = _size(value)
    if size > PER_STEP:  # less is paid for with the loop that it stands in
        fits(size)
        BUDGET.pay(size // PER_STEP)
    return value


def _each(values: Iterator[Any], steps: int) -> Iterator[Any]:
    for value in values:
        BUDGET.pay(steps)
        yield value


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function` of its arguments, paid for; put off where they are unread."""
    size = sum(map(_size, args)) + sum(map(_size, kwargs.values()))
    if size > PER_STEP:
        BUDGET.pay(size // PER_STEP)
    if BUDGET.unread and (holds_unread(args) or holds_unread(kwargs)):
        return _put_off(Unread((), function, args, kwargs))
    return _paid(function(*args, **kwargs))


def _put_off(value: Unread) -> Unread:
    """Note that `value` is to be made once there is a row, and that handling it is to be paid for."""
    BUDGET.touched += len(value.args) + 1
    BUDGET.put_off = [*BUDGET.put_off, value]
    if len(BUDGET.put_off) > MOST_PUT_OFF:
        raise Looked
    return value


class _Method(NamedTuple):
    """A method of a value, not yet called."""

    owner: Any
    name: str


def _call_method(owner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call one of the methods that templates may use."""
    function = METHODS.get(type(owner), {}).get(name)
    if function is None:
        raise SecurityError(f"'{name}' of a {type(owner).__name__} is not for templates")
    return function(owner, *args, **kwargs)


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
}


def _calculate(symbol: str, left: Any, right: Any) -> Any:
    if symbol == "%" and isinstance(left, str):
        raise SecurityError("texts are not formatted by %; use ~ or format")
    if symbol == "*":
        if type(left) is type(right) is int and left.bit_length() + right.bit_length() > MAX_BITS:
            raise Excess(f"makes a number of more than {MAX_BITS:,} bits")
        for items, times in ((left, right), (right, left)):
            if isinstance(items, str | list | tuple) and isinstance(times, int):
                fits(_size(items) * times)
    return _OPERATORS[symbol](left, right)


class Environment(ImmutableSandboxedEnvironment):
    """The environment that packs are rendered in."""

    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, optimized=False, finalize=_printed)
        self.globals = {"range": small_range}
        self.tests = {name: _test(name, test) for name, test in TESTS.items()}
        self.filters = {name: _filter(self, name, function) for name, function in FILTERS.items()}
        self.filters |= {"each!": _looped, "paid!": _handled}
        self.filters |= {"glue!": _filter(self, "", glue), "cut!": _filter(self, "", cut)}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An item of a mapping, or one of the methods that templates may use."""
        if isinstance(obj, Unread) or attribute in METHODS.get(type(obj), ()):
            return _Method(obj, attribute)
        if isinstance(obj, LoopContext) and attribute in LOOP_NAMES:
            return getattr(obj, attribute)
        if hasattr(type(obj), attribute) and not isinstance(obj, Undefined):
            raise SecurityError(f"'{attribute}' of a {type(obj).__name__} is not for templates")
        return get_item(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item of a list, text or mapping."""
        if isinstance(obj, Unread):
            return _put_off(Unread((), get_item, (obj, argument)))
        return get_item(obj, argument)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja2 names them
        """Call a method or `range`; nothing else can be called."""
        kwargs.pop("_loop_vars", None)
        if isinstance(__obj, _Method):
            if isinstance(__obj.owner, dict) and not args:
                return _paid(_call_method(__obj.owner, __obj.name))
            return _apply(_call_method, __obj.owner, __obj.name, *args, **kwargs)
        if __obj is small_range or isinstance(getattr(__obj, "__self__", None), LoopContext):
            return _paid(__obj(*(_handled(__context, value) for value in args), **kwargs))
        raise SecurityError(f"a {type(__obj).__name__} cannot be called")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, and joining of texts and lists, within the bounds of a value."""
        if type(left) is type(right) is int and operator != "*":
            return _OPERATORS[operator](left, right)
        if isinstance(left, Unread) or isinstance(right, Unread):
            value = calculate(operator, partial(_calculate, operator), left, right)
            return _put_off(value) if type(value) is Unread else value  # sums with a draw cost nothing
        return _apply(partial(_calculate, operator), left, right)


def _filter(environment: Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is paid for, and put off where its values are unread."""
    passes = str(getattr(function, "jinja_pass_arg", ""))

    @pass_context
    def run(context: Any, value: Any = (), *args: Any, **kwargs: Any) -> Any:
        if name in WALKING and isinstance(value, str):
            BUDGET.pay(PER_ITEM * len(value))
        bound = function
        if passes.endswith("environment"):
            bound = partial(function, environment)
        elif passes.endswith("context"):
            bound = partial(function, context)
        if BUDGET.unread and name in ITERATING and hasattr(value, "__next__"):
            value = list(value)
        if name in STRUCTURAL and not isinstance(value, Unread):
            return _paid(bound(_paid(value), *args, **kwargs))
        if passes.endswith("context"):
            raise Looked  # it would walk over an unread value
        return _apply(bound, value, *args, **kwargs)

    return run


def _test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that is paid for; unread values can only be tested for being there."""
    def run(*args: Any) -> bool:
        BUDGET.pay(sum(map(_size, args)) // PER_STEP)
        if BUDGET.unread and holds_unread(args) and not (name == "defined" and args[0].place):
            raise Looked
        return bool(function(*args))

    return run


@pass_context
def _looped(context: Any, values: Any, steps: int) -> Any:
    """What a loop walks over, all its turns paid for."""
    if isinstance(values, Unread):
        raise Looked
    if hasattr(values, "__len__"):
        BUDGET.pay(steps * len(values))
        return values
    return _each(values, steps)


@pass_context
def _handled(context: Any, value: Any) -> Any:
    """A value that is compared, or that is printed where its text is not kept apart."""
    if isinstance(value, Unread):
        raise Looked
    return _paid(value)


@pass_context
def _printed(context: Any, value: Any) -> str:
    """What an expression prints; unread values print as themselves."""
    if isinstance(value, Unread):
        return _Slot(value)
    if isinstance(value, list | tuple | dict) and not isinstance(value, _Method):
        value = str(_paid(value))
    elif not (value is None or isinstance(value, str | bool | int | float | Undefined)):
        raise SecurityError(f"a {type(value).__name__} cannot be printed")
    return str(value)


class _Slot(str):
    """An unread value among printed texts."""

    value: Unread

    def __new__(cls, value: Unread) -> "_Slot":
        slot = super().__new__(cls)
        slot.value = value
        return slot

    def __str__(self) -> str:
        return self


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment; one is enough for all templates."""
    return Environment()


def compile_text(tree: nodes.Template) -> Callable[[Mapping[str, Any]], Iterator[Piece]]:
    """A function that renders a text, piece by piece; the budget is to be started before."""
    template = environment().from_string(counted(tree))

    def render(values: Mapping[str, Any]) -> Iterator[Piece]:
        for piece in template.root_render_func(template.new_context(dict(values))):
            BUDGET.say(piece)
            yield piece.value if isinstance(piece, _Slot) else piece

    return render


def compile_expression(tree: nodes.Template) -> Callable[[Mapping[str, Any]], Any]:
    """A function that gives the value of an expression; the budget is to be started before."""
    template = environment().from_string(counted(tree))

    def evaluate(values: Mapping[str, Any]) -> Any:
        context = template.new_context(dict(values))
        for _ in template.root_render_func(context):
            raise AssertionError("an expression prints nothing")
        return context.vars["result"]

    return evaluate
