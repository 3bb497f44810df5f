"""Numbers of a table as text: as many digits as their spread lets one trust, the same for all of a metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from service.tables.table import PublishedValue, Table, TableCell

DIGITS_OF_SPREAD: Final = 2
DIGITS_WITHOUT_SPREAD: Final = 5
MOST_DECIMALS: Final = 8


@dataclass(frozen=True, slots=True)
class Digits:
    """How the numbers of one metric are written."""

    decimals: int | None
    """Digits behind the point; None for powers of ten, where the numbers are too small or too large for that."""
    published_decimals: int = 0
    """Digits behind the point that are published of any mean with a spread, whose last ones may be zeros."""

    def text(self, number: float, sign: str = "") -> str:
        """The number; `sign` as in a format."""
        return f"{number:{sign}.3e}" if self.decimals is None else f"{number:{sign}.{self.decimals}f}"

    def printed(self, value: PublishedValue) -> str:
        """A published value as the paper prints it."""
        if value.spread is None:
            return f"{value.mean:.10g}"
        return f"{value.mean:.{self.published_decimals}f} ± {value.spread:.{self.published_decimals}f}"


def digits_of(table: Table) -> dict[str, Digits]:
    """By metric: two digits of the usual standard deviation, or five digits where there is none."""
    cells: dict[str, list[TableCell]] = {metric.name: [] for metric in table.metrics}
    for row, line in zip(table.rows, table.cells, strict=True):
        for column, cell in zip(table.columns, line, strict=True):
            if cell:
                cells[row.metric or column.metric or table.metrics[0].name].append(cell)
    return {metric: _digits(found) for metric, found in cells.items()}


def _digits(cells: Sequence[TableCell]) -> Digits:
    return Digits(_decimals(cells), _published_decimals(cell.published for cell in cells if cell.published))


def _published_decimals(values: Iterable[PublishedValue]) -> int:
    numbers = [number for value in values if value.spread is not None for number in (value.mean, value.spread)]
    return max((len(f"{number:.10g}".partition(".")[2]) for number in numbers), default=0)


def _decimals(cells: Sequence[TableCell]) -> int | None:
    spreads = [cell.sd for cell in cells if cell.sd]
    means = [abs(cell.mean) for cell in cells if cell.mean]
    if not means:
        return DIGITS_OF_SPREAD
    largest = max(means)
    unit = statistics.median(spreads) if spreads else largest
    digits = DIGITS_OF_SPREAD if spreads else DIGITS_WITHOUT_SPREAD
    decimals = max(0, digits - 1 - math.floor(math.log10(unit)))
    return None if decimals > MOST_DECIMALS or largest >= 10**MOST_DECIMALS else decimals
