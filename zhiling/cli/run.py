"""`zhiling run`: a recipe's whole road, each step skipped when nothing that it depends on has changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("run")(run)


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file: corpora, render, publish, train, models, eval.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path("out"),
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes that build.")] = 2,
) -> None:
    """Build, publish, train, evaluate and show the leaderboard, as far as the recipe says."""
    from zhiling.builders.pipeline import build
    from zhiling.builders.publish import push
    from zhiling.builders.recipe import read_recipe
    from zhiling.store import digest

    settings, document = read_recipe(recipe)
    planned = _models(document, settings)
    evaluation = _evaluation(document, settings.eval)
    release = build(recipe, out, workers)
    paths: list[tuple[str, str | Path]] = [("release", release)]
    if settings.publish:
        paths.append(("published", push(release, settings.publish.to)))
    models: list[Path] = []
    if planned:
        from zhiling.trainer.lineup import train

        models = train(release, planned, out / settings.name / "models")
        paths += [("model", model) for model in models]
    if evaluation is not None:
        made_by = digest([settings.train, settings.models, settings.eval])[:8]
        board = _evaluate(release, evaluation, models, out / settings.name / f"{settings.version}-{made_by}")
        paths += [("leaderboard", board)] if board else []
    for name, path in paths:
        print(f"{name:<12} {path}")


def _models(document: Any, settings: Any) -> Any:
    """What the recipe trains, checked before anything is built."""
    if settings.train is None:
        if settings.models is not None:
            from zhiling.errors import UserError

            raise UserError(document.where(("models",)), "models without a `train` section", "add `train:`")
        return []
    from zhiling.trainer.lineup import plan

    return plan(document, settings.train, settings.models)


def _evaluation(document: Any, written: Any) -> Any:
    """How the recipe scores, checked before anything is built; None where it does not."""
    if written is None:
        return None
    from zhiling.eval_tasks.config import EvalSettings
    from zhiling.settings import parse

    settings = parse(EvalSettings, document, written, ("eval",))
    if settings.data is None or "://" in settings.data:
        return settings
    return settings.model_copy(update={"data": str(document.path.parent / settings.data)})


def _evaluate(release: Path, settings: Any, models: Sequence[Path], home: Path) -> Path | None:
    """Score the baselines and the models; print the leaderboard and return its page, if anything was scored.

    With `data` the tasks are those of public data sets, else the release's own.
    """
    from zhiling.console import note
    from zhiling.eval_tasks.baselines import NoBaselineError
    from zhiling.eval_tasks.leaderboard import build, show
    from zhiling.eval_tasks.run import score

    results = []
    for name in ("baseline:majority", "baseline:linear", *map(str, models)):
        try:
            results.append(score(name, settings, home / "results", None if settings.data else release))
        except NoBaselineError as error:  # free texts, several labels: the models are scored all the same
            note(str(error))
    if not results:
        note("no baseline fits this release and no model was trained: there is no leaderboard")
        return None
    rows = build(results, home / "leaderboard")
    show(rows)
    return home / "leaderboard" / "index.html"
