"""What a sweep found, as PNG: values by trial, which keys mattered, values by key."""

import io
from pathlib import Path
from typing import Any

from zhiling.store import write_bytes


def draw_plots(study: Any, folder: Path) -> None:
    """`history.png`, `slices.png` and, where enough trials came to an end, `importance.png`."""
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    pruned = [t for t in study.trials if t.state.name == "PRUNED" and t.value is not None]
    if not done:
        return
    write_bytes(folder / "history.png", _history(done, pruned))
    write_bytes(folder / "slices.png", _slices(done))
    mattered = _importance(study, len(done))
    if mattered:
        write_bytes(folder / "importance.png", _bars(mattered))


def _importance(study: Any, done: int) -> dict[str, float]:
    """How much of the differences each key explains (fANOVA); empty where that cannot be told."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if done < 4:
        return {}
    try:
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except (RuntimeError, ValueError):  # all values alike
        return {}


def _history(done: list[Any], pruned: list[Any]) -> bytes:
    figure, axes = _figure()
    best = [min(t.value for t in done[: i + 1]) for i in range(len(done))]
    axes.plot([t.number for t in done], [t.value for t in done], "o", label="trial")
    axes.plot([t.number for t in pruned], [t.value for t in pruned], "x", color="grey", label="ended early")
    axes.step([t.number for t in done], best, where="post", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("validation loss")
    axes.legend(frameon=False)
    return _png(figure)


def _bars(mattered: dict[str, float]) -> bytes:
    figure, axes = _figure()
    names = list(reversed(mattered))
    axes.barh(names, [mattered[name] for name in names])
    axes.set_xlabel("share of the differences in validation loss")
    return _png(figure)


def _slices(done: list[Any]) -> bytes:
    from matplotlib.figure import Figure

    keys = sorted({key for t in done for key in t.params})
    figure = Figure(figsize=(3.2 * len(keys), 3.2), layout="constrained")
    for i, key in enumerate(keys):
        axes = figure.add_subplot(1, len(keys), i + 1)
        choices = hasattr(done[0].distributions[key], "choices")
        axes.scatter([str(t.params[key]) if choices else t.params[key] for t in done], [t.value for t in done], s=16)
        if getattr(done[0].distributions[key], "log", False):
            axes.set_xscale("log")
        axes.set_xlabel(key, fontsize=8)
        axes.set_ylabel("validation loss" if not i else "")
    return _png(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()
