"""`zhiling push`, `pull`, `versions`: releases and models to where their readers find them, and back."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("push")(push)
    app.command("pull")(pull)
    app.command("versions")(versions)


def push(
    folder: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of a release or of a model.")],
    target: Annotated[str, typer.Argument(help="hub:ORG/NAME, a folder of versions, or an address as s3://bucket/place.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    pr: Annotated[bool, typer.Option("--pr", help="As a pull request; its tag is set when it is merged.")] = False,
    revision: Annotated[str, typer.Option(help="Branch on the Hub.")] = "main",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; replace what others changed there.")] = False,
    collection: Annotated[str | None, typer.Option(help="A collection on the Hub to put it in.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of a model, as 1.0.0; a release has its own.")] = None,
) -> None:
    """Publish a release or a model: whole or not at all, and a published version never changes."""
    import sys

    from zhiling.builders.publish import push as publish
    from zhiling.builders.publish_plan import Options

    confirm = typer.confirm if sys.stdin.isatty() else None
    print(publish(folder, target, Options(private, pr, revision, dry_run, yes, collection, version, confirm)))


def pull(
    source: Annotated[str, typer.Argument(help="hub:ORG/NAME, or hub:ORG/NAME@v1.2.0.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; it must not exist.")],
) -> None:
    """Fetch a published release or model, and compare it with its manifest."""
    from zhiling.builders.published import pull as fetch

    print(fetch(source, out))


def versions(
    target: Annotated[str, typer.Argument(help="hub:ORG/NAME, a folder of versions, or an address.")],
    as_json: AsJson = False,
) -> None:
    """List what is published at a target, newest first."""
    import json
    from dataclasses import asdict

    from zhiling.builders.published import versions as find_versions
    from zhiling.console import table

    found = find_versions(target)
    if as_json:
        print(json.dumps([asdict(v) for v in found], ensure_ascii=False, indent=2))
    else:
        rows = [[v.version, v.commit[:8], v.title, "newest" if v.newest else ""] for v in found]
        table(f"{len(rows)} versions at {target}", ["version", "commit", "title", ""], rows)
