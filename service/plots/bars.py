"""Bars of final values with their spread, in groups, and the published values over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from service.plots.drawing import PUBLISHED, Panel
from service.plots.style import INK, colour, hatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUP_WIDTH: Final = 0.84
BESIDE: Final = 0.22
"""Share of a bar's width by which the published value stands right of its middle, where the error bar is."""
NARROW: Final = 0.5
"""Where all values lie in less than this share of the way to zero, the axis begins near them, and says so."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A mean over seeds."""

    mean: float
    spread: float | None
    published: float | None = None
    published_spread: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that is drawn of it."""
        ends = [self.mean - (self.spread or 0.0), self.mean + (self.spread or 0.0)]
        if self.published is not None:
            spread = self.published_spread or 0.0
            ends += [self.published - spread, self.published + spread]
        return min(ends), max(ends)


@final
@dataclass(frozen=True, slots=True)
class BarPanel(Panel):
    """Groups of bars that share an axis."""

    title: str
    y_label: str
    groups: Sequence[str]
    """Labels beneath the groups."""
    bars: Sequence[tuple[str, Sequence[Bar | None]]]
    """By competitor, with a bar a group; None where there is no value."""
    numbers: Sequence[int | None] | None = None
    """Of their colours, in the order of the legend, None for those that it does not tell; by default in order."""

    @property
    def width_in(self) -> float:
        return min(13.0, max(3.3, 0.9 + 0.17 * len(self.groups) * (len(self.bars) + 1)))

    @property
    def labels(self) -> Sequence[str]:
        told = [(number, label) for number, (label, _) in zip(self._numbers, self.bars, strict=True)]
        return [label for _, label in sorted((number, label) for number, label in told if number is not None)]

    def draw(self, axes: Axes) -> None:
        width = GROUP_WIDTH / max(1, len(self.bars))
        for place, (number, (label, bars)) in enumerate(zip(self._numbers, self.bars, strict=True)):
            places = [group - GROUP_WIDTH / 2 + (place + 0.5) * width for group in range(len(self.groups))]
            there = [(middle, bar) for middle, bar in zip(places, bars, strict=True) if bar]
            _draw_bars(axes, there, width, label, number)
            _draw_published(axes, [(middle + BESIDE * width, bar) for middle, bar in there])
        self._label(axes)

    def _label(self, axes: Axes) -> None:
        crowded = max((len(group) for group in self.groups), default=0) * len(self.groups) > 12 * self.width_in
        rotation = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        axes.set_xticks(range(len(self.groups)), self.groups, **rotation)  # type: ignore[arg-type]
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_xlim(-0.55, len(self.groups) - 0.45)
        axes.set_title(self.title)
        axes.set_ylabel(self.y_label)
        if limits := self._limits():
            axes.set_ylim(*limits)
            axes.set_ylabel(f"{self.y_label}\n(axis not from 0)")

    @property
    def _numbers(self) -> Sequence[int | None]:
        return range(len(self.bars)) if self.numbers is None else self.numbers

    def _limits(self) -> tuple[float, float] | None:
        ends = [end for _, bars in self.bars for bar in bars if bar for end in bar.ends]
        low, high = min(ends, default=0.0), max(ends, default=0.0)
        if low <= 0 or high - low >= NARROW * high or high == low:
            return None
        return low - 0.12 * (high - low), high + 0.05 * (high - low)


def _draw_bars(axes: Axes, bars: Sequence[tuple[float, Bar]], width: float, label: str, number: int | None) -> None:
    axes.bar(
        [place for place, _ in bars],
        [bar.mean for _, bar in bars],
        0.9 * width,
        yerr=[bar.spread or 0.0 for _, bar in bars],
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 1.5},
        color=colour(number),
        hatch=hatch(number),
        edgecolor="white",
        linewidth=0.4,
        label=label,
        zorder=2,
    )


def _draw_published(axes: Axes, bars: Sequence[tuple[float, Bar]]) -> None:
    points = [(place, bar.published, bar.published_spread or 0.0) for place, bar in bars if bar.published is not None]
    if points:
        places, means, spreads = zip(*points, strict=True)
        axes.errorbar(
            places,
            means,
            yerr=spreads,
            linestyle="none",
            marker="D",
            markersize=3.6,
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=0.9,
            ecolor=INK,
            elinewidth=0.8,
            label=PUBLISHED,
            zorder=4,
        )
