"""What a row may take: steps for all that is done, characters for all that is said.

The budget counts steps and not seconds, so that every machine refuses the same rows; all of it takes well under a
second. A row says as much as it is long, a few times over; thus many rows at once stay small, too.
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from jinja2.runtime import LoopContext

from zhiling.templates.counting import PER_STEP
from zhiling.templates.filters import MAX_CHARACTERS, Excess, fits
from zhiling.templates.schema import MOST_CHOICES
from zhiling.templates.unread import Looked, Unread, items_of

STEPS = 500_000       # for one row
PER_ITEM = 4          # steps for an item of a list
SAID_BY_ANY = 20_000  # characters that any row may say
SAID_PER_OWN = 20     # and for each of its own so many more, up to MAX_CHARACTERS
_NUMBERS = frozenset({int, bool, float, type(None)})
_LISTS = frozenset({list, dict, tuple})
MOST_PUT_OFF = 300    # calls for one row; with more it is better rendered on its own


class Budget(threading.local):
    """What is left for the row that is being rendered."""

    def __init__(self) -> None:
        self.start()

    def start(self, own: int = 0, unread: bool = False) -> None:
        """A new row, that has so many characters of its own."""
        self.steps = STEPS
        self.allowed = self.characters = min(MAX_CHARACTERS, SAID_BY_ANY + SAID_PER_OWN * own)  # that it may say
        self.unread = unread  # whether the row's texts are
        self.touched = 0      # how often an unread value should have been paid for
        self.walks = 0        # and to be walked through
        self.put_off: Sequence[Unread] = ()  # what is to be done once they are read
        self.sizes: dict[int, tuple[Any, int, int]] = {}  # each list seen, its size, and steps to look through it

    def pay(self, steps: int) -> None:
        """Take `steps`. Raises Excess where they are not left."""
        self.steps -= steps
        if self.steps < 0:
            raise Excess(f"takes more than {STEPS:,} steps")

    def say(self, characters: int) -> None:
        """Take so many characters. Raises Excess where they are not left."""
        self.characters -= characters
        if self.characters < 0:
            raise Excess(f"says more than {self.allowed:,} characters")

    def put(self, value: Unread) -> Unread:
        """Note that `value` is to be made once there is a row, and that handling it is to be paid for."""
        self.touched += len(value.args) + 1
        self.put_off = [*self.put_off, value]
        if len(self.put_off) > MOST_PUT_OFF:
            raise Looked
        return value


BUDGET = Budget()


def size(value: Any) -> int:
    """Characters and items in `value`; looking through a list is paid for."""
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is int:
        return int(value.bit_length()) // 3
    if isinstance(value, list | tuple | dict):
        return _size_inside(value)
    BUDGET.touched += isinstance(value, Unread)
    return len(value) if kind is range else 1


def _size_inside(value: Collection[Any]) -> int:
    """The size of a list or mapping; it is worked out once, and paid for each time."""
    found = BUDGET.sizes.get(id(value))
    if found is None:
        before = BUDGET.steps
        BUDGET.pay(PER_ITEM * len(value))
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        total = len(value)
        for item in inside:
            total += len(item) if type(item) is str else size(item)
        if not BUDGET.unread:
            BUDGET.sizes[id(value)] = value, total, before - BUDGET.steps
        return total
    BUDGET.pay(found[2])
    return found[1]


def handled(values: Iterable[Any]) -> None:
    """Pay for handling `values`; a few characters are paid for with the loop that they stand in."""
    found = 0
    for value in values:
        found += len(value) if type(value) is str else size(value)
    if found > PER_STEP:
        BUDGET.pay(found // PER_STEP)


def paid(value: Any) -> Any:
    """`value`, paid for. Raises Excess where it is too large."""
    kind = type(value)
    if kind is str:
        found = len(value)
    elif kind in _NUMBERS:
        return value  # even the longest takes no time
    elif kind not in _LISTS and hasattr(kind, "__next__") and kind is not LoopContext:
        return walked(value, PER_ITEM)
    else:
        found = size(value)
    if found > PER_STEP:
        fits(found)
        BUDGET.pay(found // PER_STEP)
    return value


def walked(values: Iterator[Any], steps: int) -> Iterator[Any]:
    """`values`, each paid for by `steps`."""
    for value in values:
        BUDGET.pay(steps)
        yield value


def choice_words(found: Iterable[Any]) -> list[Any]:
    """What an expression for choices gave, as words; unread ones are put off. Raises Excess at too many."""
    words: list[Any] = []
    for word in map(BUDGET.put, items_of(found)) if isinstance(found, Unread) else found:
        if len(words) == MOST_CHOICES:
            raise Excess(f"has more than {MOST_CHOICES:,} choices")
        words.append(Unread((), _stripped, (word,)) if isinstance(word, Unread) else _stripped(word))
        BUDGET.say(0 if isinstance(word, Unread) else len(words[-1]))
    return words


def _stripped(word: Any) -> str:
    return str(word).strip()
