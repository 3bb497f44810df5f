"""A table as drawings need it: for each metric, competitors against each other in several disciplines."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.tables.statistics import Direction
from service.tables.table import Entry, Table, TableCell

MOST_PANELS: Final = 12
MOST_TOLD: Final = 12
"""Competitors that a legend has room for, and that colours and patterns tell apart."""
MOST_COMPETITORS: Final = 60
"""More cannot be told apart, and hold up whoever else wants a drawing."""


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one metric."""

    metric: str
    direction: Direction
    """Which of its values are good."""
    competitors: Sequence[str]
    """Labels of what is compared, as the estimators are."""
    disciplines: Sequence[str]
    """Labels of where they are compared; one that is empty for a table that has but one."""
    cells: Sequence[Sequence[TableCell | None]]
    """A sequence a competitor, with a cell a discipline."""

    def first(self, competitors: int) -> Block:
        """The same of so many competitors at most."""
        return replace(self, competitors=self.competitors[:competitors], cells=self.cells[:competitors])


def blocks(table: Table) -> Iterator[Block]:
    """Of each metric, one."""
    for metric in table.metrics:
        rows = [number for number, row in enumerate(table.rows) if row.metric in (None, metric.name)]
        columns = [number for number, column in enumerate(table.columns) if column.metric in (None, metric.name)]
        cells = [[table.cells[row][column] for column in columns] for row in rows]
        below, beside = [table.rows[number] for number in rows], [table.columns[number] for number in columns]
        if table.compared == "rows":
            yield Block(metric.name, metric.direction, [row.label for row in below], _labels(beside), cells)
        else:
            turned = [[line[number] for line in cells] for number in range(len(columns))]
            yield Block(metric.name, metric.direction, [column.label for column in beside], _labels(below), turned)


def numbers_of(values: Sequence[Sequence[float]], direction: Direction) -> list[int | None]:
    """Colours of competitors with these values, as the legend tells them: of many, the best alone, from 0 on.

    Where there are few, each has its place as its number; None is for those that are not told.
    """
    if len(values) <= MOST_TOLD:
        return list(range(len(values)))
    sign = 1 if direction == "min" else -1
    places = [place for place, found in enumerate(values) if found]
    best = sorted(places, key=lambda place: sign * statistics.fmean(values[place]))
    best += [place for place, found in enumerate(values) if not found]
    numbers = {place: number for number, place in enumerate(best[:MOST_TOLD])}
    return [numbers.get(place) for place in range(len(values))]


def means_of(line: Sequence[TableCell | None]) -> list[float]:
    """The values that there are."""
    return [cell.mean for cell in line if cell and cell.mean is not None]


def title_of(table: Table) -> str:
    """What stands over a drawing: nothing where there is but the id of the sweep."""
    return "" if table.sweep in table.title else table.title


def on_legend(competitors: int) -> Iterator[str]:
    """What has to be said where a legend does not tell all."""
    if competitors > MOST_TOLD:
        yield f"The legend names the best {MOST_TOLD} of {competitors}; the others are grey."


def left_out(**counts: int) -> Iterator[str]:
    """How many more of each kind there are than are drawn; nothing of those of which all are."""
    for kind, count in counts.items():
        if count > 0:
            yield f"{count} more {kind} are not drawn."


def _labels(disciplines: Sequence[Entry]) -> list[str]:
    return [entry.label if entry.coordinates else "" for entry in disciplines]
