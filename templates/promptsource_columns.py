"""What the columns of an imported pack hold, told from how the prompts use them.

In: the sources of a dataset's prompts. Out: each column's type. A value that is looked into, looped over, counted
with or used as an index is `json`; everything else is text.
"""

from collections.abc import Iterable, Iterator

from jinja2 import meta, nodes

from zhiling.rows import ColumnType
from zhiling.templates.filters import METHODS
from zhiling.templates.promptsource_sandbox import environment

OF_LISTS = {
    "choice", "first", "join", "last", "list", "map", "max", "min", "most_frequent", "random", "reject", "select",
    "selectattr", "sort", "unique",
}
OF_NUMBERS = {"abs", "float", "int", "round"}


def column_types(sources: Iterable[tuple[str, str | None]]) -> dict[str, ColumnType]:
    """The type of every name that the sources use and do not set."""
    used: set[str] = set()
    looked_into: set[str] = set()
    for pair in sources:
        for source in filter(None, pair):
            tree = environment().parse(source)
            used |= meta.find_undeclared_variables(environment().parse(source))
            looked_into |= {name for node in tree.find_all(nodes.Node) for name in _json_names(node)}
    return {name: "json" if name in looked_into else "string" for name in used}


def _json_names(node: nodes.Node) -> Iterator[str]:
    """Names whose values `node` shows to be no text."""
    if isinstance(node, nodes.Getattr) and node.attr not in METHODS[str]:
        yield from _name(node.node)
    elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
        yield from _name(node.node)
        yield from _name(node.arg)
        if isinstance(node.arg, nodes.Add | nodes.Sub):
            yield from _name(node.arg.left)
    elif isinstance(node, nodes.For):
        yield from _name(node.iter)
    elif isinstance(node, nodes.Filter) and node.name in OF_LISTS | OF_NUMBERS and node.node is not None:
        yield from _name(node.node)
    elif isinstance(node, nodes.Sub | nodes.Mul | nodes.Div | nodes.Mod):
        yield from _name(node.left)
        yield from _name(node.right)
    elif isinstance(node, nodes.Compare):
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if any(_is_number(side) for side in sides):
            for side in sides:
                yield from _name(side)


def _name(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Name):
        yield node.name


def _is_number(node: nodes.Node) -> bool:
    """Whether it is a number or yes or no, or a list of such."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return bool(node.items) and all(map(_is_number, node.items))
    if isinstance(node, nodes.Neg):
        return _is_number(node.node)
    return isinstance(node, nodes.Const) and isinstance(node.value, bool | int | float)
