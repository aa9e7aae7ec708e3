"""`zhiling template lint`, `test`, `report`, `import`: packs checked, compared, measured and taken over."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zhiling.templates.findings import Finding

TO_MEND = 2  # exit code where something is to be mended
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Packs = Annotated[list[str], typer.Argument(metavar="PACK...", help="Shipped packs, packs' folders, folders of packs.")]
MaybePacks = Annotated[
    list[str] | None, typer.Argument(metavar="[PACK...]", help="Packs or folders of packs; all shipped ones if none.")
]
import_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Take over prompts from elsewhere.")


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("lint")(lint)
    app.command("test")(test)
    app.command("report")(report)
    app.add_typer(import_app, name="import")


def lint(
    packs: MaybePacks = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend first what needs no person: marked (--fix does).")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with packs: errors keep one out, warnings are worth a look; -v shows notes as well."""
    import json

    from zhiling.console import note
    from zhiling.errors import UserError
    from zhiling.templates.lint import lint_pack, pack_folders
    from zhiling.templates.mend import mend_pack

    folders = pack_folders(packs or [])
    found: list[Finding] = []
    for folder in folders:
        if fix:
            try:
                lines = mend_pack(folder)
            except UserError:
                lines = 0  # lint says below what is wrong
            if lines:
                note(f"{folder / 'pack.yaml'}: {lines} lines mended")
        found += lint_pack(folder)
    if as_json:
        print(json.dumps([finding.as_dict() for finding in found], ensure_ascii=False, indent=2))
    else:
        for finding in found:
            if finding.severity == "note":
                note(str(finding), level=2)
            else:
                print(finding)
        note(_counted(len(folders), found))
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(TO_MEND)


def _counted(packs: int, found: "Sequence[Finding]") -> str:
    """How many findings of each severity there are."""
    counts = [(word, sum(f.severity == word for f in found)) for word in ("error", "warning", "note")]
    parts = ", ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts)
    return f"{packs} {'pack' if packs == 1 else 'packs'}: {parts}"


def test(
    packs: MaybePacks = None,
    update: Annotated[bool, typer.Option("--update", help="Write the snapshots anew.")] = False,
) -> None:
    """Compare what packs render from their examples with their snapshot.txt."""
    from zhiling.console import note
    from zhiling.templates.lint import pack_folders
    from zhiling.templates.pack import read_pack
    from zhiling.templates.snapshots import FILE, compare
    from zhiling.templates.snapshots import update as write

    folders, changed = pack_folders(packs or []), []
    for folder in folders:
        pack = read_pack(folder)
        if update:
            changed += [folder] if write(pack) else []
        elif lines := compare(pack):
            changed.append(folder)
            print("\n".join(lines))
    for folder in changed if update else []:
        print(folder / FILE)
    note(f"{len(folders)} packs: {len(changed)} snapshots {'written' if update else 'differ'}")
    if changed and not update:
        note("where the new wording is meant: zhiling template test --update, and raise the pack's version")
        raise typer.Exit(TO_MEND)


def report(
    packs: MaybePacks = None,
    write: Annotated[Path | None, typer.Option("--write", help="Put the table between this file's marks.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure packs: how unlike their templates are, how long prompts run, where right choices stand."""
    import json
    from dataclasses import asdict

    from zhiling.console import table
    from zhiling.templates.lint import pack_folders
    from zhiling.templates.pack import read_pack
    from zhiling.templates.quality import as_markdown, measure, write_report

    found = [measure(read_pack(folder)) for folder in pack_folders(packs or [])]
    if write is not None:
        print(f"{write}: {'written' if write_report(write, found) else 'as it was'}")
    elif as_json:
        print(json.dumps([asdict(quality) for quality in found], ensure_ascii=False, indent=2))
    elif markdown:
        print(as_markdown(found), end="")
    else:
        rows = [list(asdict(quality).values()) for quality in found]
        table("packs in numbers", [name.replace("_", " ") for name in asdict(found[0])], rows)


@import_app.command()
def promptsource(
    path: Annotated[Path, typer.Argument(help="Promptsource's templates folder, or one templates.yaml.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the packs below this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read promptsource's prompts: what can become packs does, the rest is named with the reason."""
    import json

    from zhiling.console import table
    from zhiling.templates.promptsource import read_promptsource
    from zhiling.templates.promptsource_packs import import_prompts, summary

    entries = import_prompts(read_promptsource(path), out)
    if as_json:
        print(json.dumps([entry.as_dict() for entry in entries], ensure_ascii=False, indent=2))
    else:
        table(f"{len(entries)} prompts", ["outcome", "why", "prompts"], summary(entries))
