"""`zhiling verify`, `inspect`: what one does with a release."""

from pathlib import Path
from typing import Annotated

import typer

Release = Annotated[Path, typer.Argument(help="Folder of a release, as out/zh-reviews/1.0.0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("verify")(verify)
    app.command("inspect")(inspect)


def verify(release: Release) -> None:
    """Hash every file of a release again and compare with its manifest."""
    from zhiling.builders.release import verify as find_differences
    from zhiling.errors import UserError

    found = find_differences(release)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(str(release), f"{'; '.join(found[:3])}{more}", "get or build the release anew")
    print(f"{release}: every file agrees with the manifest")


def inspect(release: Release, as_json: AsJson = False) -> None:
    """Show a release's size, ledger and leak report."""
    import json

    from zhiling.console import table
    from zhiling.store import read_manifest

    about = read_manifest(release, "release")
    if as_json:
        print(json.dumps(about, ensure_ascii=False, indent=2))
        return
    sizes = [[split, found["rows"]] for split, found in about["splits"].items()]
    table(f"{about['name']} {about['version']}", ["split", "rows"], sizes)
    for name, ledger in about["ledger"].items():
        rows = [[key.replace("_", " "), count] for key, count in ledger.items() if key != "rejects"]
        rows += [[f"rejected, {reason}", count] for reason, count in ledger["rejects"].items()]
        table(f"ledger of {name}", ["what", "rows"], rows)
    leak = about["leak"]
    share = leak["naive_leaked_rows"] / max(1, leak["naive_test_rows"])
    naive = f"{leak['naive_leaked_rows']:,} of {leak['naive_test_rows']:,} ({share:.1%})"
    table("test rows whose text stands in train", ["split by", "rows"], [["row, at random", naive], ["group", "0"]])
