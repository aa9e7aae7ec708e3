"""`zhiling train`, `sweep`, `predict`: a release to a model, and a model's answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zhiling.trainer.config import TrainSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train a model on a release.")
Release = Annotated[Path, typer.Argument(help="Folder of a release, as out/zh-reviews/1.0.0.")]
Recipe = Annotated[Path | None, typer.Option("--recipe", "-r", help="YAML file whose `train` section says how.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that the model goes to.")]


def register(app: typer.Typer) -> None:
    """Add this file's top-level commands to `app`."""
    app.command("predict")(predict)


@app.command()
def pretrain(release: Release, out: Out, recipe: Recipe = None) -> None:
    """Train a tokenizer and a model from scratch on a release's texts. A killed run goes on where it was."""
    from zhiling.trainer.stages import pretrain as run

    print(run(release, _settings(recipe), out))


@app.command()
def instruct(
    release: Release,
    model: Annotated[Path, typer.Argument(help="Folder of the model to start from.")],
    out: Out,
    recipe: Recipe = None,
) -> None:
    """Train a model on a release's rows, with the loss on completions."""
    from zhiling.trainer.stages import instruct as run

    print(run(release, model, _settings(recipe), out))


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a model.")],
    pack: Annotated[str, typer.Argument(help="A shipped pack (zh/sentiment) or a pack's folder.")],
    source: Annotated[str, typer.Argument(metavar="INPUT", help="JSONL, CSV, TSV, Parquet, text; - reads lines.")] = "-",
    template: Annotated[str | None, typer.Option("--template", "-t", help="The pack's first where absent.")] = None,
) -> None:
    """Label or answer rows, one JSON object a line."""
    import json

    from zhiling.trainer.predict import predict as run

    for row in run(model, pack, source, template):
        print(json.dumps(row, ensure_ascii=False))


def _settings(recipe: Path | None) -> "TrainSettings":
    """The `train` section of a recipe; defaults where there is no recipe."""
    from zhiling.errors import UserError
    from zhiling.settings import parse, read_yaml
    from zhiling.trainer.config import TrainSettings

    if recipe is None:
        return TrainSettings()
    document = read_yaml(recipe)
    if not isinstance(document.data.get("train"), dict):
        raise UserError(str(recipe), "no `train` section in it", "add one")
    return parse(TrainSettings, document, document.data["train"], ("train",))
