"""A report as one HTML page: tables, matrix, calibration, disagreements, and a browser of errors with exact prompts.

In: a `Report`. Out: HTML text that asks nothing of any network; what the samples say is escaped.
"""

from zhiling.cards.pages import render_page
from zhiling.errors import one_line
from zhiling.eval_tasks.board_files import points, with_reach
from zhiling.eval_tasks.report import FACTORS, Report


def page(found: Report) -> str:
    """The page."""
    return render_page(
        "report.html.j2", ["report_app.js.j2"], title=found.model.name, report=found, factors=FACTORS, points=points,
        with_reach=with_reach, one_line=one_line,
    )
