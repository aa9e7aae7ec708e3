"""`zhiling template list`, `show`, `preview`, `new`: what packs there are and what they say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhiling.cli import template_tools
from zhiling.cli.template_tools import AsJson, Packs

if TYPE_CHECKING:
    from zhiling.templates.pack import Pack, TemplateSettings

HELP = "Template packs: what a labelled row says to a model."
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP)
template_tools.register(app)
PackName = Annotated[str, typer.Argument(metavar="PACK", help="A shipped pack (zh/sentiment) or a pack's folder.")]
Names = Annotated[list[str] | None, typer.Option("--template", "-t", help="Only this template; may be given often.")]


@app.command("list")
def list_(
    task: Annotated[str | None, typer.Option(help="Only packs of this task, as classification.")] = None,
    language: Annotated[str | None, typer.Option(help="Only packs in this language: zh or en.")] = None,
    license: Annotated[str | None, typer.Option(help="Only packs under this licence, as Apache-2.0.")] = None,  # noqa: A002
    as_json: AsJson = False,
) -> None:
    """List the shipped packs."""
    import json
    from typing import get_args

    from zhiling.console import table
    from zhiling.errors import UserError, did_you_mean
    from zhiling.templates.pack import TASKS, load_pack, pack_names

    for option, value, known in (("--task", task, get_args(TASKS)), ("--language", language, ("zh", "en"))):
        if value is not None and value not in known:
            raise UserError(option, f"'{value}' is none that packs have", did_you_mean(value, known))
    packs = [load_pack(name).settings for name in pack_names()]
    wanted = {"task": task, "language": language, "license": license}
    found = [
        p for p in packs if all(v is None or v.lower() == getattr(p, key).lower() for key, v in wanted.items())
    ]
    rows = [[p.pack, p.version, p.task, p.license, len(p.templates), p.summary] for p in found]
    names = ["pack", "version", "task", "license", "templates", "summary"]
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, indent=2))
    else:
        table(f"{len(rows)} packs", names, rows)


@app.command()
def show(pack: PackName, template: Names = None, as_json: AsJson = False) -> None:
    """Show a pack as it is written: its columns, labels, corpora and templates."""
    import json

    from zhiling.console import table
    from zhiling.templates.pack import load_pack

    loaded = load_pack(pack)
    settings = loaded.settings
    if as_json:
        chosen = settings.model_copy(update={"templates": loaded.select(template)})
        print(json.dumps(chosen.model_dump(mode="json", exclude_none=True), ensure_ascii=False, indent=2))
        return
    print(f"{settings.pack} {settings.version}, {settings.task}, {settings.license}: {settings.summary}")
    if template is None:
        table("columns", ["column", "type"], [list(item) for item in settings.columns.items()])
        words = [[c, label, word] for c in loaded.label_columns for label, word in loaded.labels_of(c).items()]
        if words:
            table("labels", ["column", "label", "word"], words)
        if settings.corpora:
            table("corpora", ["hub", "config", "license"], [[c.hub, c.config, c.license] for c in settings.corpora])
    for chosen_template in loaded.select(template):
        print(_shown(chosen_template))


def _shown(template: "TemplateSettings") -> str:
    """A template's texts, each part that is not the prompt under its name."""
    lines = [f"\n── {template.name}" + (f" ({template.kind})" if template.kind else "")]
    for key, source in template.texts.items():
        role = template.turns[int(key[1])].role if template.turns and len(key) > 1 else str(key[0])
        name = "⟶" if role == "completion" else "" if role == "prompt" else f"{role}:"
        lines.append(f"{name} {source.rstrip()}" if name else source.rstrip())
    if isinstance(template.choices, str):
        lines.append(f"   choices: {template.choices}")
    elif template.choices:
        words = template.choices.values() if isinstance(template.choices, dict) else template.choices
        lines.append("   of: " + " / ".join(words))
    return "\n".join(lines)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What the pack is called: zh/my_task or en/my_task.")],
    root: Annotated[Path | None, typer.Option("--in", help="Folder of packs; templates/packs in a clone.")] = None,
) -> None:
    """Start a pack from a small one that passes lint."""
    from zhiling.console import note
    from zhiling.templates.scaffold import new_pack

    clone = Path("templates/packs")
    folder = new_pack(name, root or (clone if clone.is_dir() else Path()))
    print(folder)
    note(f"edit pack.yaml and examples.jsonl, then: zhiling template lint {folder}")


@app.command()
def preview(
    packs: Packs,
    template: Names = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows of each pack.")] = 2,
    corpus: Annotated[Path | None, typer.Option(help="Take rows from this file, not the pack's examples.")] = None,
    columns: Annotated[list[str] | None, typer.Option("--map", help="COLUMN=ITS NAME IN THE FILE.")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", help="VALUE IN THE FILE=LABEL.")] = None,
    fixed: Annotated[list[str] | None, typer.Option("--set", help="COLUMN=VALUE that all rows have.")] = None,
    shots: Annotated[int, typer.Option(min=0, max=50, help="Answered rows before each.")] = 0,
    tokenizer: Annotated[Path | None, typer.Option(help="Count tokens with this folder's tokenizer.json.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a comment on a pull request.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show rendered rows, coloured by who wrote what: the template, the row, the answer."""
    import json
    from dataclasses import asdict

    from zhiling.console import note
    from zhiling.errors import UserError
    from zhiling.templates.lint import pack_folders
    from zhiling.templates.pack import read_pack
    from zhiling.templates.preview import Preview, as_markdown, preview

    shown: list[Preview] = []
    for folder in pack_folders(packs):
        try:
            pack = read_pack(folder)
            given = (columns, labels, fixed, rows + shots)
            found = pack.examples if corpus is None else _corpus_rows(pack, corpus, *given)
            if not found:
                note(f"{pack.name}: no examples to show; write some into examples.jsonl, or give rows with --corpus")
            shown += preview(pack, template, found, shots, tokenizer, rows)
        except UserError as error:
            if not markdown:  # where one of many packs is broken, the others are still worth a look
                raise
            shown.append(Preview("/".join(folder.parts[-2:]), "not read", 0, (), None, str(error), None))
    if as_json:
        print(json.dumps([asdict(found) for found in shown], ensure_ascii=False, indent=2))
    elif markdown:
        print(as_markdown(shown), end="")
    else:
        _print(shown)


def _print(shown: Any) -> None:
    """Previews on the terminal."""
    from rich.console import Console

    from zhiling.templates.preview import as_text, heading, legend

    console = Console(soft_wrap=True, highlight=False)
    console.print(legend())
    for found in shown:
        console.print(f"\n── {heading(found)}", style="dim", markup=False)
        console.print(as_text(found))


def _corpus_rows(
    pack: "Pack", file: Path, columns: list[str] | None, labels: list[str] | None, fixed: list[str] | None, count: int
) -> list[dict[str, Any]]:
    """The first rows of a file that fit a pack. Raises UserError where none does."""
    from zhiling.builders.corpus import plan_sources, read_unit
    from zhiling.builders.sources import CorpusSettings, SourceFile
    from zhiling.errors import UserError

    settings = CorpusSettings(
        name="preview", pack=pack.name, license="unknown", unknown_labels="reject",
        files=[SourceFile(path=str(file), set=_pairs("--set", fixed))],
        columns=_pairs("--map", columns), labels=_pairs("--label", labels),
    )
    known = {column: tuple(pack.labels_of(column)) for column in pack.label_columns}
    rows: list[dict[str, Any]] = []
    reason = "it has no rows"
    for source in plan_sources(settings, pack.settings.columns, known, pack.settings.language, Path()):
        for unit in source.units:
            for piece in read_unit(unit):
                rows += piece.table.select(list(pack.settings.columns)).slice(0, count).to_pylist()
                reason = f"{piece.rejects[0].source}: {piece.rejects[0].detail}" if piece.rejects else reason
                if len(rows) >= count:
                    return rows[:count]
    if not rows:
        do = "map columns with --map COLUMN=NAME and labels with --label VALUE=LABEL"
        raise UserError(str(file), f"no row fits {pack.name} ({reason})", do)
    return rows


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`A=B` options as a mapping. Raises UserError for one without `=`."""
    from zhiling.errors import UserError, one_line

    wrong = next((pair for pair in given or [] if "=" not in pair), None)
    if wrong is not None:
        raise UserError(option, f"'{one_line(wrong, 40)}' has no =", f"write {option} NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given or [])
