"""`zhiling push`: a release to where its readers find it."""

from typing import Annotated

import typer

from zhiling.cli.release import Release


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("push")(push)


def push(
    release: Release,
    target: Annotated[str, typer.Argument(help="Where to: a folder of versions.")],
) -> None:
    """Publish a release; a version that is published never changes."""
    from zhiling.builders.publish import push as publish

    print(publish(release, target))
