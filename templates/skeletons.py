"""Rows of one shape share a skeleton: a template runs once for it, on unread texts, and is then filled in.

The shape of a row is all that a template is shown of it: its labels, which of its texts are empty, how long
its lists are, the drawn order of a few choices, the remainder of its draw. What the template prints then is
the same for every row of the shape but for the unread texts (`unread.py`), so that whole columns can be
filled in at once. A shape for which the template looks at a text has no skeleton; its rows are rendered one
by one.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from math import factorial, lcm
from typing import Any

from zhiling.templates.batch import Rows, order
from zhiling.templates.compiled import Compiled
from zhiling.templates.filters import MAX_CHARACTERS
from zhiling.templates.sandbox import BUDGET, ERRORS, PER_ITEM, SAID_BY_ANY, STEPS, Piece, choice_words
from zhiling.templates.unread import Draw, Looked, Reading, Unread, holds_unread, longest

MOST_SHOWN = 4       # shuffled choices whose order belongs to the shape
MOST_SHAPES = 4_096  # of one template
FEWEST_ROWS = 3      # of a shape that is worth a skeleton
Line = tuple[str, Sequence[Unread]]  # a format for `%`, and what stands in it


@dataclass(frozen=True)
class Skeleton:
    """What a template says for a shape."""

    skipped: bool
    words: Sequence[Any] | None  # the choices, in the order shown or to be shuffled; some may be unread
    texts: Mapping[str, Line]
    steps: int = 0    # what it took of a row's budget
    said: int = 0     # characters in its texts
    touched: int = 0  # how often an unread value is yet to be paid for
    put_off: Sequence[Unread] = ()  # what is to be made of them, printed or not

    @property
    def longest(self) -> int:
        """How long the row's values may be, and what is made of them, lest they take too many steps."""
        return (STEPS - self.steps) // ((PER_ITEM + 1) * self.touched) if self.touched else MAX_CHARACTERS


def group(compiled: Compiled, rows: Rows) -> list[tuple[list[int], Skeleton | None]]:
    """The places of rows by their shape, each with its skeleton; None where there is none."""
    steps, known = compiled.learnt.steps, compiled.learnt.skeletons
    while True:
        step, places = lcm(1, *steps), defaultdict(list)
        for i, shape in enumerate(_shapes(compiled, rows, step)):
            places[shape].append(i)
        for shape, members in places.items():
            if shape not in known and len(members) >= FEWEST_ROWS and len(known) < MOST_SHAPES:
                known[shape] = _skeleton(compiled, rows.some(members[:1]), steps)
        if lcm(1, *steps) == step:
            return [(members, known.get(shape)) for shape, members in places.items()]
        known.clear()  # the template goes by more remainders than the shapes told apart


def _shapes(compiled: Compiled, rows: Rows, step: int) -> Iterable[Hashable]:
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
    if step > 1:
        parts.append(number % step for number in rows.draws)
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
    """A row's value as its skeleton sees it: what is not in the shape is unread."""
    if isinstance(value, str):
        return value if kind == "label" or not value else Unread(place)
    if isinstance(value, list):
        return [_shown(inner, kind, (*place, i)) for i, inner in enumerate(value)]
    if isinstance(value, dict):
        kinds = {"label": "label"} if kind == "spans" else {}
        return {key: _shown(inner, kinds.get(key, kind), (*place, key)) for key, inner in value.items()}
    return Unread(place) if kind == "spans" else value


def _skeleton(compiled: Compiled, row: Rows, steps: set[int]) -> Skeleton | None:
    """The skeleton for the shape of `row`; None where the template looks at what is not in it, or fails."""
    values = {name: _shown(row.columns[name][0], kind, (name,)) for name, kind in compiled.columns.items()}
    values |= {**compiled.names, "choices": []}
    if row.draws:
        values["draw"] = Draw(row.draws[0], steps)
    BUDGET.start(unread=True)
    try:
        when, chosen = compiled.expressions.get("when"), compiled.expressions.get("choices")
        if when and not when(values):
            return Skeleton(True, None, {})
        words = compiled.words if chosen is None else choice_words(chosen(values))
        values["choices"] = _shown_words(compiled, words, row)
        texts = {part: _line(text(values)) for part, text in compiled.texts.items()}
        return Skeleton(
            False, words, texts, STEPS - BUDGET.steps, SAID_BY_ANY - BUDGET.characters, BUDGET.touched,
            BUDGET.put_off,
        )
    except (Looked, *ERRORS):
        return None


def _shown_words(compiled: Compiled, words: Sequence[Any] | None, row: Rows) -> list[Any]:
    """The choices as the texts see them: unread where their order is, or what they say."""
    if compiled.template.shuffle_choices and words is not None:
        if _order_shown(compiled):
            return [words[k] for k in order(len(words), row.orders[0])]
        return [Unread(("choices", k)) for k in range(len(words))]
    named = enumerate(words or ())
    return [Unread(("choices", k)) if isinstance(word, Unread) else word for k, word in named]


def _line(pieces: Iterable[Piece]) -> Line:
    """Printed pieces as a format and the unread values that stand in it."""
    format_, slots = [], []
    for piece in pieces:
        if isinstance(piece, Unread):
            slots.append(piece)
        format_.append("%s" if isinstance(piece, Unread) else piece.replace("%", "%%"))
    return "".join(format_), slots


def fill(
    compiled: Compiled, skeleton: Skeleton, rows: Rows
) -> tuple[dict[str, Sequence[str]], Sequence[Sequence[str]] | None] | None:
    """The texts and shown choices of rows of one shape, as columns; None where each has to be rendered."""
    reading = Reading({**rows.columns, "draw": rows.draws}, len(rows.ids), skeleton.longest)
    BUDGET.start()
    try:
        words = None if skeleton.words is None else _words(compiled, skeleton.words, rows, reading)
        reading.columns = {**reading.columns, "choices": words or []}
        for column in reading.columns.values() if skeleton.touched else ():
            reading.check(column)
        for value in skeleton.put_off:
            reading.column(value)
        slots = {part: list(map(reading.column, line[1])) for part, line in skeleton.texts.items()}
        said = [*chain.from_iterable(slots.values()), *map(reading.column, _unread(skeleton.words))]
        if skeleton.said + sum(map(longest, said)) > SAID_BY_ANY:
            return None
        lines = skeleton.texts.items()
        return {part: _filled(line[0], slots[part], reading.count) for part, line in lines}, words
    except ERRORS:
        return None


def _unread(words: Sequence[Any] | None) -> list[Unread]:
    return [word for word in words or () if isinstance(word, Unread)]


def _words(
    compiled: Compiled, words: Sequence[Any], rows: Rows, reading: Reading
) -> Sequence[Sequence[str]]:
    """Each row's choices, in its order."""
    if not compiled.template.shuffle_choices and not holds_unread(words):
        return [words] * reading.count
    if _order_shown(compiled):
        return [[words[k] for k in order(len(words), rows.orders[0])]] * reading.count
    listed = reading.column(words)
    if not compiled.template.shuffle_choices:
        return listed
    pairs = zip(listed, rows.orders, strict=True)
    return [[row[k] for k in order(len(row), number)] for row, number in pairs]


def _filled(format_: str, slots: Sequence[Sequence[Any]], count: int) -> Sequence[str]:
    if not slots:
        return [format_.replace("%%", "%")] * count
    return list(map(format_.__mod__, zip(*slots, strict=True)))
