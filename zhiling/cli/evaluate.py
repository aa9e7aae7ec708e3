"""`zhiling eval`, `tasks`, `compare`, `leaderboard`: a model's scores, and what they are worth."""

import typer

tasks_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="lm-eval tasks made from packs and releases.")


def register(app: typer.Typer) -> None:
    """Add this file's top-level commands to `app`."""
