"""Rows that are rendered alike share a skeleton: what a template says but for their texts, which are filled in.

A template is tried on a row whose texts are unread (`unread.py`). What it says then is the same for every row of
the same shape that answers its questions alike. The shape is all that it is shown: the row's labels, which texts
are empty, how long its lists are, the drawn order of a few choices, the remainder of its draw. So rows are sorted
by their shape, then question by question, and whole columns are filled in at once. Rows for which the template
asks what cannot be asked have no skeleton; they are rendered one by one.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import factorial, lcm
from typing import Any

from zhiling.templates.batch import Rows, order
from zhiling.templates.budget import BUDGET, PER_ITEM, SAID_BY_ANY, STEPS, choice_words
from zhiling.templates.columns import SPANS, Kind, Look, items_in, look, look_closely
from zhiling.templates.columns import shape as shape_of
from zhiling.templates.compiled import Compiled
from zhiling.templates.counting import PER_STEP
from zhiling.templates.filters import get_item
from zhiling.templates.lines import Line, make_line
from zhiling.templates.reading import Reading, taken
from zhiling.templates.sandbox import ERRORS
from zhiling.templates.unread import LARGEST_ANSWER, TRIAL, Draw, Looked, Unread, is_answer, places_of

MOST_SHOWN = 4         # shuffled choices whose order belongs to the shape
MOST_TRIALS = 4_096    # of one template
FEWEST_ROWS = 8        # that are worth a trial
LONGEST_OWN = 10_000   # characters of a row; longer ones are rendered on their own
LONGEST_MADE = 20_000  # characters of what is made of one for a question or a skeleton
ORDER = "order!"       # no column is called that
Part = tuple[Sequence[int], "Skeleton | None", Reading | None]  # places of rows, their skeleton, what was read of them


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


@dataclass
class Shape:
    """What was found out about rows of one shape: where they stand first, by the remainder of their draw."""

    shown: Mapping[str, Kind]  # as what the template is shown each column
    roots: dict[int, Node] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)  # numbers by whose remainders of the draw the template goes


def group(compiled: Compiled, rows: Rows) -> Iterator[Part]:
    """The places of rows that are rendered alike, with their skeleton; None where there is none."""
    looks = {
        name: rows.looks[name] or look(kind, rows.columns[name]) or look_closely(kind, rows.columns[name])
        for name, kind in rows.shown.items()
    }
    longest = sum(told.longest for told in looks.values())
    columns = {**rows.columns, "draw": rows.draws, ORDER: rows.orders}
    reading = Reading(columns, range(len(rows.ids)), LONGEST_MADE, own=min(longest, LONGEST_OWN))
    if longest > LONGEST_OWN:
        is_long = [rows.own(i) > LONGEST_OWN for i in reading.places]
        yield [i for i in reading.places if is_long[i]], None, None
        reading = reading.some([i for i in reading.places if not is_long[i]])
    for key, places in _by_shape(compiled, rows.shown, looks, reading).items() if reading.count else ():
        shape = compiled.learnt.shapes.get(key) or _new(compiled, key, rows.shown)
        yield from _of_shape(compiled, reading.some(places), shape)


def _by_shape(
    compiled: Compiled, shown: Mapping[str, Kind], looks: Mapping[str, Look], reading: Reading
) -> dict[Hashable, Sequence[int]]:
    """The rows of each shape; it is worked out for one of all rows with equal marks."""
    differing = [taken(told.marks, reading.places) for told in looks.values() if told.marks is not None]
    if shows_order := order_shown(compiled):
        orders = factorial(len(compiled.words or ()))
        differing.append([number % orders for number in reading.placed((ORDER,))])
    alike: dict[Any, Sequence[int]] = {(): range(reading.count)}
    if differing:
        alike = _sort(zip(*differing, strict=True))
    found = dict[Hashable, Sequence[int]]()
    for marks, places in alike.items():
        one = [shape_of(kind, reading.placed((name,))[places[0]]) for name, kind in shown.items()]
        whole = (*one, marks[-1] if shows_order else None)
        found[whole] = [*found[whole], *places] if whole in found else places
    return found


def _sort(marks: Iterable[Hashable]) -> dict[Any, Sequence[int]]:
    """The places of equal marks."""
    found = defaultdict(list)
    for i, mark in enumerate(marks):
        found[mark].append(i)
    return {**found}


def order_shown(compiled: Compiled) -> bool:
    """Whether the order of shuffled choices belongs to the shape."""
    words = compiled.words
    return compiled.template.shuffle_choices and words is not None and len(words) <= MOST_SHOWN


def _new(compiled: Compiled, key: Hashable, shown: Mapping[str, Kind]) -> Shape:
    """What is to be found out about a shape; it is kept unless there are too many."""
    new = Shape(shown)
    if len(compiled.learnt.shapes) < MOST_TRIALS:
        compiled.learnt.shapes[key] = new
    return new


def _of_shape(compiled: Compiled, reading: Reading, shape: Shape) -> Iterator[Part]:
    """Sort the rows of one shape by the remainders of their draws, then by the questions asked of them."""
    learnt = compiled.learnt
    while True:
        step, found = lcm(1, *shape.steps), list[Part]()
        for remainder, places in _by_remainder(reading, step).items():
            some, root = reading.some(places), shape.roots.get(remainder)
            if root is None and some.count >= FEWEST_ROWS and learnt.trials < MOST_TRIALS:
                root = shape.roots[remainder] = Node()
            if root is None or learnt.failed > max(FEWEST_ROWS, learnt.trials // 2):
                found.append((some.places, None, None))
            else:
                found += _sorted(compiled, shape, some, root, root)
        if lcm(1, *shape.steps) == step:
            while found:
                yield found.pop()  # and what was read for it is let go
            return
        shape.roots.clear()  # the template goes by more remainders than were told apart


def _by_remainder(reading: Reading, step: int) -> dict[int, Sequence[int]]:
    return {0: range(reading.count)} if step == 1 else _sort(draw % step for draw in reading.placed(("draw",)))


def _sorted(compiled: Compiled, shape: Shape, reading: Reading, root: Node, node: Node) -> Iterator[Part]:
    """Sort the rows at a node by its question and those behind it."""
    if not node.tried and reading.count >= FEWEST_ROWS and compiled.learnt.trials < MOST_TRIALS:
        compiled.learnt.trials += 1
        _try(compiled, shape, reading, root)
    if node.question is None:
        yield reading.places, node.skeleton, reading
        return
    answers = _answers(node.question, reading)
    given = dict.fromkeys(answers)
    if len(given) > 1 and _asks_label(node.question, shape):
        compiled.learnt.goes_by_labels = True
    for answer in given:
        some = reading
        if len(given) > 1:
            some = reading.some([i for i, own in enumerate(answers) if own == answer])
        if answer is None:
            yield some.places, None, None
        else:
            yield from _sorted(compiled, shape, some, root, node.branches.setdefault(answer, Node()))


def _answers(question: Unread, reading: Reading) -> list[Any]:
    """Each row's answer; None where it has none, or is too long to be asked."""
    try:
        return _answered(question, reading)
    except ERRORS:
        return [_answer_alone(question, reading.alone(i)) for i in range(reading.count)]


def _answer_alone(question: Unread, row: Reading) -> Any:
    try:
        return _answered(question, row)[0]
    except ERRORS:
        return None


def _answered(question: Unread, reading: Reading) -> list[Any]:
    BUDGET.start()
    answers = reading.column(question)
    kinds = set(map(type, answers))
    if kinds <= {bool} or (kinds == {int} and max(map(abs, answers)) <= LARGEST_ANSWER):
        return list(answers)
    return [answer if is_answer(answer) else None for answer in answers]


def _shown(value: Any, kind: str, place: tuple[str | int, ...]) -> Any:
    """A row's value as the template sees it: what is not in the shape is unread."""
    if isinstance(value, str):
        return value if kind == "label" or not value else Unread(place)
    if isinstance(value, list):
        return [_shown(inner, kind, (*place, i)) for i, inner in enumerate(value)]
    if isinstance(value, dict):
        kinds = {"label": "label"} if kind == "spans" else {}
        return {key: _shown(inner, kinds.get(key, kind), (*place, key)) for key, inner in value.items()}
    return Unread((), int, (Unread(place),)) if kind in SPANS else value  # a number may be 0, which is false


def _try(compiled: Compiled, shape: Shape, reading: Reading, root: Node) -> None:
    """Try the template on the first row; note its questions from `root` on, and the skeleton behind them, if any."""
    row, skeleton = reading.alone(0), None
    TRIAL.start(row)
    BUDGET.start(unread=True)
    with suppress(Looked, *ERRORS):
        values = {name: row.placed((name,))[0] for name, column in row.columns.items() if column}
        skeleton = _skeleton(compiled, shape, values)
    BUDGET.start()
    asked = TRIAL.end()
    if skeleton is None and any(_asks_label(question, shape) for question, _ in asked):
        compiled.learnt.goes_by_labels = True
    compiled.learnt.failed += skeleton is None and shape.shown == compiled.shown
    node = root
    for question, answer in asked:
        node.tried, node.question = True, question
        node = node.branches.setdefault(answer, Node())
    node.tried, node.skeleton = True, skeleton


def _asks_label(question: Unread, shape: Shape) -> bool:
    """Whether the answer to a question may hang on the label of a bare span."""
    return any(place[-1] == "label" and shape.shown.get(str(place[0])) == "bare spans" for place in places_of(question))


def _skeleton(compiled: Compiled, shape: Shape, row: Mapping[str, Any]) -> Skeleton:
    values = {name: _shown(row[name], kind, (name,)) for name, kind in shape.shown.items()}
    values |= {**compiled.names, "choices": []}
    if compiled.draws:
        values["draw"] = Draw(row["draw"], shape.steps)
    when, chosen = compiled.expressions.get("when"), compiled.expressions.get("choices")
    if when and not when(values):
        return Skeleton(skipped=True)
    words = compiled.words if chosen is None else choice_words(chosen(values))
    shown: Any = words
    if words is not None and compiled.template.shuffle_choices:
        later = Unread((), ordered, (words, Unread((ORDER,))))
        shown = ordered(words, row[ORDER]) if order_shown(compiled) else later
    values["choices"] = list(shown or ()) if not isinstance(shown, Unread) else [
        Unread((), get_item, (shown, k)) for k in range(len(words or ()))
    ]
    texts = {part: make_line(part, text(values)) for part, text in compiled.texts.items()}
    unread = [word for word in words or () if isinstance(word, Unread)]
    said, took = SAID_BY_ANY - BUDGET.characters, STEPS - BUDGET.steps
    apart = {id(value) for line in texts.values() for value in line.taken_apart}
    put_off = [value for value in BUDGET.put_off if id(value) not in apart]
    items = sum(items_in(row[name]) for name in compiled.columns)
    return Skeleton(False, shown, unread, texts, took, said, BUDGET.touched, BUDGET.walks, items, put_off)


def ordered(words: Sequence[Any], number: int) -> list[Any]:
    """`words` in the order that a number tells."""
    return [words[k] for k in order(len(words), number)]


def fill(
    skeleton: Skeleton, reading: Reading
) -> tuple[dict[str, Sequence[str]], Sequence[list[str]] | None] | None:
    """The texts and shown choices of rows of one skeleton, as columns; None where each has to be rendered."""
    BUDGET.start()
    try:
        for value in skeleton.put_off:
            reading.column(value)
        words = None if skeleton.words is None else reading.column(skeleton.words)
        slots = [reading.printed(value) for line in skeleton.texts.values() for value in line.slots]
        said = [*slots, *map(reading.printed, skeleton.unread)]
        characters = skeleton.said + sum(longest for _, longest in said)
        if characters > SAID_BY_ANY or steps_of(skeleton, reading.items, max(reading.characters, characters)) > STEPS:
            return None
        columns = iter([column for column, _ in slots])
        return {part: line.filled(columns, reading.count) for part, line in skeleton.texts.items()}, words
    except ERRORS:
        return None


def steps_of(skeleton: Skeleton, items: int, characters: int) -> int:
    """The steps, at most, that the sandbox would take for a row of so many items and characters."""
    steps = skeleton.touched * (PER_ITEM * max(items, skeleton.items) + characters // PER_STEP + 1)
    return skeleton.steps + steps + skeleton.walks * PER_ITEM * characters
