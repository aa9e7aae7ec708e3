"""Lines: what a template prints, as fixed text and unread values side by side, filled in for many rows at once.

In: what a trial printed. Out: a line, its ends stripped where that is the same for every row; and, given what is
read of some rows, a text for each. What `~`, `join` and `json` make of unread values becomes pieces of the line,
so that whole columns are joined once and nothing is put together row by row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from zhiling.templates.filters import glue, join, to_json
from zhiling.templates.unread import PLAIN, Looked, Unread, holds_unread

MOST_PIECES = 4_000  # of a line; little may be put together of itself many times over
BOTH_ENDS = ("completion", "rationale")  # texts that are stripped at both ends; others only at their end
Piece = str | Unread


@dataclass(frozen=True)
class Line:
    """A text of a template, but for the unread values that stand in it."""

    pieces: Sequence[Piece]  # no two texts side by side
    strips_left: bool = False  # whether a row may begin with a space that has to go
    strips_right: bool = False
    taken_apart: Sequence[Unread] = ()  # values whose parts are among the pieces

    @property
    def slots(self) -> list[Unread]:
        """The unread values."""
        return [piece for piece in self.pieces if isinstance(piece, Unread)]

    def filled(self, columns: Iterator[Sequence[str]], count: int) -> Sequence[str]:
        """`count` texts; those of the slots are taken from `columns`."""
        texts = joined([next(columns) if isinstance(piece, Unread) else piece for piece in self.pieces], count)
        if self.strips_left:
            texts = list(map(str.lstrip, texts))
        return list(map(str.rstrip, texts)) if self.strips_right else texts


def joined(pieces: Sequence[str | Sequence[str]], count: int) -> Sequence[str]:
    """`count` texts: columns put side by side, with texts that stand in each between them."""
    if all(isinstance(piece, str) for piece in pieces):
        return ["".join(map(str, pieces))] * count
    if len(pieces) == 1:
        return pieces[0]
    columns = [repeat(piece, count) if isinstance(piece, str) else piece for piece in pieces]
    return list(map("".join, zip(*columns, strict=True)))


def stripped(part: str, text: str) -> str:
    """A text of a template without the spaces at its ends."""
    return text.strip() if part in BOTH_ENDS else text.rstrip()


def make_line(part: str, printed: Iterable[Piece]) -> Line:
    """A line of what was printed, stripped as that part of a template is."""
    apart: list[Unread] = []
    pieces = _merged(piece for value in printed for piece in _parts(value, apart))
    right = _strips(pieces, -1, str.rstrip)
    left = part in BOTH_ENDS and _strips(pieces, 0, str.lstrip)
    return Line(pieces, left, right, apart)


def _strips(pieces: list[Piece], end: int, strip: Any) -> bool:
    """Strip the text at one end of `pieces`; whether an unread value is there now."""
    if pieces and isinstance(text := pieces[end], str):
        pieces[end] = strip(text)
        if not pieces[end]:
            del pieces[end]
    return bool(pieces) and isinstance(pieces[end], Unread)


def _merged(parts: Iterable[Piece]) -> list[Piece]:
    """`parts`, with texts that stand side by side as one and without empty ones."""
    pieces: list[Piece] = []
    for count, part in enumerate(parts):
        if count == MOST_PIECES:
            raise Looked
        if isinstance(part, str) and pieces and isinstance(last := pieces[-1], str):
            pieces[-1] = last + part
        elif isinstance(part, Unread) or part:
            pieces.append(part)
    return pieces


def _parts(value: Any, apart: list[Unread]) -> Iterator[Piece]:
    """`value` as it prints, in pieces; unread values that are taken apart for this are noted."""
    if not isinstance(value, Unread):
        yield str(value)
        return
    parts = take_apart(value)
    if parts is None:
        yield value
        return
    apart.append(value)
    for part in parts:
        yield from _parts(part, apart)


def take_apart(value: Unread) -> Sequence[Any] | None:
    """The texts, numbers and unread values that `value` is put together of; None where it is not."""
    if value.kwargs:
        return None
    if value.make is glue:
        parts = value.args
    elif value.make is to_json and not isinstance(value.args[0], Unread):
        return list(_json_parts(value.args[0]))
    elif isinstance(value.make, partial) and value.make.func is join and isinstance(value.args[0], list | tuple):
        words, between = value.args[0], value.args[1] if len(value.args) > 1 else ""
        parts = [part for word in words for part in (between, word)][1:]
    else:
        return None
    return parts if all(isinstance(part, Unread) or type(part) in PLAIN for part in parts) else None


def _json_parts(value: Any) -> Iterator[Piece]:
    """What `json` makes of a value with unread ones inside."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield "," if i else "["
            yield from _json_parts(item)
        yield "]" if value else "[]"
    elif isinstance(value, dict) and holds_unread(value):
        for i, (key, item) in enumerate(value.items()):
            yield ("," if i else "{") + to_json({key: 0})[1:-2]
            yield from _json_parts(item)
        yield "}"
    else:
        yield Unread((), to_json, (value,)) if isinstance(value, Unread) else to_json(value)
