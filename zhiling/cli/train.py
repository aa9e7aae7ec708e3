"""`zhiling train`, `sweep`, `predict`: a release to a model, and a model's answers."""

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train a model on a release.")


def register(app: typer.Typer) -> None:
    """Add this file's top-level commands to `app`."""
