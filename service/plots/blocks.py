"""A table as drawings need it: for each metric, competitors against each other in several disciplines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from service.tables.table import Entry, Table, TableCell

MOST_PANELS: Final = 12
MOST_COMPETITORS: Final = 60
"""More cannot be told apart, and hold up whoever else wants a drawing."""


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one metric."""

    metric: str
    competitors: Sequence[str]
    """Labels of what is compared, as the estimators are."""
    disciplines: Sequence[str]
    """Labels of where they are compared; one that is empty for a table that has but one."""
    cells: Sequence[Sequence[TableCell | None]]
    """A sequence a competitor, with a cell a discipline."""


def blocks(table: Table) -> Iterator[Block]:
    """Of each metric, one."""
    for metric in table.metrics:
        rows = [number for number, row in enumerate(table.rows) if row.metric in (None, metric.name)]
        columns = [number for number, column in enumerate(table.columns) if column.metric in (None, metric.name)]
        cells = [[table.cells[row][column] for column in columns] for row in rows]
        below, beside = [table.rows[number] for number in rows], [table.columns[number] for number in columns]
        if table.compared == "rows":
            yield Block(metric.name, [row.label for row in below], _labels(beside), cells)
        else:
            turned = [[line[number] for line in cells] for number in range(len(columns))]
            yield Block(metric.name, [column.label for column in beside], _labels(below), turned)


def left_out(**counts: int) -> Iterator[str]:
    """How many more of each kind there are than are drawn; nothing of those of which all are."""
    for kind, count in counts.items():
        if count > 0:
            yield f"{count} more {kind} are not drawn."


def _labels(disciplines: Sequence[Entry]) -> list[str]:
    return [entry.label if entry.coordinates else "" for entry in disciplines]
