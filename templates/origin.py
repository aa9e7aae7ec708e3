"""Where each character of a rendered prompt comes from: the template's own words, the row's, or both at once.

In: a compiled template and rows. Out: each prompt as spans of one origin. Every `{{ ... }}` is rendered between
two marks that stand nowhere in the row; what lies between them comes from that expression, the rest is the
template's text. Nothing is guessed: an expression that blends both is called mixed, and so is a whole prompt
whose marked rendering, the marks removed, is not the plain one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jinja2
from jinja2 import nodes

from zhiling.templates.pack import Pack, TemplateSettings
from zhiling.templates.render import Compiled, Rendered, compile_template, render_batch

Origin = Literal["template", "row", "mixed", "answer"]
OPEN, CLOSE = "\ufdd0", "\ufdd1"  # characters that Unicode keeps out of texts
_MARK = re.compile(f"{OPEN}(\\d+);|{CLOSE}")
_WRITES_ITS_ARGUMENTS = {"join", "default", "d", "replace", "format"}


@dataclass(frozen=True)
class Span:
    """A stretch of text of one origin."""

    text: str
    origin: Origin


def render_spans(
    compiled: Compiled, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], seed: int
) -> tuple[Rendered, list[list[Span]]]:
    """Render rows, and say for each prompt where its characters come from."""
    plain = render_rows(compiled, rows, ids, seed)
    marked_pack, origins = _marked_pack(compiled.pack, compiled.template)
    marked = render_rows(compile_template(marked_pack, compiled.template.name), rows, ids, seed)
    spans = []
    for row, prompt, text in zip(rows, plain.prompts, marked.prompts, strict=True):
        found = None if _holds_marks(row) else _spans(text, origins, prompt)
        spans.append(found or [Span(prompt, "mixed")])
    return plain, spans


def template_words(spans: Sequence[Span]) -> str:
    """The template's own words in a prompt; a gap (U+FFFC) stands for what the row brought."""
    return re.sub("\ufffc+", "\ufffc", "".join(s.text if s.origin == "template" else "\ufffc" for s in spans))


def render_rows(compiled: Compiled, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], seed: int) -> Rendered:
    """Render rows that are given one by one, not as columns."""
    columns = {column: [row[column] for row in rows] for column in compiled.pack.settings.columns}
    return render_batch(compiled, columns, ids, seed)


def _marked_pack(pack: Pack, template: TemplateSettings) -> tuple[Pack, list[Origin]]:
    """`pack` with marks around each expression of `template`, and the origin of each marked expression."""
    origins: list[Origin] = []
    def marked(source: str | None) -> str | None:
        return None if source is None else _marked(source, pack, template, origins)

    turns = template.turns and [t.model_copy(update={"content": marked(t.content)}) for t in template.turns]
    update = {"system": marked(template.system), "prompt": marked(template.prompt), "turns": turns}
    changed = template.model_copy(update=update)
    others = [changed if t.name == template.name else t for t in pack.settings.templates]
    return replace(pack, settings=pack.settings.model_copy(update={"templates": others})), origins


def _marked(source: str, pack: Pack, template: TemplateSettings, origins: list[Origin]) -> str:
    """`source` with each `{{ ... }}` between marks; the lexer has already applied white space control."""
    environment = jinja2.Environment(keep_trailing_newline=True)
    known = _known_names(environment.parse(source), pack, template)
    written: list[str] = []
    inside: list[str] | None = None
    for _, token, value in environment.lex(source):
        if token == "variable_begin":
            inside = []
        elif token == "variable_end" and inside is not None:
            expression = "{{" + "".join(inside) + "}}"
            output = next(iter(environment.parse(expression).find_all(nodes.Output)))
            written.append(f"{OPEN}{len(origins)};{expression}{CLOSE}")
            origins.append(_origin(output.nodes[0], known) or "template")
            inside = None
        elif inside is not None:
            inside.append(value)
        elif not token.startswith("comment"):
            written.append(value)
    return "".join(written)


def _known_names(tree: nodes.Template, pack: Pack, template: TemplateSettings) -> dict[str, Origin | None]:
    """Where the value of each name comes from; a label names one of the pack's own words."""
    known: dict[str, Origin | None] = {
        name: "template" if kind == "label" else "row" for name, kind in pack.settings.columns.items()
    }
    by_row = isinstance(template.choices, str) and template.choices != "none"
    known |= {"choices": "row" if by_row else "template", "verbalizer": "template", "labels": "template"}
    for statement in tree.find_all((nodes.Assign, nodes.For)):
        assert isinstance(statement, nodes.Assign | nodes.For)
        origin = _origin(statement.node if isinstance(statement, nodes.Assign) else statement.iter, known)
        target = statement.target
        for name in [target] if isinstance(target, nodes.Name) else target.find_all(nodes.Name):
            known[name.name] = _both(known.get(name.name), origin)
    return known


def _origin(node: nodes.Node, known: Mapping[str, Origin | None]) -> Origin | None:
    """Where the text of an expression comes from; None where it brings none, as a count or a comparison."""
    if isinstance(node, nodes.Const):
        return "template" if isinstance(node.value, str) else None
    if isinstance(node, nodes.Name):
        return known.get(node.name)
    if isinstance(node, nodes.Getitem | nodes.Getattr):
        return _origin(node.node, known)
    if isinstance(node, nodes.Compare | nodes.Test | nodes.Not):
        return None
    if isinstance(node, nodes.CondExpr):
        return _both(_origin(node.expr1, known), _origin(node.expr2, known) if node.expr2 else None)
    if isinstance(node, nodes.Filter):
        origin = _origin(node.node, known) if node.node else None
        if node.name in ("length", "count", "letter"):
            return None
        return _with_arguments(origin, node.name, node.args, known)
    if isinstance(node, nodes.Call):
        if isinstance(node.node, nodes.Getattr):
            return _with_arguments(_origin(node.node.node, known), node.node.attr, node.args, known)
        return None
    origin = None
    for child in node.iter_child_nodes():
        origin = _both(origin, _origin(child, known))
    return origin


def _with_arguments(
    origin: Origin | None, name: str, arguments: Sequence[nodes.Node], known: Mapping[str, Origin | None]
) -> Origin | None:
    """Origin of a filter's or method's text, whose arguments stand in it for some."""
    for argument in arguments if name in _WRITES_ITS_ARGUMENTS else ():
        if not (isinstance(argument, nodes.Const) and not str(argument.value).strip()):
            origin = _both(origin, _origin(argument, known))
    return origin


def _both(one: Origin | None, other: Origin | None) -> Origin | None:
    if one is None or other is None or one == other:
        return one or other
    return "mixed"


def _holds_marks(value: Any) -> bool:
    if isinstance(value, str):
        return OPEN in value or CLOSE in value
    if isinstance(value, Mapping):
        return any(_holds_marks(v) for pair in value.items() for v in pair)
    return isinstance(value, Sequence) and any(_holds_marks(v) for v in value)


def _spans(text: str, origins: Sequence[Origin], plain: str) -> list[Span] | None:
    """The spans of a marked rendering, or None where without its marks it is not the plain one."""
    spans: list[Span] = []
    stack: list[Origin] = ["template"]
    at = 0
    for mark in _MARK.finditer(text):
        spans.append(Span(text[at : mark.start()], stack[-1]))
        at = mark.end()
        if mark[1] is not None:
            stack.append(origins[int(mark[1])])
        elif len(stack) > 1:
            stack.pop()
    spans.append(Span(text[at:], stack[-1]))
    while spans and not spans[-1].text.rstrip():
        spans.pop()
    if spans:
        spans[-1] = Span(spans[-1].text.rstrip(), spans[-1].origin)
    return _joined(spans) if "".join(s.text for s in spans) == plain else None


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Neighbours of one origin as one span, without empty ones."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.text and joined[-1].origin == span.origin:
            joined[-1] = Span(joined[-1].text + span.text, span.origin)
        elif span.text:
            joined.append(span)
    return joined
