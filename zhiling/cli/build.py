"""`zhiling plan`, `build`: what a recipe will hold, and corpora to a release."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path, typer.Argument(help="YAML file that says what to build.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where releases go: OUT/<name>/<version>.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes; the bytes are the same.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("plan")(plan)
    app.command("build")(build)


def plan(
    recipe: Recipe,
    out: Out = Path("out"),
    workers: Workers = 2,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder with a tokenizer.json that counts tokens.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show rows and tokens per corpus, task and template, before anything is released; build goes on from there."""
    import json
    from dataclasses import asdict, astuple

    from zhiling.builders.forecast import forecast
    from zhiling.console import table

    found = forecast(recipe, out, workers, tokenizer)
    if as_json:
        print(json.dumps([asdict(row) for row in found], ensure_ascii=False, indent=2))
        return
    names = ["corpus", "task", "pack", "template", "shots", "train", "validation", "test", "train tokens"]
    sums = [sum(values) for values in zip(*(astuple(row)[5:] for row in found), strict=True)]
    how = "counted on a sample" if tokenizer else "estimated from characters"
    table(f"tokens {how}", names, [*(list(astuple(row)) for row in found), ["all", "", "", "", None, *sums]])


def build(
    recipe: Recipe,
    out: Annotated[
        str, typer.Option("--out", "-o", help="Where releases go: OUT/<name>/<version>; a folder, or as s3://bucket/place.")
    ] = "out",
    workers: Workers = 2,
) -> None:
    """Build the release that a recipe describes. A killed build goes on where it was."""
    from zhiling.builders.pipeline import build as build_release
    from zhiling.builders.remote import build_there, is_remote

    print(build_there(recipe, out, workers) if is_remote(out) else build_release(recipe, Path(out), workers))
