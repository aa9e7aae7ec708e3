"""What a person sees: progress bars, tables, one-line notes. All to standard error but the results."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

NARROW = 150  # columns of a terminal below which a bar is short and what stands behind it is cut
SHORT, TIME = 6, 7  # columns of a short bar, and of a time
_verbosity = 1  # 0 quiet, 1 normal, 2 verbose


class Bar(Protocol):
    """A progress bar: `bar(n)` says that `n` more units are done, `note` stands behind it."""

    def __call__(self, done: int = 1, note: str = "") -> None:
        """Say that `done` more units are done."""


def set_verbosity(level: int) -> None:
    """0 shows errors only, 1 notes and progress, 2 details too."""
    global _verbosity
    _verbosity = level


def note(text: str, level: int = 1) -> None:
    """Print one line for the person at the terminal, where the verbosity asks for it."""
    if _verbosity >= level:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int) -> Iterator[Bar]:
    """A progress bar over `total` units; plain first and last lines where there is no terminal."""
    if _verbosity < 1:
        yield lambda done=1, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        with _plain(label, total) as bar:
            yield bar
        return
    narrow = console.width < NARROW
    columns = (
        TextColumn("{task.description}" if narrow else "{task.description:<28}"), BarColumn(SHORT if narrow else 40),
        MofNCompleteColumn(), *(() if narrow else (TimeElapsedColumn(),)), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # else rich squeezes all columns alike, and how far it is and how long it takes cannot be read
    room = console.width - len(label) - len(f"{total}/{total}") - SHORT - TIME - 4 if narrow else None
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(label, total=total, note="")

        def advance(done: int = 1, note: str = "") -> None:
            bars.update(task, advance=done, note=note[:room] if room is None or room > 0 else "")

        yield advance


@contextmanager
def _plain(label: str, total: int) -> Iterator[Bar]:
    """A line at each tenth of the way, for logs."""
    from time import monotonic

    start, state = monotonic(), {"done": 0, "tenth": 0}

    def advance(done: int = 1, note: str = "") -> None:
        state["done"] += done
        tenth = 10 * state["done"] // max(1, total)
        if tenth > state["tenth"]:
            state["tenth"] = tenth
            seconds = monotonic() - start
            print(f"{label}: {state['done']}/{total}  {seconds:.0f} s  {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table to standard output; numbers to the right, floats with three decimals."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=escape(title), title_justify="left")
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows)
        shown.add_column(escape(name), justify="right" if numeric else "left")
    for row in rows:
        shown.add_row(*(escape(_cell(value)) for value in row))
    console = Console()
    Console(width=None if console.is_terminal else 160).print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
