"""The leaderboard: results folders to a site that opens from disk, and to a table in the terminal.

In: results folders. Out: `index.html` (one file, no network), `leaderboard.md`, `leaderboard.csv`, `model-index.yaml`.
Refused: results that do not fit together (see `board_read`). Results come from strangers: whatever they say is text.
"""

from collections.abc import Sequence
from pathlib import Path

from zhiling.eval_tasks.board_read import read_field
from zhiling.eval_tasks.board_scores import Row, standings
from zhiling.store import write_text


def build(results: Sequence[Path], site: Path) -> list[Row]:
    """Write the board of some results folders to the folder `site`; return its rows."""
    from zhiling.eval_tasks.board_page import page

    field = read_field(results)
    rows = standings(field)
    write_text(site / "index.html", page(field, rows))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print the standings, a table for each number of shots."""
    from zhiling.console import table

    for shots in sorted({r.shots for r in rows}):
        board = [r for r in rows if r.shots == shots]
        tasks = sorted({task for r in board for task in r.cells})
        names = ["tier", "model", "score", "95 % interval", *(t.title for t in tasks)]
        alone = len(tasks) == 1
        if alone:
            names[4:] = ["accuracy", "macro-F1", "worst template", "spread"]
        lines = [[*_front(r), *(_single(r, tasks[0]) if alone else _columns(r, tasks))] for r in board]
        table(f"{tasks[0].title + ', ' if alone else ''}{shots} shots: chance is 0, all right is 100", names, lines)


def _front(row: Row) -> list[str]:
    tier, kind = "" if row.tier is None else str(row.tier), row.model.kind
    name = row.model.name
    if row.mean is None:
        return [tier, name, f"({len(row.cells)} tasks)", ""]
    interval = f"{_points(row.mean.low)} to {_points(row.mean.high)}" if kind not in ("chance", "human") else ""
    return [tier, name, _points(row.mean.value), interval]


def _single(row: Row, task: object) -> list[str]:
    cell = row.cells[task]  # type: ignore[index]
    worst = f"{_points(cell.worst[1])} {cell.worst[0]}" if len(cell.templates) > 1 else ""
    f1 = "" if cell.f1_macro is None else _points(cell.f1_macro)
    return [_points(cell.score.value), f1, worst, _points(cell.spread) if worst else ""]


def _columns(row: Row, tasks: Sequence[object]) -> list[str]:
    cells = [row.cells.get(task) for task in tasks]  # type: ignore[call-overload]
    return ["" if c is None else _points(c.score.value) for c in cells]


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
