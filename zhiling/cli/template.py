"""`zhiling template`: list, show, preview, lint, test, start and import template packs."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Template packs: what a labelled row says to a model.")
PackName = Annotated[str, typer.Argument(metavar="PACK", help="A shipped pack (zh/sentiment) or a pack's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(
    task: Annotated[str | None, typer.Option(help="Only packs of this task, as classification.")] = None,
    language: Annotated[str | None, typer.Option(help="Only packs in this language: zh or en.")] = None,
    license: Annotated[str | None, typer.Option(help="Only packs under this licence, as Apache-2.0.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped packs."""
    import json

    from zhiling.console import table
    from zhiling.templates.pack import load_pack, pack_names

    packs = [load_pack(name).settings for name in pack_names()]
    wanted = {"task": task, "language": language, "license": license}
    found = [p for p in packs if all(value in (None, getattr(p, key)) for key, value in wanted.items())]
    rows = [[p.pack, p.version, p.task, p.license, len(p.templates), p.summary] for p in found]
    names = ["pack", "version", "task", "license", "templates", "summary"]
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, indent=2))
    else:
        table(f"{len(rows)} packs", names, rows)


@app.command()
def show(pack: PackName, as_json: AsJson = False) -> None:
    """Show a pack: its columns, labels and templates."""
    import json

    from zhiling.console import table
    from zhiling.templates.pack import load_pack

    settings = load_pack(pack).settings
    if as_json:
        print(json.dumps(settings.model_dump(mode="json", exclude_none=True), ensure_ascii=False, indent=2))
        return
    print(f"{settings.pack} {settings.version}, {settings.task}, {settings.license}: {settings.summary}")
    table("columns", ["column", "type"], [list(item) for item in settings.columns.items()])
    for template in settings.templates:
        print(f"\n── {template.name}\n{template.prompt.rstrip()}\n⟶ {template.completion}")
