"""Jinja2 as packs run it: no way out of the template, and nothing that is not paid for.

In: syntax trees that `language.py` has passed. Out: functions that render them. Every value that a template makes,
every turn of a loop and every text that it prints is paid for from the row's budget (`budget.py`); what would take
more, or make a larger value than a row may be, is refused.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import BuiltinFunctionType
from typing import Any, NamedTuple, cast

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zhiling.templates.budget import BUDGET, PER_ITEM, handled, paid, size, walked
from zhiling.templates.counting import PER_STEP, counted
from zhiling.templates.filters import (
    FILTERS,
    FREE,
    ITERATING,
    METHODS,
    MODEST,
    OF_KIND,
    STRUCTURAL,
    TESTS,
    WALKING,
    Excess,
    call_method,
    cut,
    fits,
    get_item,
    glue,
    small_range,
)
from zhiling.templates.language import LOOP_NAMES
from zhiling.templates.unread import Looked, Unread, ask, calculate, holds_unread, items_of

ERRORS = (  # what a template can do to itself
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)
MAX_BITS = 4096  # of a product
Piece = str | Unread
Values = Mapping[str, Any]


class _Method(NamedTuple):
    """A method of a value, not yet called."""

    owner: Any
    name: str


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function` of its arguments, paid for; put off where they are unread."""
    handled((*args, *kwargs.values()) if kwargs else args)
    if BUDGET.unread and (holds_unread(args) or holds_unread(kwargs)):
        return BUDGET.put(Unread((), function, args, kwargs))
    return paid(function(*args, **kwargs))


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
                fits(size(items) * times)
    return _OPERATORS[symbol](left, right)


_DICT = frozenset(dir(dict))
_METHODS = frozenset(name for methods in METHODS.values() for name in methods)


class Environment(ImmutableSandboxedEnvironment):
    """The environment that packs are rendered in."""

    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, optimized=False, finalize=_printed)
        self.tests = {name: _test(name, test) for name, test in TESTS.items()}
        self.filters = {name: _filter(self, name, function) for name, function in FILTERS.items()}
        self.filters |= {"each!": _looped, "paid!": paid}
        self.filters |= {"glue!": _filter(self, "", glue), "cut!": _filter(self, "", cut)}
        self.concat = cast(Any, _concatenated)  # type: ignore[method-assign]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An item of a mapping, or one of the methods that templates may use."""
        kind = type(obj)
        if kind is LoopContext and attribute in LOOP_NAMES:
            return getattr(obj, attribute)
        if kind is dict and attribute not in _DICT:
            return obj[attribute] if attribute in obj else get_item(obj, attribute)
        if attribute in METHODS.get(kind, ()) or (attribute in _METHODS and isinstance(obj, Unread)):
            return _Method(obj, attribute)
        if isinstance(obj, Unread):
            return BUDGET.put(Unread((), self.getattr, (obj, attribute)))
        if hasattr(kind, attribute) and not isinstance(obj, Undefined):
            raise SecurityError(f"'{attribute}' of a {kind.__name__} is not for templates")
        return get_item(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item of a list, text or mapping."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return get_item(obj, argument)
        except Looked:
            return BUDGET.put(Unread((), get_item, (obj, argument)))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - Jinja2's names
        """Call a method or `range`; nothing else can be called."""
        kwargs.pop("_loop_vars", None)
        if isinstance(__obj, _Method):
            if isinstance(__obj.owner, dict) and not args:
                return paid(call_method(__obj.owner, __obj.name))
            return _apply(call_method, __obj.owner, __obj.name, *args, **kwargs)
        if __obj is small_range or isinstance(getattr(__obj, "__self__", None), LoopContext):
            return paid(__obj(*map(_known, args), **kwargs))
        raise SecurityError(f"a {type(__obj).__name__} cannot be called")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, and joining of texts and lists, within the bounds of a value."""
        if type(left) is type(right) is int and operator != "*":
            return _OPERATORS[operator](left, right)
        function = _CALCULATIONS[operator]
        if isinstance(left, Unread) or isinstance(right, Unread):
            value = calculate(operator, function, left, right)
            return BUDGET.put(value) if type(value) is Unread else value  # sums with a draw cost nothing
        return _apply(function, left, right)


_CALCULATIONS = {symbol: partial(_calculate, symbol) for symbol in _OPERATORS}


def _filter(environment: Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is paid for, and put off where its values are unread."""
    passes = str(getattr(function, "jinja_pass_arg", ""))
    modest, free, walks, iterates = name in MODEST, name in FREE, name in WALKING, name in ITERATING
    in_environment = partial(function, environment) if passes.endswith("environment") else function

    @pass_context
    def run(context: Any, value: Any = (), *args: Any, **kwargs: Any) -> Any:
        if modest and type(value) in (str, int) and (type(value) is int or len(value) <= PER_STEP) and not args:
            return function(value, **kwargs)  # too little to count
        if isinstance(value, Unread):
            if passes.endswith("context"):
                raise Looked  # it would walk over an unread value
            BUDGET.walks += walks
            return _apply(in_environment, value, *args, **kwargs)
        if free:
            return in_environment(value, *args, **kwargs)
        if walks and isinstance(value, str):
            BUDGET.pay(PER_ITEM * len(value))
        if name in STRUCTURAL:
            bound = partial(function, context) if passes.endswith("context") else in_environment
            return paid(bound(paid(value), *args, **kwargs))
        if iterates and BUDGET.unread and hasattr(value, "__next__"):
            value = list(value)
        return _apply(in_environment, value, *args, **kwargs)

    return run


def _test(name: str, function: Callable[..., Any]) -> Callable[..., bool]:
    """A test that is paid for; it is asked of unread values."""
    def truth(*args: Any) -> bool:
        return bool(function(*args))

    asked = function if isinstance(function, BuiltinFunctionType) else truth  # that is `==` or the like

    def run(*args: Any) -> bool:
        if name not in OF_KIND:
            handled(args)
        return bool(ask(asked, *args)) if BUDGET.unread and holds_unread(args) else truth(*args)

    return run


def _looped(values: Any, steps: int) -> Any:
    """What a loop walks over, all its turns paid for."""
    if isinstance(values, Unread):
        values = list(map(BUDGET.put, items_of(values)))
    if hasattr(values, "__len__"):
        BUDGET.pay(steps * len(values))
        return values
    return walked(values, steps)


def _known(value: Any) -> Any:
    """A value that cannot be unread; small numbers are asked."""
    return ask(_itself, value) if isinstance(value, Unread) else value


def _itself(value: Any) -> Any:
    return value


def _concatenated(pieces: Iterable[str]) -> str | Unread:
    """Printed pieces as one text, unread where one of them is."""
    values = [Unread((), _as_printed, (p.value,)) if isinstance(p, _Slot) else p for p in pieces]
    return cast(str | Unread, _apply(glue, *values))


def _as_printed(value: Any) -> str:
    return str(_printed(None, value))


@pass_context
def _printed(context: Any, value: Any) -> str:
    """What an expression prints; unread values print as themselves."""
    if isinstance(value, str):
        return value
    if isinstance(value, Unread):
        return _Slot(value)
    if isinstance(value, list | tuple | dict) and not isinstance(value, _Method):
        return str(paid(value))
    if value is None or isinstance(value, bool | int | float | Undefined):
        return str(value)
    raise SecurityError(f"a {type(value).__name__} cannot be printed")


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


def compile_text(tree: nodes.Template) -> Callable[[Values], Sequence[Piece]]:
    """A function that renders a text, piece by piece; the budget is to be started before."""
    template = environment().from_string(counted(tree))

    def render(values: Values) -> Sequence[Piece]:
        pieces = list(template.root_render_func(_context(template, values)))
        BUDGET.say(sum(map(len, pieces)))
        return [p.value if isinstance(p, _Slot) else p for p in pieces] if BUDGET.unread else pieces

    return render


def compile_expression(tree: nodes.Template) -> Callable[[Values], Any]:
    """A function that gives the value of an expression; the budget is to be started before."""
    template = environment().from_string(counted(tree))

    def evaluate(values: Values) -> Any:
        context = _context(template, values)
        for _ in template.root_render_func(context):
            raise AssertionError("an expression prints nothing")
        return context.vars["result"]

    return evaluate


def _context(template: jinja2.Template, values: Values) -> Context:
    return Context(template.environment, {"range": small_range, **values}, template.name, template.blocks)
