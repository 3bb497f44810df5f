"""Lines with bands: curves over the steps of runs, or final values over a setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from service.plots.drawing import PUBLISHED, Panel
from service.plots.style import INK, colour, dashes, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEGINNING: Final = 0.05
"""Share of the steps whose values may lie outside the axes, if the later ones would have less than half of them."""


@dataclass(frozen=True, slots=True)
class Line:
    """Means over seeds, and their spread."""

    label: str
    """For the legend."""
    number: int | None
    """Of its colour, in the order of the legend; None for one that it does not tell."""
    x: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float | None]
    """Standard deviations; None where there is one seed."""


@dataclass(frozen=True, slots=True)
class Level:
    """A mean that does not depend on x."""

    label: str
    number: int | None
    mean: float
    spread: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A published value."""

    number: int | None
    """Of the colour of the line that it belongs to."""
    x: float
    mean: float
    spread: float | None


@final
@dataclass(frozen=True, slots=True)
class LinePanel(Panel):
    """Lines that share their axes."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    marks: Sequence[Mark] = field(default=())
    over_steps: bool = True
    """Whether x is time, where lines have bands, rather than a setting, where points have error bars."""
    has_legend: bool = False
    """Whether it has a legend of its own, as its lines are its own."""

    @property
    def width_in(self) -> float:
        return 3.3

    @property
    def labels(self) -> Sequence[str]:
        told: Sequence[Line | Level] = () if self.has_legend else (*self.lines, *self.levels)
        numbered = [(one.number, one.label) for one in told if one.number is not None]
        return [label for _, label in sorted(numbered)]

    def draw(self, axes: Axes) -> None:
        for line in self.lines:
            if self.over_steps:
                _draw_band(axes, line)
            else:
                _draw_points(axes, line)
        for level in self.levels:
            style = {"color": colour(level.number), "linestyle": (0, (4, 3)), "linewidth": 1.2}
            axes.axhline(level.mean, label=level.label, zorder=2, **style)  # type: ignore[arg-type]
        for mark in self.marks:
            _draw_mark(axes, mark)
        axes.set_title(self.title)
        axes.set_xlabel(self.x_label)
        axes.set_ylabel(self.y_label)
        if self.has_legend and [line.label for line in self.lines] not in ([], [self.y_label]):
            axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
        self._scale(axes)

    def _scale(self, axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

        xs = sorted({x for line in self.lines for x in line.x})
        if self.over_steps:
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _steps(x)))
            axes.margins(x=0.02)
            if limits := _limits(self.lines):
                axes.set_ylim(*limits)
        elif xs and xs[0] > 0 and xs[-1] / xs[0] >= 20:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif len(xs) <= 8:
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
        if not self.lines and not self.levels:
            axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center", color=INK)


def _draw_band(axes: Axes, line: Line) -> None:
    (drawn,) = axes.plot(
        line.x, line.mean, label=line.label, color=colour(line.number), linestyle=dashes(line.number), zorder=3
    )
    if len(line.x) == 1:
        drawn.set_marker(marker(line.number))
    spread = [value or 0.0 for value in line.spread]
    if any(spread):
        low = [mean - value for mean, value in zip(line.mean, spread, strict=True)]
        high = [mean + value for mean, value in zip(line.mean, spread, strict=True)]
        axes.fill_between(line.x, low, high, color=colour(line.number), alpha=0.18, linewidth=0, zorder=2)


def _draw_points(axes: Axes, line: Line) -> None:
    axes.errorbar(
        line.x,
        line.mean,
        yerr=[value or 0.0 for value in line.spread],
        label=line.label,
        color=colour(line.number),
        linestyle=dashes(line.number),
        marker=marker(line.number),
        markersize=4.5,
        capsize=2.5,
        elinewidth=1.0,
        zorder=3,
    )


def _draw_mark(axes: Axes, mark: Mark) -> None:
    axes.errorbar(
        [mark.x],
        [mark.mean],
        yerr=None if mark.spread is None else [mark.spread],
        color=INK,
        ecolor=INK,
        marker="D",
        markersize=5,
        markerfacecolor="white",
        markeredgecolor=colour(mark.number),
        capsize=0,
        elinewidth=0.8,
        linestyle="none",
        label=PUBLISHED,
        zorder=5,
    )


def _limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """From the least to the greatest value after the beginning; None where all values leave room enough."""
    points = [
        (x, y, spread or 0.0) for line in lines for x, y, spread in zip(line.x, line.mean, line.spread, strict=True)
    ]
    points = [point for point in points if point[1] == point[1]]
    if not points:
        return None
    late = [point for point in points if point[0] >= BEGINNING * max(x for x, _, _ in points)]
    every = max(y + s for _, y, s in points) - min(y - s for _, y, s in points)
    low, high = min(y - s for _, y, s in late), max(y + s for _, y, s in late)
    margin = 0.05 * (high - low)
    return (low - margin, high + margin) if 0 < high - low < every / 2 else None


def _steps(x: float) -> str:
    """Thousands as k, so that the numbers have room."""
    return f"{x / 1000:g}k" if x >= 10_000 else f"{x:g}"
