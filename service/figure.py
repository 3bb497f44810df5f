"""Curves of training runs, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.answers import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#7f7f7f", "#17becf", "#e377c2")
"""Told apart in print and by most people who see colours otherwise; the first draws the eye."""
DASHES: Final = ("-", "-", "-", "--", "--", "-", "-")
INK: Final = "#222222"
FAINT: Final = "#8a8a8a"
STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share their axes."""

    title: str
    metric: str
    curves: Mapping[str, Curve]
    """By the name that stands in the legend."""
    optimum: float | None = None
    """The best possible value, drawn as a dashed line."""


def draw(panels: Sequence[Panel], title: str, paths: Sequence[Path]) -> None:
    """Draws the panels beside each other, a colour for each name, and saves the drawing to every path."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, ax in zip(panels, axes, strict=True):
            _draw_panel(panel, ax, names)
        figure.suptitle(title, x=0.008, ha="left", fontsize=12.5, fontweight="bold", color=INK)
        handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        for path in paths:
            figure.savefig(path, dpi=160)


def _draw_panel(panel: Panel, ax: Axes, names: Sequence[str]) -> None:
    for name, curve in panel.curves.items():
        index = names.index(name)
        ax.plot(
            curve.step,
            [float("nan") if value is None else value for value in curve.value],
            label=name,
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=2.4 if index == 0 else 1.5,
            zorder=3 if index == 0 else 2,
        )
    if panel.optimum is not None:
        ax.axhline(panel.optimum, color=INK, linestyle=(0, (4, 3)), linewidth=1.1, label="optimum", zorder=1)
    ax.set_title(panel.title)
    ax.set_xlabel("step")
    ax.set_ylabel(panel.metric)
    ax.margins(x=0.02, y=0.06)
