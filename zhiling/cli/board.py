"""`zhiling leaderboard`, `zhiling compare`: results side by side, and whether a difference is real."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

Results = Annotated[list[Path], typer.Argument(help="Results folders, or folders of them, as results/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class _BuildUnlessNamed(TyperGroup):
    """`zhiling leaderboard RESULTS` is `zhiling leaderboard build RESULTS`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if named else ["build", *args])


leaderboard_app = typer.Typer(
    cls=_BuildUnlessNamed, no_args_is_help=True, rich_markup_mode=None,
    help="Results folders to a board: `zhiling leaderboard RESULTS... -o SITE`.",
)


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("compare")(compare)
    app.add_typer(leaderboard_app, name="leaderboard")


@leaderboard_app.command("build")
def build(
    results: Results,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the site.")] = Path("out/leaderboard"),
    model_index: Annotated[str | None, typer.Option(help="Print this model's model-index for its card.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the site (index.html, leaderboard.md, leaderboard.csv) and print the standings."""
    import json

    from zhiling.eval_tasks import board_files
    from zhiling.eval_tasks.board_read import runs_below
    from zhiling.eval_tasks.leaderboard import build as build_site
    from zhiling.eval_tasks.leaderboard import show

    rows = build_site(runs_below(results), out)
    if model_index is not None:
        print(board_files.model_index(rows, model_index), end="")
        return
    if as_json:
        print(json.dumps(board_files.as_json(rows), ensure_ascii=False, indent=2, allow_nan=False))
        return
    show(rows)
    print(out / "index.html")


@leaderboard_app.command("verify")
def verify(
    results: Results,
    release: Annotated[Path | None, typer.Option("--release", "-r", help="Hold the prompts against its own.")] = None,
    data: Annotated[str | None, typer.Option(help="Hold the prompts against your copies of public data sets.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run code that models wrote, fenced in.")] = False,
) -> None:
    """Compute every score again from the samples, check prompts against digests; refuse what does not agree."""
    from zhiling.errors import UserError
    from zhiling.eval_tasks.board_read import runs_below
    from zhiling.eval_tasks.board_verify import Known, has_prompts
    from zhiling.eval_tasks.board_verify import verify as find_faults

    refused = 0
    for folder in runs_below(results):
        faults = find_faults(folder, Known(release, data, allow_code))
        refused += bool(faults)
        for line in faults:
            print(f"{folder}: {line}")
        if not faults:
            bare = not (release or data) and not has_prompts(folder)
            print(f"{folder}: every score agrees with its samples{', which hold no prompts' if bare else ''}")
    if refused:
        raise UserError("results", f"{refused} refused for the reasons above", "give them as `zhiling eval` wrote them")


@leaderboard_app.command("report")
def report(
    results: Results,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write report.html and report.md there too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one model's results in depth; give a baseline's results too, and labels have their names."""
    import json

    from zhiling.eval_tasks import report as in_depth
    from zhiling.eval_tasks.board_read import runs_below
    from zhiling.eval_tasks.report_page import page
    from zhiling.store import write_text

    found = in_depth.make_report(runs_below(results))
    if as_json:
        print(json.dumps(in_depth.as_json(found), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        in_depth.show(found)
    if out is not None:
        write_text(out / "report.md", in_depth.markdown(found))
        write_text(out / "report.html", page(found))
        if not as_json:
            print(out / "report.html")


def compare(
    a: Annotated[Path, typer.Argument(help="Results folder of the one model.")],
    b: Annotated[Path, typer.Argument(help="Results folder of the other.")],
    as_json: AsJson = False,
) -> None:
    """Say what changed between two results, where, and whether it is real."""
    import json

    from zhiling.eval_tasks.compare import compare as compare_results
    from zhiling.eval_tasks.compare import show

    found = compare_results(a, b)
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        show(found)
