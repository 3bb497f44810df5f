"""Curves of training runs, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from service.answers import Curve
from service.plots.style import INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STROKES: Final = (
    ("#d62728", "-", 2.6),
    ("#222222", "-", 1.4),
    ("#1f77b4", "-", 2.6),
    ("#ff7f0e", (0, (3, 2)), 1.6),
    ("#2ca02c", "-", 2.6),
    ("#9467bd", (0, (3, 2)), 1.6),
    ("#8c8c8c", "-", 1.4),
)
"""Colour, dashes and width of a line. A wide line under a dashed one shows both where curves coincide."""
OPTIMUM: Final = "optimum"


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share their axes."""

    title: str
    metric: str
    curves: Mapping[str, Curve]
    """By the name that stands in the legend."""
    optimum: float | None = None
    """The best possible value, drawn as a dashed line."""


def draw(panels: Sequence[Panel], names: Sequence[str], title: str, paths: Sequence[Path]) -> None:
    """Draws the panels beside each other and saves the drawing to every path.

    Args:
        panels: what is drawn.
        names: of all curves, in the order in which strokes are given out and the legend tells them.
        title: stands above them all.
        paths: the ending of each says in which format.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, ax in zip(panels, axes, strict=True):
            _draw_panel(panel, ax, names)
        figure.suptitle(title, x=0.008, ha="left", fontsize=12.5, fontweight="bold", color=INK)
        handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        told = [name for name in (*names, OPTIMUM) if name in handles]
        lines = [handles[name] for name in told]
        figure.legend(lines, told, loc="outside lower center", ncols=len(told), frameon=False)
        for path in paths:
            figure.savefig(path, dpi=160)


def _draw_panel(panel: Panel, ax: Axes, names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, curve in panel.curves.items():
        values = [float("nan") if value is None else value for value in curve.value]
        colour, dashes, width = STROKES[names.index(name) % len(STROKES)]
        # Dashed lines above the solid ones.
        order = 3 if dashes == "-" else 4
        ax.plot(curve.step, values, label=name, color=colour, linestyle=dashes, linewidth=width, zorder=order)
    if panel.optimum is not None:
        ax.axhline(panel.optimum, color=INK, linestyle=(0, (4, 3)), linewidth=1.0, label=OPTIMUM, zorder=1)
    ax.set_title(panel.title)
    ax.set_xlabel("optimiser steps")
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_ylabel(panel.metric)
    ax.margins(x=0.02, y=0.06)
