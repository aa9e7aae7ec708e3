"""The leaderboard: results folders to a site that opens from disk, and to a table in the terminal.

In: results folders. Out: `index.html` (one file, no network), `leaderboard.md`, `leaderboard.csv`.
Refused: results that do not fit together (see `board_read`). Results come from strangers: whatever they say is text.
"""

from collections.abc import Sequence
from pathlib import Path

from zhiling.eval_tasks.board_files import as_csv, markdown, name_of, points, tasks_of
from zhiling.eval_tasks.board_read import TaskKey, read_field
from zhiling.eval_tasks.board_scores import REFERENCES, Row, standings
from zhiling.store import write_text


def build(results: Sequence[Path], site: Path) -> list[Row]:
    """Write the board of some results folders to the folder `site`; return its rows."""
    from zhiling.eval_tasks.board_page import page

    field = read_field(results)
    rows = standings(field)
    write_text(site / "leaderboard.md", markdown(rows))
    write_text(site / "leaderboard.csv", as_csv(rows))
    write_text(site / "index.html", page(field, rows))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print the standings, a table for each number of shots."""
    from zhiling.console import table

    for shots in sorted({r.shots for r in rows}):
        board = [r for r in rows if r.shots == shots]
        tasks = tasks_of(board)
        alone = tasks[0] if len(tasks) == 1 else None
        heads = ["accuracy", "macro-F1", "worst template", "spread"] if alone else [t.title for t in tasks]
        lines = [[*_front(r), *(_single(r, alone) if alone else _columns(r, tasks))] for r in board]
        title = f"{alone.title + ', ' if alone else ''}{shots}-shot: chance is 0, all right is 100"
        table(title, ["tier", "model", "score", "95 % interval", *heads], lines)


def _front(row: Row) -> list[str]:
    tier, name = "" if row.tier is None else str(row.tier), name_of(row)
    if row.mean is None:
        return [tier, name, f"({len(row.cells)} tasks)", ""]
    interval = "" if row.model.kind in REFERENCES else f"{points(row.mean.low)} to {points(row.mean.high)}"
    return [tier, name, points(row.mean.value), interval]


def _single(row: Row, task: TaskKey) -> list[str]:
    cell = row.cells[task]
    worst = f"{points(cell.worst[1])} {cell.worst[0]}" if len(cell.templates) > 1 else ""
    f1 = "" if cell.f1_macro is None else points(cell.f1_macro)
    return [points(cell.score.value), f1, worst, points(cell.spread) if worst else ""]


def _columns(row: Row, tasks: Sequence[TaskKey]) -> list[str]:
    return [points(row.cells[t].score.value) if t in row.cells else "" for t in tasks]
