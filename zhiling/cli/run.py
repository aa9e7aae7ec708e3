"""`zhiling run`: a recipe's whole road, each step skipped when nothing that it depends on has changed."""

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("run")(run)


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file: corpora, render, publish, train, eval.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path("out"),
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes that build.")] = 2,
) -> None:
    """Build, publish, train, evaluate and show the leaderboard, as far as the recipe says."""
    from zhiling.builders.pipeline import build
    from zhiling.builders.publish import push
    from zhiling.builders.recipe import read_recipe
    from zhiling.store import digest

    settings, document = read_recipe(recipe)
    training = _section("zhiling.trainer.config", "TrainSettings", document, settings.train, "train")
    evaluation = _section("zhiling.eval_tasks.config", "EvalSettings", document, settings.eval, "eval")
    release = build(recipe, out, workers)
    paths: dict[str, str | Path] = {"release": release}
    if settings.publish:
        paths["published"] = push(release, settings.publish.to)
    home = out / settings.name / f"{settings.version}-{digest(settings.train)[:8]}"
    models: list[str] = []
    if training is not None:
        from zhiling.trainer.stages import instruct, pretrain

        pretrained = pretrain(release, training, home / "models" / "pretrained")
        instructed = instruct(release, pretrained, training, home / "models" / "instructed")
        models += [str(pretrained), str(instructed)]
        paths["model"] = instructed
    if evaluation is not None:
        board = _evaluate(release, evaluation, models, home)
        paths |= {"leaderboard": board} if board else {}
    for name, path in paths.items():
        print(f"{name:<12} {path}")


def _section(module: str, model: str, document: Any, written: Any, name: str) -> Any:
    """A section of the recipe as its room's settings, checked before anything is built; None where absent."""
    if written is None:
        return None
    from importlib import import_module

    from zhiling.settings import parse

    return parse(getattr(import_module(module), model), document, written, (name,))


def _evaluate(release: Path, settings: Any, models: list[str], home: Path) -> Path | None:
    """Score the baselines and the models; print the leaderboard and return its page, if anything was scored."""
    from zhiling.console import note
    from zhiling.eval_tasks.baselines import NoBaselineError
    from zhiling.eval_tasks.leaderboard import build, show
    from zhiling.eval_tasks.run import evaluate

    results = []
    for name in ("baseline:majority", "baseline:linear", *models):
        try:
            results.append(evaluate(name, release, settings, home / "results"))
        except NoBaselineError as error:  # free texts, several labels: the models are scored all the same
            note(str(error))
    if not results:
        note("no baseline fits this release and no model was trained: there is no leaderboard")
        return None
    rows = build(results, home / "leaderboard")
    show(rows)
    return home / "leaderboard" / "index.html"
