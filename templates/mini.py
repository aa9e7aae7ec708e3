"""minijinja, Jinja2's small sister in Rust: for templates that both engines were shown to render alike.

In: a compiled template. Out: a function that renders a row's texts, or None where the template is not for
minijinja. A template is for it if it is written in the part of the language in which the engines do not
differ (no methods, no division, nothing but texts and whole numbers printed; the filters that change texts
are Jinja2's own, called back), and if both engines give the same bytes on every example of the pack.
minijinja counts its own steps and gets short rows only, so that what it makes of one stays small; where it
fails, the sandbox says what is wrong with the row.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from jinja2 import nodes

from zhiling.templates.compiled import Compiled, part_name
from zhiling.templates.filters import FILTERS, join
from zhiling.templates.language import parse_text
from zhiling.templates.pack import NAMES
from zhiling.templates.sandbox import environment as sandbox

FUEL = 20_000              # minijinja's steps for one text
OWN_FOR_MINIJINJA = 8_000  # characters of a row
MAX_SOURCE = 8_000         # of a text of the template
OWN = frozenset({"d", "default", "first", "last"})  # minijinja's own do the same
CALLED = frozenset({
    "capitalize", "count", "join", "json", "length", "letter", "list", "lower", "replace", "string", "title", "trim",
    "upper",
})
TESTED = frozenset({"defined", "undefined"})
SHARED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For,
    nodes.Assign, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Getitem, nodes.Getattr, nodes.Slice,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Add, nodes.Sub,
    nodes.FloorDiv, nodes.Mod, nodes.Concat, nodes.List, nodes.Dict, nodes.Pair, nodes.Tuple,
)
Render = Callable[[Mapping[str, Any]], dict[str, str]]


def minijinja_for(compiled: Compiled) -> Render | None:
    """A function that renders the texts of `compiled` by minijinja; None where it is not written for it."""
    import minijinja

    if not _is_shared(compiled):
        return None
    environment = minijinja.Environment()
    environment.undefined_behavior, environment.keep_trailing_newline = "strict", True
    environment.fuel = FUEL
    for name in CALLED:
        environment.add_filter(name, _called(FILTERS[name] if name != "join" else partial(join, sandbox())))
    for key, source in compiled.template.texts.items():
        environment.add_template(part_name(key), source)

    def render(values: Mapping[str, Any]) -> dict[str, str]:
        return {part: environment.render_template(part, **values) for part in compiled.texts}

    return render


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that minijinja calls; it fails on undefined values, which minijinja hands over as None."""
    def run(*args: Any, **kwargs: Any) -> Any:
        if any(map(_holds_none, args)):
            raise ValueError("undefined")
        return function(*args, **kwargs)

    return run


def _holds_none(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return value is None or any(map(_holds_none, inside))


def _is_shared(compiled: Compiled) -> bool:
    """Whether all texts keep to what the engines share, and print nothing but texts and whole numbers."""
    columns = compiled.pack.settings.columns
    lists = {"choices", "labels", "verbalizer"}
    lists |= {name for name, kind in columns.items() if kind == "strings"}
    kinds = set(compiled.columns.values())
    if len(compiled.pack.label_columns) > 1 or not kinds <= {"string", "label", "strings"}:
        return False
    for source in compiled.template.texts.values():
        tree = parse_text(source, columns.keys() | NAMES)
        printed = [n for output in tree.find_all(nodes.Output) for n in output.nodes]
        kept = [assigned.node for assigned in tree.find_all(nodes.Assign)]
        if len(source) > MAX_SOURCE or not all(map(_shared, _all(tree))):
            return False
        if not all(_is_text(n, lists) for n in printed + kept):
            return False
    return True


def _all(tree: nodes.Node) -> Iterator[nodes.Node]:
    yield tree
    for child in tree.iter_child_nodes():
        yield from _all(child)


def _shared(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in OWN | CALLED
    if isinstance(node, nodes.Test):
        return node.name in TESTED
    if isinstance(node, nodes.CondExpr) and node.expr2 is None:
        return False
    return isinstance(node, SHARED) and not (isinstance(node, nodes.Const) and isinstance(node.value, float))


def _is_text(node: nodes.Node, lists: Collection[str]) -> bool:
    """Whether an expression is no list or mapping; those print differently in the two engines."""
    if isinstance(node, nodes.Name):
        return node.name not in lists
    if isinstance(node, nodes.CondExpr):
        return node.expr2 is not None and _is_text(node.expr1, lists) and _is_text(node.expr2, lists)
    if isinstance(node, nodes.And | nodes.Or):
        return _is_text(node.left, lists) and _is_text(node.right, lists)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _is_text(node.node, lists)
    if isinstance(node, nodes.Filter) and node.name in ("d", "default"):
        return all(_is_text(n, lists) for n in [node.node, *node.args] if n is not None)
    is_list = isinstance(node, nodes.List | nodes.Dict | nodes.Tuple | nodes.Add)
    return not (is_list or (isinstance(node, nodes.Filter) and node.name == "list"))
