"""Jinja2 as promptsource's prompts need it: lenient where a name is undefined, able to change lists, and paid for.

In: a source. Out: a function that renders it for a row. As in `sandbox.py`, all that is done is paid for from the
row's budget; what would take more, and whatever promptsource's prompts do not use (imports, macros, methods
that lead out of a value), is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace

from zhiling.errors import one_line
from zhiling.templates.budget import BUDGET, PER_ITEM, handled, paid, size, walked
from zhiling.templates.counting import counted
from zhiling.templates.filters import FILTERS, METHODS, TESTS, WALKING, cut, fits, glue, small_range
from zhiling.templates.language import ALLOWED

DRAWS = " draws"  # no template can write a name with a space
MAX_BITS = 4096
PRINTED = (str, bool, int, float, type(None), list, tuple, dict, range, Undefined)
Methods = Mapping[str, Callable[..., Any]]
Draw = Callable[[int], int]  # a number below the one given, by chance
Render = Callable[[Mapping[str, Any], Draw], str]


class _Loop:
    """What a loop walks over, each turn paid for; its length is known to `loop.length`."""

    def __init__(self, values: Any, steps: int) -> None:
        self.values, self.steps = values, steps

    def __iter__(self) -> Iterator[Any]:
        return walked(iter(self.values), self.steps)

    def __len__(self) -> int:
        return len(self.values)


def _joined(between: str, words: Iterable[Any]) -> str:
    listed = list(words)
    fits(sum(map(size, listed)) + len(between) * len(listed))
    return between.join(listed)


def _replaced(text: str, old: str, new: str, times: int = -1) -> str:
    fits(len(text) + text.count(old) * len(new))
    return text.replace(old, new, times)


ITS: Mapping[type, Methods] = {  # methods as Python has them: a pack's are more lenient, and change nothing
    str: {**METHODS[str], "join": _joined, "replace": _replaced},
    list: {name: getattr(list, name) for name in ("append", "clear", "extend", "insert", "pop", "remove", "reverse")},
    dict: {name: getattr(dict, name) for name in ("clear", "pop", "setdefault", "update")},
}


def highlight(value: Any) -> Any:
    """Promptsource's marks around what a row brought."""
    return "<span style='color: #F08080'>" + value + "</span>"


def most_frequent(items: Any) -> list[Any] | None:
    """The items that stand in a list most often, in the order in which they first stand there."""
    if not items:
        return None
    counts: dict[Any, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return [item for item, count in counts.items() if count == max(counts.values())]


@pass_context
def choice(context: Any, items: Any) -> Any:
    """One of a list, by the row's draw."""
    if not len(items):
        raise IndexError("cannot choose from an empty sequence")
    return items[context[DRAWS](len(items))]


@pass_context
def random(context: Any, items: Any) -> Any:
    """As `choice`; undefined where there is nothing to choose from."""
    if not len(items):
        return context.environment.undefined("No random item, sequence was empty.")
    return choice(context, items)


OWN: Mapping[str, Callable[..., Any]] = {
    "highlight": highlight, "most_frequent": most_frequent, "choice": choice, "random": random,
}


class Environment(SandboxedEnvironment):
    """The environment that promptsource's prompts are rendered in."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self) -> None:
        super().__init__(optimized=False, finalize=_printed)
        self.globals = {"range": small_range, "zip": zip, "namespace": Namespace}
        self.tests = {name: _test(test) for name, test in TESTS.items()}
        self.filters = {name: _filter(self, name, function) for name, function in {**FILTERS, **OWN}.items()}
        self.filters |= {"each!": _each, "paid!": pass_context(lambda context, value: paid(value))}
        self.filters |= {"glue!": _filter(self, "", glue), "cut!": _filter(self, "", cut)}

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - Jinja2's names
        """Call a method of a value, `range`, `zip` or `namespace`; nothing else can be called."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        handled((owner, *args, *kwargs.values()))
        if isinstance(__obj, Undefined) or __obj in (small_range, zip, Namespace) or isinstance(owner, LoopContext):
            return paid(__obj(*args, **kwargs))
        function = ITS.get(type(owner), {}).get(name) or METHODS.get(type(owner), {}).get(name)
        if function is None:
            raise SecurityError(f"calls '{one_line(str(name), 40)}', which imported prompts do not have")
        return paid(function(owner, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, within the bounds of a value."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("texts are not formatted by %")
        if operator == "*":
            if type(left) is type(right) is int and left.bit_length() + right.bit_length() > MAX_BITS:
                raise SecurityError(f"makes a number of more than {MAX_BITS:,} bits")
            for items, times in ((left, right), (right, left)):
                if isinstance(items, str | list | tuple) and isinstance(times, int):
                    fits(size(items) * times)
        handled((left, right))
        return paid(self.binop_table[operator](left, right))


def _filter(environment: Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is paid for."""
    passes = str(getattr(function, "jinja_pass_arg", ""))

    @pass_context
    def run(context: Any, value: Any = (), *args: Any, **kwargs: Any) -> Any:
        if name in WALKING and isinstance(value, str):
            BUDGET.pay(PER_ITEM * len(value))
        handled((value, *args, *kwargs.values()))
        bound = function
        if passes.endswith("context"):
            bound = partial(function, context)
        elif passes.endswith("environment"):
            bound = partial(function, environment)
        return paid(bound(value, *args, **kwargs))

    return run


def _test(function: Callable[..., Any]) -> Callable[..., bool]:
    def run(*args: Any) -> bool:
        handled(args)
        return bool(function(*args))

    return run


@pass_context
def _each(context: Any, values: Any, steps: int) -> Iterable[Any]:
    return _Loop(values, steps) if hasattr(values, "__len__") else walked(iter(values), steps)


@pass_context
def _printed(context: Any, value: Any) -> Any:
    """What an expression prints, as Jinja2 does; an object of another kind would print its place in memory."""
    if not isinstance(value, PRINTED):
        raise SecurityError(f"a {type(value).__name__} cannot be printed")
    return paid(value)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment; one is enough for all prompts."""
    return Environment()


def compile_source(source: str) -> Render:
    """A function that renders `source` for a row's values. Raises TemplateError where it holds what prompts do not."""
    try:
        tree = environment().parse(source)
        for node in tree.find_all(nodes.Node):
            if not isinstance(node, (*ALLOWED, nodes.NSRef)) or (isinstance(node, nodes.For) and node.recursive):
                line = getattr(node, "lineno", 1) or 1
                raise jinja2.TemplateSyntaxError(f"uses {type(node).__name__.lower()}", line)
        template = environment().from_string(counted(tree))
    except RecursionError:
        raise jinja2.TemplateSyntaxError("is nested too deep", 1) from None

    def render(values: Mapping[str, Any], draw: Draw) -> str:
        pieces = []
        for piece in template.root_render_func(template.new_context({**values, DRAWS: draw})):
            BUDGET.say(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    return render
