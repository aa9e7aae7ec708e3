"""`zhiling train`, `sweep`, `predict`: a release to a model, which settings do best, and a model's answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zhiling.trainer.config import TrainSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train a model on a release.")
Release = Annotated[Path, typer.Argument(help="Folder of a release, as out/zh-reviews/1.0.0.")]
Model = Annotated[Path, typer.Argument(help="Folder of the model to start from.")]
Recipe = Annotated[Path | None, typer.Option("--recipe", "-r", help="YAML file whose `train` section says how.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say steps, tokens, memory and time; train nothing.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that the model goes to.")]


def register(app: typer.Typer) -> None:
    """Add this file's top-level commands to `app`."""
    app.command("sweep")(sweep)
    app.command("predict")(predict)


@app.command()
def pretrain(
    release: Release,
    out: Out,
    recipe: Recipe = None,
    start: Annotated[Path | None, typer.Option("--from", help="Folder of a checkpoint to start from.")] = None,
    dry_run: Dry = False,
) -> None:
    """Train a tokenizer and a model from scratch on a release's texts. A killed run goes on where it was."""
    from zhiling.trainer.stages import pretrain as run

    settings = _settings(recipe, "pretrain", {"from": str(start) if start else None})
    _show(run(release, settings, out, dry_run), dry_run)


@app.command()
def instruct(
    release: Release,
    model: Model,
    out: Out,
    recipe: Recipe = None,
    dry_run: Dry = False,
) -> None:
    """Train a model on a release's rows, with the loss on completions."""
    from zhiling.trainer.stages import instruct as run

    _show(run(release, model, _settings(recipe), out, dry_run), dry_run)


@app.command()
def finetune(
    release: Release,
    model: Model,
    out: Out,
    recipe: Recipe = None,
    pack: Annotated[list[str] | None, typer.Option("--pack", "-p", help="Rows of this pack only.")] = None,
    template: Annotated[list[str] | None, typer.Option("--template", "-t", help="Rows of this template only.")] = None,
    shots_per_class: Annotated[str | None, typer.Option(help="Texts of each class: a number, or all.")] = None,
    head: Annotated[str | None, typer.Option(help="lm, or a classification head: sequence, token.")] = None,
    dry_run: Dry = False,
) -> None:
    """Train a model on one task's rows, or on a few texts of each class."""
    from zhiling.errors import UserError
    from zhiling.trainer.stages import finetune as run

    if head not in (None, "lm", "sequence", "token"):
        raise UserError("--head", f"'{head}'", "give lm, sequence or token")
    few: str | int | None = shots_per_class
    if shots_per_class is not None and shots_per_class != "all":
        if not shots_per_class.isdecimal():
            raise UserError("--shots-per-class", f"'{shots_per_class}'", "give a number, or all")
        few = int(shots_per_class)
    asked = {"packs": pack or None, "templates": template or None, "shots_per_class": few, "head": head}
    _show(run(release, model, _settings(recipe, "finetune", asked), out, dry_run), dry_run)


@app.command("continue")
def carry_on(
    model: Model,
    releases: Annotated[list[Path], typer.Argument(help="Releases in order; each pack of each is a task.")],
    out: Out,
    recipe: Recipe = None,
    method: Annotated[str | None, typer.Option(help="plain, replay, ewc, distill or adapters.")] = None,
    dry_run: Dry = False,
) -> None:
    """Train on one task after another; score each after each, and say what was forgotten."""
    from zhiling.errors import UserError, did_you_mean
    from zhiling.trainer.config import METHODS
    from zhiling.trainer.continual import carry_on as run
    from zhiling.trainer.continual import cost
    from zhiling.trainer.distributed import alone

    alone("zhiling train continue")
    if method is not None and method not in METHODS:
        raise UserError("--method", f"'{method}'", did_you_mean(method, METHODS))
    settings = _settings(recipe, "continual", {"method": method})
    if dry_run:
        cost(model, releases, settings, out)
        return
    run(model, releases, settings, out)
    print(out)


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file whose `sweep` section says what to try.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path("out"),
    release: Annotated[Path | None, typer.Option(help="A release; built from the recipe where absent.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model before the stage; trained where absent.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="So many, whatever the recipe says.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Trials side by side.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="All trials as JSON, the best first.")] = False,
) -> None:
    """Try settings of one stage, by validation loss, and write the best recipe out. A killed sweep goes on."""
    import json

    from zhiling.console import table
    from zhiling.settings import parse, read_yaml
    from zhiling.trainer.config import TrainSettings
    from zhiling.trainer.distributed import alone
    from zhiling.trainer.sweep import prepared
    from zhiling.trainer.sweep import sweep as run
    from zhiling.trainer.sweep_space import read_sweep, write_best

    alone("zhiling sweep")
    document = read_yaml(recipe)
    settings = read_sweep(document, trials)
    train = parse(TrainSettings, document, document.data.get("train") or {}, ("train",))
    if release is None:
        from zhiling.builders.pipeline import build

        release = build(recipe, out)
    home = out / "sweeps" / recipe.stem
    parent = prepared(settings, train, release, model, home)
    rows = run(settings, document.data.get("train") or {}, release, parent, home, workers)
    best = write_best(document, settings, rows[0])
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        names = ["trial", "state", "value", *settings.search]
        shown = [[f"{v:.4g}" if isinstance(v := row.get(n), float) else v for n in names] for row in rows[:10]]
        table(f"best of {len(rows)} trials", names, shown)
        print(best)


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a model.")],
    pack: Annotated[str, typer.Argument(help="A shipped pack (zh/sentiment) or a pack's folder.")],
    source: Annotated[str, typer.Argument(metavar="INPUT", help="JSONL, CSV, TSV, Parquet or text.")] = "-",
    template: Annotated[list[str] | None, typer.Option("--template", "-t", help="Several: the mean answer.")] = None,
) -> None:
    """Label or answer rows, one JSON object a line."""
    import json

    from zhiling.trainer.predict import predict as run

    for row in run(model, pack, source, template):
        print(json.dumps(row, ensure_ascii=False, default=str))  # a Parquet file has dates and such


def _show(folder: Path, dry_run: bool) -> None:
    from zhiling.trainer.distributed import team

    if not dry_run and team().leads:
        print(folder)


def _settings(
    recipe: Path | None, section: str = "", asked: Mapping[str, Any] | None = None
) -> "TrainSettings":
    """The `train` section of a recipe, or defaults, with what the command line asks for laid over one part of it."""
    from zhiling.errors import UserError
    from zhiling.settings import Document, parse, read_yaml
    from zhiling.trainer.config import TrainSettings

    document = read_yaml(recipe) if recipe else Document(Path("train"), {"train": {}}, {})
    train = document.data.get("train")
    if not isinstance(train, dict):
        raise UserError(str(recipe), "no `train` section in it", "add one")
    given = {key: value for key, value in (asked or {}).items() if value is not None}
    own = train.get(section) or {}
    if given and isinstance(own, dict):  # what is no mapping is refused with its line
        train = {**train, section: {**own, **given}}
    return parse(TrainSettings, document, train, ("train",))
