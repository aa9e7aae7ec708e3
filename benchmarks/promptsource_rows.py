"""Rows shaped like the datasets that promptsource's prompts were written for, told from how the prompts use them.

In: the sources of all prompts of one dataset. Out: random rows in which a name that is looped over is a list,
a name with fields is a mapping, a label that picks an answer is a small number, and a value that is compared
is often one that it is compared with. Among the texts are separators, braces, emoji and odd white space.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jinja2
from jinja2 import nodes

WORDS = (
    "river", "Paris", "the", "blue", "seven", "runs", "because", "Mr. Lee", "café", "你好", "2019", "score", "🙂",
    "it's", '"quoted"', "a|b", "x_y", "under", "over", "no", "yes", "12.5", "end.", "Why?", "(sic)", "C++",
)
HOSTILE = (
    "{{ 7 * 7 }}", "a ||| b", "{% if x %}", "  padded  ", "line\nbreak", "", "\t", "|||", "}}", "<b>&amp;</b>", "\x00",
)
TEXT_METHODS = {
    "split", "lower", "upper", "replace", "strip", "startswith", "endswith", "capitalize", "title", "format",
}
LIST_METHODS = {"append", "pop", "extend", "remove"}
NUMBERS = {"int", "float", "round", "abs"}
ONE_OF_LIST = {"first", "last", "choice", "random", "min", "max"}
LISTS = {"unique", "select", "reject", "sort", "list", "reverse", "most_frequent"}
TEXTS = {"lower", "upper", "capitalize", "trim", "replace", "title", "format"}


@dataclass(eq=False)
class Shape:
    """What is known of a value from how prompts use it."""

    fields: dict[str, "Shape"] = field(default_factory=dict)
    items: "Shape | None" = None
    fixed: list[Any] | None = None                  # a list or mapping written out in the prompt: its items or keys
    parts: list["Shape"] | None = None              # what each place of a pair is, as from zip
    values: list[Any] = field(default_factory=list)         # what it is compared with or looked up among
    places: list[tuple["Shape", int]] = field(default_factory=list)  # lists it is an index into, less so much
    members: list["Shape"] = field(default_factory=list)    # lists it should be found in
    least: int = 0                                  # how long the list must be
    text: bool = False
    number: bool = False
    sequence: bool = False
    length_of: "Shape | None" = None
    parent: "Shape | None" = None                   # the list whose item it is
    origin: "Shape | None" = None                   # the text of which it is a piece
    said: list[str] = field(default_factory=list)   # what the text is searched for

    def item(self) -> "Shape":
        """What each item is."""
        self.items = self.items or Shape(parent=self, origin=self.origin)
        return self.items

    def says(self, words: Iterable[Any]) -> None:
        """The text that this is, or is a piece of, should hold `words`."""
        whole = self.origin or self
        whole.text = True
        whole.said += [word for word in words if isinstance(word, str) and word]


class Usage:
    """How a dataset's prompts use its names: one Shape a name."""

    def __init__(self, sources: Iterable[tuple[str, str | None]]) -> None:
        self.names: dict[str, Shape] = {}
        environment = jinja2.Environment()
        for source, answer_choices in sources:
            answers = Shape(sequence=True, fixed=[])
            if answer_choices is not None:
                self.scope = {"loop": Shape()}
                self._walk(environment.parse(answer_choices).body)
                answers.fixed = [part.strip() for part in answer_choices.split("|||")]
            self.scope = {"loop": Shape(), "answer_choices": answers}
            self._walk(environment.parse(source).body)

    def _walk(self, body: list[nodes.Node]) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    self._read(part)
            elif isinstance(node, nodes.For):
                self._bind(node.target, self._looped(self._read(node.iter)))
                if node.test:
                    self._read(node.test)
                self._walk(node.body)
                self._walk(node.else_)
            elif isinstance(node, nodes.If):
                self._read(node.test)
                self._walk([*node.body, *node.elif_, *node.else_])
            elif isinstance(node, nodes.Assign):
                self._bind(node.target, self._read(node.node))

    def _looped(self, shape: Shape) -> Shape:
        shape.sequence = True
        return Shape(parts=shape.parts) if shape.parts else shape.item()

    def _bind(self, target: nodes.Node, shape: Shape) -> None:
        if isinstance(target, nodes.Name):
            self.scope[target.name] = shape
        elif isinstance(target, nodes.NSRef):
            self.scope[f"{target.name}.{target.attr}"] = shape
        elif isinstance(target, nodes.Tuple):
            for i, inner in enumerate(target.items):
                self._bind(inner, shape.parts[i] if shape.parts else shape.item())
            if not shape.parts:
                shape.sequence, shape.least = True, max(shape.least, len(target.items))

    def _read(self, node: nodes.Node) -> Shape:
        read = getattr(self, f"_{type(node).__name__.lower()}", None)
        if read:
            return read(node)
        shapes = [self._read(child) for child in node.iter_child_nodes()]
        return shapes[0] if shapes else Shape()

    def _templatedata(self, node: nodes.TemplateData) -> Shape:
        return Shape()

    def _const(self, node: nodes.Const) -> Shape:
        return Shape(fixed=[node.value])

    def _name(self, node: nodes.Name) -> Shape:
        if node.name in ("range", "zip", "namespace"):
            return Shape()
        return self.scope.get(node.name) or self.names.setdefault(node.name, Shape())

    def _list(self, node: nodes.List) -> Shape:
        shapes = [self._read(item) for item in node.items]
        constant = [item.value for item in node.items if isinstance(item, nodes.Const)]
        fixed = constant + [None] * (len(shapes) - len(constant))
        return Shape(sequence=True, fixed=fixed, items=shapes[0] if shapes else None)

    _tuple = _list

    def _dict(self, node: nodes.Dict) -> Shape:
        fields = {pair.key.value: self._read(pair.value) for pair in node.items if isinstance(pair.key, nodes.Const)}
        return Shape(fields=fields, fixed=list(fields))

    def _getattr(self, node: nodes.Getattr) -> Shape:
        if isinstance(node.node, nodes.Name) and f"{node.node.name}.{node.attr}" in self.scope:
            return self.scope[f"{node.node.name}.{node.attr}"]
        return self._read(node.node).fields.setdefault(node.attr, Shape())

    def _getitem(self, node: nodes.Getitem) -> Shape:
        base, arg = self._read(node.node), node.arg
        if isinstance(arg, nodes.Const) and isinstance(arg.value, str):
            return base.fields.setdefault(arg.value, Shape())
        if base.fixed is not None and base.fields:
            self._read(arg).values += base.fixed
            return Shape()
        base.sequence = True
        if isinstance(arg, nodes.Slice):
            for bound in (arg.start, arg.stop):
                if bound is not None:
                    self._read(bound).number = True
            return base
        if isinstance(arg, nodes.Const) and isinstance(arg.value, int):
            base.least = max(base.least, arg.value + 1)
        else:
            less = arg.right.value if isinstance(arg, nodes.Sub) and isinstance(arg.right, nodes.Const) else 0
            self._read(arg).places.append((base, less))
        if base.parts and isinstance(arg, nodes.Const):
            return base.parts[arg.value]
        return base.item()

    def _filter(self, node: nodes.Filter) -> Shape:
        base = self._read(node.node) if node.node else Shape()
        arguments = [self._read(a) for a in (*node.args, *(k.value for k in node.kwargs))]
        constants = [a.fixed[0] for a in arguments if a.fixed]
        if node.name in ONE_OF_LIST:
            base.sequence = True
            return base.item()
        if node.name in LISTS or node.name == "join":
            base.sequence = base.sequence or not base.text
            return Shape(text=True) if node.name == "join" else base
        if node.name == "map":
            base.sequence = True
            names = [keyword.value.value for keyword in node.kwargs if keyword.key == "attribute"]
            return Shape(sequence=True, items=base.item().fields.setdefault(names[0], Shape())) if names else base
        if node.name == "selectattr" and constants:
            base.sequence = True
            picked = base.item().fields.setdefault(str(constants[0]), Shape())
            for shape in (picked, *(a for a in arguments[2:] if not a.fixed)):
                shape.values += constants[2:] or [1, 2, 3]
        if node.name == "length":
            return Shape(number=True, length_of=base)
        if node.name == "replace":
            base.says(constants[:1])
        base.number |= node.name in NUMBERS
        base.text |= node.name in TEXTS
        return base

    def _add(self, node: nodes.Add) -> Shape:
        sides = [self._read(node.left), self._read(node.right)]
        constants = [shape.fixed[0] for shape in sides if shape.fixed and not shape.sequence]
        for shape in sides:
            shape.text |= any(isinstance(value, str) for value in constants) or any(other.text for other in sides)
        return next((shape for shape in sides if not shape.fixed), sides[0])

    def _mul(self, node: nodes.BinExpr) -> Shape:
        sides = [self._read(node.left), self._read(node.right)]
        for shape in sides:
            shape.number = True
        return next((shape for shape in sides if not shape.fixed), sides[0])

    _sub = _div = _mod = _floordiv = _mul

    def _call(self, node: nodes.Call) -> Shape:
        if not isinstance(node.node, nodes.Getattr):
            arguments = [self._read(a) for a in node.args]
            for keyword in node.kwargs:
                self._read(keyword.value)
            if isinstance(node.node, nodes.Name) and node.node.name == "zip":
                return Shape(sequence=True, parts=[self._looped(a) for a in arguments])
            return Shape(sequence=True, number=True)
        base, method = self._read(node.node.node), node.node.attr
        arguments = [self._read(a) for a in node.args]
        base.text |= method in TEXT_METHODS
        base.sequence |= method in LIST_METHODS
        constants = [a.fixed[0] for a in arguments[:1] if a.fixed and not a.sequence]
        if method in ("split", "startswith", "replace", "index") and constants:
            base.says(constants)
        elif method == "index" and arguments:
            base.sequence = True
            arguments[0].members.append(base)
        if method == "split":
            return Shape(sequence=True, origin=base.origin or base)
        if method in ("keys", "items"):
            base.fields.setdefault("first", Shape())
        return Shape(text=True, origin=base.origin or base) if method in TEXT_METHODS else Shape()

    def _compare(self, node: nodes.Compare) -> Shape:
        left = self._read(node.expr)
        for operand in node.ops:
            right = self._read(operand.expr)
            self._compared(left, right, operand.op)
        return Shape()

    def _compared(self, left: Shape, right: Shape, operator: str) -> None:
        if operator in ("in", "notin"):
            if right.fixed and right.sequence:
                (left.origin or left).values += right.fixed
            elif left.fixed and (right.text or right.origin):
                right.says(left.fixed)
            elif left.fixed:
                right.item().values += left.fixed
            else:
                left.members.append(right)
                right.sequence = True
            return
        for one, other in ((left, right), (right, left)):
            constants = other.fixed if other.fixed and not other.sequence else []
            if constants and one.length_of:
                one.length_of.least = max(one.length_of.least, *(n for n in constants if isinstance(n, int)), 0)
            elif constants and one.origin:
                one.says(constants)
            elif not constants and other.parent and not one.fixed:
                one.members.append(other.parent)
            one.values += constants
            one.number |= operator not in ("eq", "ne") and bool(constants or other.number)


class Rows:
    """Random rows of one dataset: `row(i)` is the i-th."""

    def __init__(self, usage: Usage, name: str) -> None:
        self.usage, self.name = usage, name

    def row(self, i: int) -> dict[str, Any]:
        """The i-th row; the same one each time."""
        self.random = random.Random(f"{self.name}/{i}")
        self.hostile = 0.15 if i % 2 else 0.0
        self.length = self.random.randint(1, 5)
        self.made: dict[int, Any] = {}
        shapes = self.usage.names
        row = {name: self._value(shape) for name, shape in shapes.items()}
        return row | {name: self._value(shape) for name, shape in shapes.items() if shape.members}

    def _value(self, shape: Shape) -> Any:
        value = self._made(shape)
        self.made[id(shape)] = value
        return value

    def _made(self, shape: Shape) -> Any:
        found = [self.made.get(id(base)) or base.fixed for base in shape.members]
        options: list[Any] = [self.random.choice(list(items)) for items in found if items]
        for base, less in shape.places:
            length = len(base.fixed or []) or max(base.least, self.length)
            options.append(self.random.randrange(length) + less)
        options += [self.random.choice(shape.values)] if shape.values else []
        if options and self.random.random() < 0.85:
            return self.random.choice(options)
        if shape.text:
            return self._text(shape.said)
        if shape.number:
            return self.random.choice([0, 1, 2, 3, 4.5, 17])
        if shape.fields and not (shape.items and self.random.random() < 0.1):
            return {name: self._value(inner) for name, inner in shape.fields.items()}
        if shape.sequence and not (shape.items is None and self.random.random() < 0.1):
            return [self._value(shape.items or Shape()) for _ in range(max(shape.least, self.length))]
        return self._text(shape.said)

    def _text(self, said: list[str]) -> str:
        if self.random.random() < self.hostile:
            return self.random.choice(HOSTILE)
        if said and self.random.random() < 0.8:
            count = self.random.randint(len(said), 3 * len(said))
            pieces = [self.random.choice([*said, *WORDS[:6]]) for _ in range(count)]
            return self.random.choice(["", " "]).join(pieces)
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(1, 7)))
