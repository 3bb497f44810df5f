"""What a preset is: a sweep, how its results are laid out, and what was published of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from reinmax_core.presets.grid import Axes, Grid, joined
from reinmax_core.value import Value

Coordinates = dict[str, JsonValue]
"""Values of axes of a grid by their paths, each as it is written there."""


class Choice(Value):
    """Which of the cells that differ along some axes alone stands for them: the one with the best mean."""

    over: Annotated[tuple[str, ...], Field(min_length=1)]
    """Paths of those axes."""
    metric: str | None = None
    """Whose mean over the seeds decides; by default that of the task's objective."""


class PublishedSweep(Value):
    """The body of a request for a sweep, without what is a user's own."""

    base: dict[str, JsonValue]
    """The body of a job, without a seed."""
    grid: Grid
    """What varies."""
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """How many seeds, counted from 0, or the seeds themselves."""
    select: Choice | None = None
    """How the best of some cells are chosen; by default all are shown."""

    @property
    def body(self) -> dict[str, JsonValue]:
        """As it is written in a request."""
        return self.model_dump(mode="json", exclude={"select"} if self.select is None else None)

    @property
    def axes(self) -> Axes:
        """The axes, each with its list of values or its range; of several grids, all that any of them has."""
        return joined(self.grid)

    def has(self, at: Coordinates) -> bool:
        """Whether there are cells with these values; of an axis that is a range, any number passes as one."""
        grids = self.grid if isinstance(self.grid, list) else [self.grid]
        return any(all(path in axes and _is_on(axes[path], value) for path, value in at.items()) for axes in grids)


def _is_on(values: JsonValue, value: JsonValue) -> bool:
    return value in values if isinstance(values, list) else isinstance(value, int | float)


class Layout(Value):
    """How the results of a sweep stand in a table."""

    rows: tuple[str, ...]
    """Paths of the axes along which cells lie below one another."""
    columns: tuple[str, ...]
    """Paths of the axes along which they lie side by side; none of both where the metrics do."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    """What is shown of a cell; the first is what the table is about."""
    lower_is_better: bool = True
    """Whether small values are good, of all metrics but those of `other_way`."""
    other_way: tuple[str, ...] = ()
    """The metrics of which the opposite holds."""

    def is_lower_better(self, metric: str) -> bool:
        """Whether small values of this metric are good."""
        return self.lower_is_better != (metric in self.other_way)


class Published(Value):
    """A number that was published of a cell, in the unit of the metric."""

    at: Coordinates
    """Where: the cell's values of these axes; of the others, whatever they are."""
    metric: str
    """Of what."""
    mean: float
    """The number itself."""
    spread: float | None = None
    """What stands behind the plus-minus sign; null where nothing does."""
    spread_kind: Literal["standard deviation", "standard error"] | None = None
    """What that is, where it is known."""
    n: Annotated[int, Field(ge=1)] | None = None
    """Runs that the number is a mean of; null where that is not known."""
    note: str | None = None
    """What there is to know of it: its source where that is not the preset's, digits lost, another protocol."""

    @model_validator(mode="after")
    def _says_of_what_kind(self) -> Self:
        if self.spread is None and self.spread_kind is not None:
            raise ValueError(f"spread_kind is {self.spread_kind!r}, but there is no spread; give both or neither")
        return self


class Preset(Value):
    """A published table or figure as a sweep, with its numbers beside it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """The word under which a request names it: that of its file."""
    of: str | None = None
    """The preset that this is the `-smoke` form of: fewer cells, seeds and steps, of the same kind."""
    title: Annotated[str, Field(min_length=1)]
    """What people know it as."""
    summary: Annotated[str, Field(min_length=1)]
    """What is trained, and how that differs from what was published where it does."""
    source: Annotated[str, Field(min_length=1)]
    """Where it was published."""
    sweep: PublishedSweep
    """What is to be trained."""
    layout: Layout
    """How the results are shown."""
    published: tuple[Published, ...]
    """What the source has in place of the results."""

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if found := next(self._flaws(), None):
            raise ValueError(found)
        return self

    def _flaws(self) -> Iterator[str]:
        yield from self._flaws_of_layout()
        for number, known in enumerate(self.published):
            where = f"published.{number}, {known.metric} at {known.at},"
            if not self.sweep.has(known.at):
                yield f"{where} should be of a cell of the grid, which has none there; write values as the grid does"
            if any((known.at, known.metric) == (other.at, other.metric) for other in self.published[:number]):
                yield f"{where} should be the only one there, but stands there twice; leave one of them"

    def _flaws_of_layout(self) -> Iterator[str]:
        axes, chosen = set(self.sweep.axes), self.sweep.select.over if self.sweep.select else ()
        shown = (*self.layout.rows, *self.layout.columns, *chosen)
        for path in dict.fromkeys(shown):
            if path not in axes:
                yield f"layout or select names the axis {path!r}, but the grid has {sorted(axes)}; leave it out"
            if shown.count(path) > 1:
                yield f"the axis {path!r} should be in rows, in columns or chosen from; leave it in one of them"
        for path in sorted(axes.difference(shown)):
            yield f"the axis {path!r} should be in rows or columns of the layout or be chosen from by select; add it"
