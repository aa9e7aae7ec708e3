"""Plots as SVG, the same bytes each time: text stays text, no date, fixed ids."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

INK, COLOURS = "#444444", ("#3b7dd8", "#e08a3c", "#5aa469", "#b65fcf", "#c94c4c", "#7a7a7a")


def _figure(width: float, height: float, fitted: bool = False) -> tuple[Any, Any]:
    """A figure and its axes; `fitted` to the words around them, which takes twice as long to draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if fitted else None)
    axes = figure.add_subplot() if fitted else figure.add_axes((0.11, 0.16, 0.87, 0.74))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK)
    return figure, axes


def make_ready() -> None:
    """Import what draws, which takes longer than a plot: worth doing while others work."""
    _figure(1, 1)


def _svg(figure: Any) -> str:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "zhiling", "svg.fonttype": "none", "font.family": "sans-serif"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def bars(title: str, groups: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Grouped bars: one group of bars for each outer key, one bar for each inner key."""
    figure, axes = _figure(7, 3.2)
    names = sorted({name for group in groups.values() for name in group})
    width = 0.8 / max(1, len(names))
    for n, name in enumerate(names):
        places = [i + (n - (len(names) - 1) / 2) * width for i in range(len(groups))]
        heights = [group.get(name, 0) for group in groups.values()]
        axes.bar(places, heights, width, label=name, color=COLOURS[n % len(COLOURS)])
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_title(title, loc="left", color=INK)
    axes.set_ylabel(unit, color=INK)
    if 0 < len(names) <= 12:
        axes.legend(frameon=False)
    return _svg(figure)


def histogram(title: str, series: Mapping[str, Sequence[float]], unit: str) -> str:
    """Outlined histograms over shared bins, one for each series, as shares of the series."""
    import numpy as np

    figure, axes = _figure(7, 3.2)
    top = max((max(values) for values in series.values() if len(values)), default=1)
    for n, (name, values) in enumerate(series.items()):
        if len(values):
            counts, edges = np.histogram(values, 40, (0, top))
            axes.stairs(counts / len(values), edges, label=name, color=COLOURS[n % len(COLOURS)])
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(unit, color=INK)
    axes.set_ylabel("share", color=INK)
    if any(len(values) for values in series.values()):
        axes.legend(frameon=False)
    return _svg(figure)


def heatmap(title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Shares from 0 to 1 as coloured cells with their numbers."""
    figure, axes = _figure(2.5 + 1.2 * len(columns), 1.2 + 0.5 * len(rows), fitted=True)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set_yticks(range(len(rows)), list(rows))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else INK)
    axes.set_title(title, loc="left", color=INK)
    return _svg(figure)
