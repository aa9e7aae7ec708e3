"""The Jinja2 that packs are written in, and what of it is refused before anything runs.

In: a text or an expression of a pack. Out: its syntax tree. Refused with the line: what does not parse, names
that nobody gave it, statements and filters that packs do not have, attributes that start with an underscore,
nesting and length beyond what a person writes.
"""

from collections.abc import Callable, Collection, Iterator

import jinja2
from jinja2 import meta, nodes
from jinja2.parser import Parser

from zhiling.errors import did_you_mean, one_line
from zhiling.templates.filters import FILTERS, METHODS, TESTS

MAX_SOURCE = 20_000  # characters of a text
MAX_DEPTH = 60       # of its syntax tree
MAX_LOOPS = 4        # in one another
GLOBALS = frozenset({"range"})
LOOP_NAMES = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "cycle", "changed", "previtem",
    "nextitem",
})
CALLED = LOOP_NAMES | {name for methods in METHODS.values() for name in methods}
ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For,
    nodes.Assign, nodes.AssignBlock, nodes.FilterBlock, nodes.CondExpr, nodes.Filter, nodes.Test,
    nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Call, nodes.Compare, nodes.Operand, nodes.And, nodes.Or,
    nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod,
    nodes.Concat, nodes.List, nodes.Dict, nodes.Pair, nodes.Tuple, nodes.Keyword,
)
# nothing is worked out beforehand: `optimized` and a plain `finalize` would run a pack's constants
_ENVIRONMENT = jinja2.Environment(
    keep_trailing_newline=True, optimized=False, finalize=jinja2.pass_context(lambda context, value: value)
)
_ENVIRONMENT.globals, _ENVIRONMENT.filters, _ENVIRONMENT.tests = {}, dict(FILTERS), dict(TESTS)


class SourceError(Exception):
    """Why a source cannot be part of a pack: what was seen in which of its lines, and what to do."""

    def __init__(self, saw: str, do: str, line: int = 1) -> None:
        self.saw, self.do, self.line = saw, do, line
        super().__init__(f"line {line}: {saw}; {do}")


def parse_text(source: str, known: Collection[str]) -> nodes.Template:
    """The syntax tree of a text that uses only `known` names. Raises SourceError."""
    return _checked(source, known, lambda: _ENVIRONMENT.parse(source))


def parse_expression(source: str, known: Collection[str]) -> nodes.Template:
    """The syntax tree of a template that leaves an expression's value in `result`. Raises SourceError."""
    def tree() -> nodes.Template:
        parser = Parser(_ENVIRONMENT, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise jinja2.TemplateSyntaxError("more follows the expression", parser.stream.current.lineno)
        return nodes.Template([nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)], lineno=1)

    return _checked(source, known, tree)


def _checked(source: str, known: Collection[str], parse: Callable[[], nodes.Template]) -> nodes.Template:
    if len(source) > MAX_SOURCE:
        raise SourceError(f"is {len(source):,} characters long", f"keep it under {MAX_SOURCE:,}")
    try:
        tree = parse()
        for node, loops in _walk(tree):
            _check_node(node, loops)
        undeclared = _undeclared(tree) - set(known) - GLOBALS
    except jinja2.TemplateSyntaxError as error:
        problem = one_line(error.message or "", 100)
        raise SourceError(f"does not parse ({problem})", "mend it", error.lineno) from None
    except (RecursionError, ValueError) as error:  # thousands of brackets; a number of thousands of digits
        problem = "nested too deep" if isinstance(error, RecursionError) else one_line(str(error), 60)
        raise SourceError(f"does not parse ({problem})", "simplify it") from None
    for name in sorted(undeclared):
        line = next((n.lineno for n in tree.find_all(nodes.Name) if n.name == name), 1)
        raise SourceError(f"uses the undefined name '{name}'", did_you_mean(name, known), line)
    return tree


def _undeclared(tree: nodes.Template) -> set[str]:
    """As `jinja2.meta.find_undeclared_variables`, which would work out constants."""
    generator = meta.TrackingCodeGenerator(_ENVIRONMENT)
    generator.optimizer = None
    generator.visit(tree)
    return generator.undeclared_identifiers


def _walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node, and in how many loops it is."""
    todo = [(tree, 0, 0)]
    while todo:
        node, depth, loops = todo.pop()
        if depth > MAX_DEPTH:
            raise SourceError("is nested too deep", "simplify it", node.lineno)
        loops += isinstance(node, nodes.For)
        yield node, loops
        todo += [(child, depth + 1, loops) for child in node.iter_child_nodes()]


def _check_node(node: nodes.Node, loops: int) -> None:
    """Refuse what packs do not have."""
    def refuse(saw: str, do: str) -> SourceError:
        return SourceError(saw, do, node.lineno or 1)

    if not isinstance(node, ALLOWED):
        raise refuse(f"uses {type(node).__name__.lower()}, which packs do not have", "write it without")
    if isinstance(node, nodes.Name) and node.name in ("self", "super"):
        raise refuse(f"uses {node.name}, which packs do not have", "write it without")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        do = "use json" if node.name == "tojson" else did_you_mean(node.name, FILTERS)
        raise refuse(f"uses the filter '{node.name}', which packs do not have", do)
    if isinstance(node, nodes.Test) and node.name not in TESTS:
        raise refuse(f"uses the test '{node.name}', which packs do not have", did_you_mean(node.name, TESTS))
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        do = "names with an underscore first are not for templates"
        raise refuse(f"reaches for '{one_line(node.attr, 40)}'", do)
    if isinstance(node, nodes.Call):
        name = getattr(node.node, "attr", getattr(node.node, "name", ""))
        if name not in (CALLED if isinstance(node.node, nodes.Getattr) else GLOBALS):
            do = did_you_mean(name, CALLED | GLOBALS)
            raise refuse(f"calls '{one_line(name, 40)}', which packs do not have", do)
    if isinstance(node, nodes.For) and (node.recursive or loops > MAX_LOOPS):
        saw = "has a recursive loop" if node.recursive else f"has {loops} loops in one another"
        raise refuse(saw, "simplify it")
