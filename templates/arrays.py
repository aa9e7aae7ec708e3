"""Rows of texts and labels rendered as Arrow arrays: what `render_batch` makes of them, without a Python text a row.

In: a template and rows as arrays. Out: what it says of those rows that it renders plainly, and which they are; the
others are `render_batch`'s. Plainly: the row's shape has a skeleton (`skeletons.py`) at which nothing is asked, and
into which nothing goes but its texts, as they are or as JSON, and shuffled choices.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring
from math import factorial, lcm
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zhiling.seeds import draw_array
from zhiling.templates import skeletons
from zhiling.templates.batch import MOST_TOLD, make_rows, orders
from zhiling.templates.budget import SAID_BY_ANY, STEPS
from zhiling.templates.compiled import Compiled
from zhiling.templates.filters import get_item, to_json
from zhiling.templates.lines import Line
from zhiling.templates.pack import Pack
from zhiling.templates.skeletons import (
    LONGEST_OWN,
    Skeleton,
    group,
    order_shown,
    ordered,
    steps_of,
)
from zhiling.templates.unread import Unread

Numbers = NDArray[np.int64]
Slot = tuple[str, Any]         # ("text", column), ("json", column) or ("choice", its place)
Pieces = tuple[str | Slot, ...]
Group = tuple[Numbers, Skeleton]  # rows, by their places, and the skeleton of their shape


@dataclass(frozen=True)
class Columns:
    """Some rows as a pack's columns, and their ids; what several templates ask of them is kept."""

    pack: Pack
    values: Mapping[str, pa.Array]
    ids: Sequence[str]
    _shown: dict[Slot, pa.Array] = field(default_factory=dict)
    _lengths: dict[Slot, Numbers] = field(default_factory=dict)
    _coded: dict[str, pa.DictionaryArray] = field(default_factory=dict)

    def shown(self, slot: Slot) -> pa.Array:
        """A column's texts, as they are or as JSON."""
        kind, column = slot
        if kind == "text":
            return self.values[column]
        if slot not in self._shown:
            self._shown[slot] = pc.binary_join_element_wise('"', escaped(self.values[column]), '"', "")
        return self._shown[slot]

    def lengths(self, slot: Slot) -> Numbers:
        """How many characters each of them has; a null has none."""
        if slot not in self._lengths:
            self._lengths[slot] = pc.fill_null(pc.utf8_length(self.shown(slot)), 0).to_numpy()
        return self._lengths[slot]

    def coded(self, column: str) -> pa.DictionaryArray:
        """A column's words as numbers into a dictionary; nulls as any of them."""
        if column not in self._coded:
            values = self.values[column].dictionary_encode()
            indices = pc.fill_null(values.indices, 0)
            self._coded[column] = pa.DictionaryArray.from_arrays(indices, values.dictionary)
        return self._coded[column]

    @cached_property
    def plain(self) -> NDArray[np.bool_]:
        """Rows of known labels and of texts that are neither empty nor long, nor have spaces at their ends."""
        found, characters = np.ones(len(self.ids), np.bool_), np.zeros(len(self.ids), np.int64)
        for name, kind in self.pack.settings.columns.items():
            values = self.values[name]
            if kind == "label":
                found &= _mask(pc.is_in(values, pa.array(self.pack.labels_of(name), pa.string())))
            else:
                sizes = [pc.binary_length(text) for text in (values, pc.utf8_trim_whitespace(values))]
                found &= _mask(pc.and_(pc.greater(sizes[0], 0), pc.equal(*sizes)))
                characters += self.lengths(("text", name))
        return found & (characters <= LONGEST_OWN)


@dataclass(frozen=True)
class Printed:
    """What a template says of some rows, an array a column."""

    rows: Numbers                     # which of those that were asked for
    prompts: pa.StringArray
    completions: pa.StringArray
    words: Sequence[str] | None       # the choices before they were shuffled
    orders: Numbers | None            # the order of each row's choices, a row each, where they are shuffled
    answers: pa.Array


def render_arrays(compiled: Compiled, columns: Columns, rows: Numbers, seed: int) -> Printed | None:
    """What a template says of those of `rows` that it renders plainly; nothing where it does not render so."""
    if not _is_plain(compiled):
        return None
    places = np.flatnonzero(columns.plain[rows])  # in `rows`
    asked = _Asked(compiled, columns, rows[places], seed)
    lines: list[tuple[Pieces, Pieces]] = []
    which = np.full(len(places), -1)
    for members, skeleton in _groups(asked):
        line = _lines(asked, skeleton)
        if line is not None:
            which[members[_characters(asked, skeleton, line, members) <= SAID_BY_ANY]] = len(lines)
            lines.append(line)
    done = np.flatnonzero(which >= 0)
    if not len(done):
        return None
    asked, which = asked.some(done), which[done]
    prompts, completions = (_said(asked, [line[part] for line in lines], which) for part in (0, 1))
    words, answers = _choices(asked, [line[1] for line in lines], which)
    if compiled.delimiter:
        completions = pc.binary_join_element_wise(compiled.delimiter, completions, "")
    shown = None if words is None else [compiled.delimiter + word for word in words]
    return Printed(places[done], prompts, completions, shown, asked.orders if words else None, answers)


def escaped(texts: pa.StringArray) -> pa.StringArray:
    """Texts as they stand in JSON, between quotation marks; few hold what JSON does not write as it is."""
    special = pa.array(_special(texts))
    found = [encode_basestring(text)[1:-1] for text in texts.filter(special).to_pylist()]
    return pc.replace_with_mask(texts, special, pa.array(found, pa.string())) if found else texts


def _special(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Which texts hold a quotation mark, a backslash or a control character: a quarter of a regex's time."""
    rows = np.zeros(len(texts), np.bool_)
    if len(texts):
        ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
        letters = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
        at = np.flatnonzero((letters < ord(" ")) | (letters == ord('"')) | (letters == ord("\\")))
        rows[np.searchsorted(ends, at + ends[0], side="right") - 1] = True
    return rows & _mask(texts.is_valid()) if texts.null_count else rows


def _mask(values: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def _is_plain(compiled: Compiled) -> bool:
    words, shuffles = compiled.words, compiled.template.shuffle_choices
    return (
        set(compiled.pack.settings.columns.values()) <= {"string", "label"}
        and set(compiled.texts) == {"prompt", "completion"} and "choices" not in compiled.expressions
        and (words is None or len(set(words)) == len(words))
        and not (shuffles and (words is None or len(words) > MOST_TOLD))
    )


@dataclass(frozen=True)
class _Asked:
    """Plain rows that one template is to render."""

    compiled: Compiled
    columns: Columns
    rows: Numbers
    seed: int

    def some(self, kept: Numbers) -> "_Asked":
        if len(kept) == len(self.rows):
            return self
        few = _Asked(self.compiled, self.columns, self.rows[kept], self.seed)
        for name in ("draws", "order_numbers"):
            if name in vars(self):
                vars(few)[name] = getattr(self, name)[kept]
        return few

    def _drawn(self, purpose: str) -> NDArray[np.uint64]:
        ids = [self.columns.ids[i] for i in self.rows.tolist()]
        return draw_array(self.seed, f"{purpose}:{self.compiled.purpose}", ids)

    @cached_property
    def draws(self) -> NDArray[np.uint64]:
        return self._drawn("draw") >> np.uint64(33)

    @cached_property
    def order_numbers(self) -> NDArray[np.uint64]:
        return self._drawn("choices")

    @cached_property
    def orders(self) -> Numbers | None:
        words = self.compiled.words
        return orders(len(words), self.order_numbers) if words and self.compiled.template.shuffle_choices else None

    def slot(self, slot: Slot) -> pa.Array:
        kind, of = slot
        if kind == "choice":
            assert self.orders is not None
            return pa.array(self.compiled.words, pa.string()).take(pa.array(self.orders[:, of]))
        return self.columns.shown(slot).take(pa.array(self.rows))


def _groups(asked: _Asked) -> Iterator[Group]:
    """The rows of each shape and remainder of the draw, with their skeleton; rows without one are left out."""
    compiled = asked.compiled
    names = [name for name, kind in compiled.columns.items() if kind == "label"]
    coded = [asked.columns.coded(name) for name in names]
    codes = [c.indices.to_numpy()[asked.rows].astype(np.int64) for c in coded]
    sizes = [len(c.dictionary) for c in coded]
    if shows_order := order_shown(compiled):
        sizes.append(factorial(len(compiled.words or ())))
        codes.append((asked.order_numbers % np.uint64(sizes[-1])).astype(np.int64))
    for members in _alike(codes, sizes, len(asked.rows)):
        said = {name: c.dictionary[int(n[members[0]])].as_py() for name, c, n in zip(names, coded, codes, strict=False)}
        key = tuple(said.get(name, True) for name in compiled.shown)
        yield from _of_shape(asked, (*key, int(codes[-1][members[0]]) if shows_order else None), members)


def _alike(codes: Sequence[Numbers], sizes: Sequence[int], count: int) -> Iterator[Numbers]:
    """The places of rows with equal codes."""
    together = np.zeros(count, np.int64)
    for code, size in zip(codes, sizes, strict=True):
        together = together * size + code
    order = np.argsort(together, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(together[order])) + 1) if count else ()


def _of_shape(asked: _Asked, key: tuple[Any, ...], members: Numbers) -> Iterator[Group]:
    """The rows of one shape by the remainder of their draws."""
    shapes = asked.compiled.learnt.shapes
    while True:
        step, found = lcm(1, *(shapes[key].steps if key in shapes else ())), list[Group]()
        drawn = asked.draws[members] if step > 1 else np.zeros(len(members), np.uint64)
        remainders = (drawn % np.uint64(step)).astype(np.int64)
        for part in _alike([remainders], [step], len(members)):
            rows, remainder = members[part], int(remainders[part[0]])
            root = shapes[key].roots.get(remainder) if key in shapes else None
            if (root is None or not root.tried) and len(rows) >= skeletons.FEWEST_ROWS:
                _learn(asked, rows[:skeletons.FEWEST_ROWS])
                if key not in shapes or lcm(1, *shapes[key].steps) != step:
                    break
                root = shapes[key].roots.get(remainder)
            if root is not None and root.question is None and root.skeleton is not None:
                found.append((rows, root.skeleton))
        else:
            yield from found
            return
        if key not in shapes:  # too many are known already
            return


def _learn(asked: _Asked, few: Numbers) -> None:
    """Have a template tried on some rows of one shape; what is found out is kept with it."""
    at = asked.rows[few]
    columns = {name: values.take(pa.array(at)).to_pylist() for name, values in asked.columns.values.items()}
    rows, refusals = make_rows(asked.compiled, columns, [asked.columns.ids[i] for i in at.tolist()], asked.seed)
    if not refusals:
        for _ in group(asked.compiled, rows):
            pass


def _lines(asked: _Asked, skeleton: Skeleton) -> tuple[Pieces, Pieces] | None:
    """Prompt and completion of a skeleton; nothing where they are not plain, or might say too much."""
    if skeleton.skipped or any(_slot(asked, value) is None for value in (*skeleton.put_off, *skeleton.unread)):
        return None
    prompt, completion = (_line(asked, skeleton.texts[part]) for part in ("prompt", "completion"))
    if not prompt or not completion or steps_of(skeleton, 0, SAID_BY_ANY) > STEPS:
        return None
    words = None if asked.compiled.template.free else asked.compiled.words
    return None if words is not None and "".join(map(str, completion)) not in words else (prompt, completion)


def _line(asked: _Asked, line: Line) -> Pieces | None:
    """A line with its slots; nothing where one of its unread values is no slot."""
    pieces = [piece if isinstance(piece, str) else _slot(asked, piece) for piece in line.pieces]
    return None if None in pieces else tuple(piece for piece in pieces if piece is not None)


def _characters(asked: _Asked, skeleton: Skeleton, lines: tuple[Pieces, Pieces], members: Numbers) -> Numbers:
    """How many characters each row says."""
    found, rows = np.full(len(members), skeleton.said), asked.rows[members]
    for slot in (piece for line in lines for piece in line if not isinstance(piece, str)):
        found += max(map(len, asked.compiled.words or ())) if slot[0] == "choice" else asked.columns.lengths(slot)[rows]
    return found


def _slot(asked: _Asked, value: Unread) -> Slot | None:
    """An unread value as a slot; nothing where it is another thing."""
    if value.make is None:
        is_text = len(value.place) == 1 and asked.compiled.columns.get(str(value.place[0])) == "string"
        return ("text", value.place[0]) if is_text else None
    if value.make is to_json and isinstance(value.args[0], Unread) and not value.kwargs:
        inner = _slot(asked, value.args[0])
        return ("json", inner[1]) if inner and inner[0] == "text" else None
    if value.make is get_item and isinstance(value.args[0], Unread) and value.args[0].make is ordered:
        return ("choice", value.args[1])
    return None


def _said(asked: _Asked, lines: Sequence[Pieces], which: Numbers) -> pa.StringArray:
    """The text of each row, by the line of its group."""
    distinct = {line: n for n, line in enumerate(dict.fromkeys(lines))}
    number = np.array([distinct[line] for line in lines])[which]
    if all(isinstance(piece, str) for line in distinct for piece in line):
        return pa.array(["".join(map(str, line)) for line in distinct], pa.string()).take(pa.array(number))
    slots = {piece: asked.slot(piece) for line in distinct for piece in line if not isinstance(piece, str)}
    if len(distinct) == 1:
        return _joined(next(iter(distinct)), slots, len(which))
    places = [np.flatnonzero(number == n) for n in range(len(distinct))]
    parts = [
        _joined(line, {slot: slots[slot].take(pa.array(at)) for slot in line if slot in slots}, len(at))
        for line, at in zip(distinct, places, strict=True)
    ]
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places))))


def _joined(line: Pieces, slots: Mapping[Any, pa.Array], count: int) -> pa.StringArray:
    if all(isinstance(piece, str) for piece in line):
        return pa.array(["".join(map(str, line))], pa.string()).take(pa.array(np.zeros(count, np.int64)))
    if len(line) == 1:
        return slots[line[0]]
    return pc.binary_join_element_wise(*(piece if isinstance(piece, str) else slots[piece] for piece in line), "")


def _choices(
    asked: _Asked, completions: Sequence[Pieces], which: Numbers
) -> tuple[Sequence[str] | None, pa.Array]:
    """The words to choose from, and where each row's completion stands among its own."""
    words = None if asked.compiled.template.free else asked.compiled.words
    if words is None:
        return None, pa.nulls(len(which), pa.int64())
    meant = np.array([words.index(str(line[0])) for line in completions])[which]
    if asked.orders is not None:
        meant = np.argmax(asked.orders == meant[:, None], axis=1)
    return words, pa.array(meant)
