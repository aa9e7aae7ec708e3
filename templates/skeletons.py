"""Rows that are rendered alike share a skeleton: what a template says but for their texts, which are filled in.

A template is tried on a row whose texts are unread (`unread.py`). What it says then is the same for every row of
the same shape that answers its questions alike. The shape is all that it is shown: the row's labels, which texts
are empty, how long its lists are, the drawn order of a few choices, the remainder of its draw. So rows are sorted
by their shape, then question by question, and whole columns are filled in at once. Rows for which the template
asks what cannot be asked have no skeleton; they are rendered one by one.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import factorial, lcm
from typing import Any

from zhiling.templates.batch import Rows, order
from zhiling.templates.budget import BUDGET, PER_ITEM, SAID_BY_ANY, STEPS, choice_words
from zhiling.templates.compiled import Compiled
from zhiling.templates.counting import PER_STEP
from zhiling.templates.filters import get_item
from zhiling.templates.sandbox import ERRORS, Piece
from zhiling.templates.unread import TRIAL, Draw, Looked, Reading, Unread, columns_of, is_answer, items_in, longest

MOST_SHOWN = 4         # shuffled choices whose order belongs to the shape
MOST_TRIALS = 4_096    # of one template
FEWEST_ROWS = 8        # that are worth a trial
LONGEST_OWN = 10_000   # characters of a row; longer ones are rendered on their own
LONGEST_MADE = 20_000  # characters of what is made of one for a question or a skeleton
PRINTED = {str, int, float, bool, type(None), list, tuple, dict}  # by what prints; see the sandbox
Line = tuple[str, Sequence[Unread]]  # a format for `%`, and what stands in it
Part = tuple[list[int], "Skeleton | None", Reading | None]  # places of rows, their skeleton, what was read of them


@dataclass(frozen=True)
class Skeleton:
    """What a template says, but for the row's texts."""

    skipped: bool
    words: Any = None  # the choices as shown; all or some may be unread
    unread: Sequence[Unread] = ()  # those that are
    texts: Mapping[str, Line] = field(default_factory=dict)
    steps: int = 0     # what it took of a row's budget
    said: int = 0      # characters in its texts
    touched: int = 0   # how often an unread value is yet to be paid for
    walks: int = 0     # and to be walked through
    items: int = 0     # in the lists of a row of its shape
    put_off: Sequence[Unread] = ()  # what is to be made of them, printed or not


@dataclass
class Node:
    """Where rows stand that answered some questions alike: at another question, or at their skeleton."""

    tried: bool = False
    question: Unread | None = None
    branches: dict[Any, "Node"] = field(default_factory=dict)
    skeleton: Skeleton | None = None
    steps: set[int] = field(default_factory=set)  # of its shape


@dataclass
class Shape:
    """What was found out about rows of one shape: where they stand first, by the remainder of their draw."""

    roots: dict[int, Node] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)  # numbers by whose remainders of the draw the template goes


def group(compiled: Compiled, rows: Rows) -> Iterator[Part]:
    """The places of rows that are rendered alike, with their skeleton; None where there is none."""
    places = defaultdict(list)
    yield [i for i, own in enumerate(rows.own) if own > LONGEST_OWN], None, None
    for i, (shape, own) in enumerate(zip(_shapes(compiled, rows), rows.own, strict=True)):
        if own <= LONGEST_OWN:
            places[shape].append(i)
    for shape, members in places.items():
        yield from _of_shape(compiled, rows, members, compiled.learnt.shapes.get(shape) or _new(compiled, shape))


def _new(compiled: Compiled, shape: Hashable) -> Shape:
    """What is to be found out about a shape; it is kept unless there are too many."""
    new = Shape()
    if len(compiled.learnt.shapes) < MOST_TRIALS:
        compiled.learnt.shapes[shape] = new
    return new


def _of_shape(compiled: Compiled, rows: Rows, members: list[int], shape: Shape) -> list[Part]:
    """Sort the rows of one shape by the remainders of their draws, then by the questions asked of them."""
    learnt = compiled.learnt
    while True:
        step, places, found = lcm(1, *shape.steps), defaultdict(list), list[Part]()
        for i in members:
            places[rows.draws[i] % step if rows.draws else 0].append(i)
        for remainder, some in places.items():
            root = shape.roots.get(remainder)
            if root is None and len(some) >= FEWEST_ROWS and learnt.trials < MOST_TRIALS:
                root = shape.roots[remainder] = Node(steps=shape.steps)
            if root is None or learnt.failed > max(FEWEST_ROWS, learnt.trials // 2):
                found.append((some, None, None))
            else:
                found += _sorted(compiled, rows, some, root, root)
        if lcm(1, *shape.steps) == step:
            return found
        shape.roots.clear()  # the template goes by more remainders than were told apart


def _sorted(
    compiled: Compiled, rows: Rows, members: list[int], root: Node, node: Node, reading: Reading | None = None
) -> Iterator[Part]:
    """Sort the rows at a node by its question and those behind it; `reading` holds what was read of them."""
    if not node.tried and len(members) >= FEWEST_ROWS and compiled.learnt.trials < MOST_TRIALS:
        compiled.learnt.trials += 1
        _try(compiled, rows.some(members[:1]), root)
    if node.question is None:
        yield members, node.skeleton, reading
        return
    branches = defaultdict(list)
    reading = reading or _reading(rows.some(members))
    for i, answer in zip(members, _answers(node.question, reading, rows, members), strict=True):
        branches[answer].append(i)
    for answer, some in branches.items():
        if answer is None:
            yield some, None, None
        else:
            known = reading if len(branches) == 1 else None
            yield from _sorted(compiled, rows, some, root, node.branches.setdefault(answer, Node()), known)


def _answers(question: Unread, reading: Reading, rows: Rows, members: list[int]) -> Sequence[Any]:
    """Each row's answer; None where it has none, or is too long to be asked."""
    try:
        return _answered(question, reading)
    except ERRORS:
        names = columns_of(question)
        return [_answer_alone(question, rows.some([i], names)) for i in members]


def _answer_alone(question: Unread, row: Rows) -> Any:
    try:
        return _answered(question, _reading(row))[0]
    except ERRORS:
        return None


def _answered(question: Unread, reading: Reading) -> Sequence[Any]:
    BUDGET.start()
    return [answer if is_answer(answer) else None for answer in reading.column(question)]


def _reading(rows: Rows) -> Reading:
    return Reading(_columns(rows), len(rows.ids), LONGEST_MADE)


def _columns(rows: Rows) -> dict[str, Sequence[Any]]:
    """All that unread values are read from."""
    return {**rows.columns, "draw": rows.draws, "order": rows.orders}


def _shapes(compiled: Compiled, rows: Rows) -> Iterable[Hashable]:
    """Each row's shape."""
    count = len(rows.ids)
    parts: list[Iterable[Hashable]] = [repeat(True, count)]
    for name, kind in compiled.columns.items():
        column = rows.columns[name]
        if kind == "label":
            parts.append(column)
        elif kind == "string":
            parts.append(repeat(True, count) if all(column) else map(bool, column))
        elif kind == "strings":
            parts.append(tuple(map(bool, texts)) for texts in column)
        elif kind == "spans":
            parts.append(tuple((bool(s["text"]), s["label"], *s) for s in spans) for spans in column)
        else:
            parts.append(map(_json_shape, column))
    if _order_shown(compiled):
        orders = factorial(len(compiled.words or ()))
        parts.append(number % orders for number in rows.orders)
    return zip(*parts, strict=True)


def _order_shown(compiled: Compiled) -> bool:
    words = compiled.words
    return compiled.template.shuffle_choices and words is not None and len(words) <= MOST_SHOWN


def _json_shape(value: Any) -> Hashable:
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, list):
        return ("list", *map(_json_shape, value))
    if isinstance(value, dict):
        return ("dict", *((key, _json_shape(inner)) for key, inner in value.items()))
    return repr(value)


def _shown(value: Any, kind: str, place: tuple[str | int, ...]) -> Any:
    """A row's value as the template sees it: what is not in the shape is unread."""
    if isinstance(value, str):
        return value if kind == "label" or not value else Unread(place)
    if isinstance(value, list):
        return [_shown(inner, kind, (*place, i)) for i, inner in enumerate(value)]
    if isinstance(value, dict):
        kinds = {"label": "label"} if kind == "spans" else {}
        return {key: _shown(inner, kinds.get(key, kind), (*place, key)) for key, inner in value.items()}
    return Unread((), int, (Unread(place),)) if kind == "spans" else value  # a number may be 0, which is false


def _try(compiled: Compiled, row: Rows, root: Node) -> None:
    """Try the template on `row`; note its questions from `root` on, and the skeleton behind them, if there is one."""
    TRIAL.start(_columns(row), LONGEST_MADE)
    BUDGET.start(unread=True)
    try:
        skeleton = _skeleton(compiled, row, root.steps)
    except (Looked, *ERRORS):
        skeleton = None
        compiled.learnt.failed += 1
    BUDGET.start()
    node = root
    for question, answer in TRIAL.end():
        node.tried, node.question = True, question
        node = node.branches.setdefault(answer, Node())
    node.tried, node.skeleton = True, skeleton


def _skeleton(compiled: Compiled, row: Rows, steps: set[int]) -> Skeleton:
    values = {name: _shown(row.columns[name][0], kind, (name,)) for name, kind in compiled.columns.items()}
    values |= {**compiled.names, "choices": []}
    if row.draws:
        values["draw"] = Draw(row.draws[0], steps)
    when, chosen = compiled.expressions.get("when"), compiled.expressions.get("choices")
    if when and not when(values):
        return Skeleton(skipped=True)
    words = compiled.words if chosen is None else choice_words(chosen(values))
    shown: Any = words
    if words is not None and compiled.template.shuffle_choices:
        if _order_shown(compiled):
            shown = _ordered(words, row.orders[0])
        else:
            shown = Unread((), _ordered, (words, Unread(("order",))))
    values["choices"] = list(shown or ()) if not isinstance(shown, Unread) else [
        Unread((), get_item, (shown, k)) for k in range(len(words or ()))
    ]
    texts = {part: _line(text(values)) for part, text in compiled.texts.items()}
    unread = [word for word in words or () if isinstance(word, Unread)]
    said, taken = SAID_BY_ANY - BUDGET.characters, STEPS - BUDGET.steps
    items = sum(items_in(column[0]) for column in row.columns.values())
    return Skeleton(False, shown, unread, texts, taken, said, BUDGET.touched, BUDGET.walks, items, BUDGET.put_off)


def _ordered(words: Sequence[Any], number: int) -> list[Any]:
    return [words[k] for k in order(len(words), number)]


def _line(pieces: Iterable[Piece]) -> Line:
    """Printed pieces as a format and the unread values that stand in it."""
    format_, slots = [], []
    for piece in pieces:
        if isinstance(piece, Unread):
            slots.append(piece)
        format_.append("%s" if isinstance(piece, Unread) else piece.replace("%", "%%"))
    return "".join(format_), slots


def fill(
    skeleton: Skeleton, rows: Rows, reading: Reading | None
) -> tuple[dict[str, Sequence[str]], Sequence[Sequence[str]] | None] | None:
    """The texts and shown choices of rows of one skeleton, as columns; None where each has to be rendered."""
    reading = reading or _reading(rows)
    BUDGET.start()
    try:
        for value in skeleton.put_off:
            reading.column(value)
        words = None if skeleton.words is None else reading.column(skeleton.words)
        slots = {part: list(map(reading.column, line[1])) for part, line in skeleton.texts.items()}
        characters, items = max([reading.characters, *rows.own]), max(reading.items, skeleton.items)
        steps = skeleton.touched * (PER_ITEM * items + characters // PER_STEP + 1)
        if skeleton.steps + steps + skeleton.walks * PER_ITEM * characters > STEPS:
            return None
        if not set(map(type, chain.from_iterable(chain.from_iterable(slots.values())))) <= PRINTED:
            return None
        said = [*chain.from_iterable(slots.values()), *map(reading.column, skeleton.unread)]
        if skeleton.said + sum(map(longest, said)) > SAID_BY_ANY:
            return None
        return {part: _filled(line[0], slots[part], reading.count) for part, line in skeleton.texts.items()}, words
    except ERRORS:
        return None


def _filled(format_: str, slots: Sequence[Sequence[Any]], count: int) -> Sequence[str]:
    if not slots:
        return [format_.replace("%%", "%")] * count
    return list(map(format_.__mod__, zip(*slots, strict=True)))
