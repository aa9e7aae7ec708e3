"""Rewrites a syntax tree so that loops, comparisons, displays, slices and `~` are paid for as they run.

What Jinja2 turns straight into Python becomes a call of a filter that no template can name: `each!` for what
a loop walks over, `paid!` for a value that is put together or compared, `cut!` for a slice, `glue!` for `~`.
Filters, methods and arithmetic need no rewriting: the environment of `sandbox.py` is asked for each of them
anyway.
"""

from typing import Any, cast

from jinja2 import nodes

PER_STEP = 16  # characters that are handled in one step
PER_CALL = 5   # steps of a filter, test or method


def counted(node: nodes.Template) -> nodes.Template:
    """`node` rewritten, in place."""
    return cast(nodes.Template, _counted(node))


def _counted(node: nodes.Node) -> nodes.Node:
    weight = _weight(node) if isinstance(node, nodes.For) else 0
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_counted(v) if isinstance(v, nodes.Node) else v for v in value])
        elif isinstance(value, nodes.Node) and not isinstance(value, nodes.Slice):
            setattr(node, field, _counted(value))
    match node:
        case nodes.For():
            node.iter = _call("each!", node.iter, nodes.Const(weight))
        case nodes.Compare() | nodes.Operand() if not isinstance(node.expr, nodes.Const):
            node.expr = _call("paid!", node.expr)
        case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
            return _call("paid!", node)
        case nodes.Concat():
            return _call("glue!", *node.nodes)
        case nodes.Getitem(arg=nodes.Slice(start=start, stop=stop, step=step)):
            ends = [nodes.Const(None) if end is None else _counted(end) for end in (start, stop, step)]
            return _call("cut!", node.node, *ends)
    return node


def _call(name: str, value: Any, *args: nodes.Node) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)


def _weight(loop: nodes.For) -> int:
    """What one turn costs: a step for each node in the loop and for every few characters that it prints."""
    steps, todo = 1, list(loop.iter_child_nodes(exclude=("target", "iter")))
    while todo:
        node = todo.pop()
        steps += PER_CALL if isinstance(node, nodes.Filter | nodes.Test | nodes.Call | nodes.Concat) else 1
        steps += len(node.data) // PER_STEP if isinstance(node, nodes.TemplateData) else 0
        todo += [] if isinstance(node, nodes.For) else node.iter_child_nodes()
    return steps
