"""`zhiling build`: corpora to a release."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("build")(build)


def build(
    recipe: Annotated[Path, typer.Argument(help="YAML file that says what to build.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where releases go: OUT/<name>/<version>.")] = Path("out"),
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes; the bytes are the same.")] = 2,
) -> None:
    """Build the release that a recipe describes. A killed build goes on where it was."""
    from zhiling.builders.pipeline import build as build_release

    print(build_release(recipe, out, workers))
