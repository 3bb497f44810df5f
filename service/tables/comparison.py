"""Which cells are the best, and which place rows or columns take on average."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.tables.statistics import Direction, ranks
from service.tables.table import Entry, TableCell

Cells: TypeAlias = Sequence[Sequence[TableCell | None]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Competitors against each other, once in every discipline."""

    cells: Cells
    """A sequence a competitor, with a cell a discipline."""
    directions: Sequence[Direction]
    """Of each discipline."""
    whole_only: bool = False
    """Whether only cells compete of which all seeds have succeeded, as the mean of those left flatters."""

    def with_best(self) -> list[list[TableCell | None]]:
        """The cells with those marked that are the best of two or more in their discipline."""
        best = [self._best(number) for number in range(len(self.directions))]
        return [
            [
                cell and cell.model_copy(update={"best": best[number] is not None and self._mean(cell) == best[number]})
                for number, cell in enumerate(line)
            ]
            for line in self.cells
        ]

    def average_ranks(self) -> tuple[list[float | None], int]:
        """Of every competitor, and over how many disciplines.

        Competitors without any value have no rank. The ranks of the others are averaged over the disciplines in
        which every one of them has a value, so that none is judged by the easier ones alone.
        """
        taking_part = [line for line in self.cells if any(self._mean(cell) is not None for cell in line)]
        columns = [[self._mean(line[number]) for line in taking_part] for number in range(len(self.directions))]
        whole = [
            ranks([value for value in column if value is not None], direction)
            for column, direction in zip(columns, self.directions, strict=True)
            if None not in column
        ]
        if len(taking_part) < 2 or not whole:
            return [None] * len(self.cells), 0
        means = iter([statistics.fmean(places) for places in zip(*whole, strict=True)])
        averages = [next(means) if any(self._mean(cell) is not None for cell in line) else None for line in self.cells]
        return averages, len(whole)

    def _best(self, number: int) -> float | None:
        values = [value for line in self.cells if (value := self._mean(line[number])) is not None]
        if len(values) < 2:
            return None
        return min(values) if self.directions[number] == "min" else max(values)

    def _mean(self, cell: TableCell | None) -> float | None:
        if cell is None or (self.whole_only and cell.n < cell.n_expected):
            return None
        return cell.mean


def compared(
    competitors: Sequence[Entry],
    disciplines: Sequence[Entry],
    cells: Cells,
    directions: Mapping[str, Direction],
    *,
    whole_only: bool = False,
) -> tuple[list[Entry], list[list[TableCell | None]]]:
    """Competitors with their ranks, and the cells, a line a competitor, with the best marked.

    Those that are about one metric are compared with each other only.

    Args:
        competitors: of each line of `cells`.
        disciplines: of each place in a line.
        cells: what is compared.
        directions: of every metric; the first is of entries that name none.
        whole_only: whether cells take part only if all of their seeds have succeeded.
    """
    ranked, marked = list(competitors), [list(line) for line in cells]
    for metric in dict.fromkeys(competitor.metric for competitor in competitors):
        block = [number for number, competitor in enumerate(competitors) if competitor.metric == metric]
        of_disciplines = [
            directions[metric or discipline.metric or next(iter(directions))] for discipline in disciplines
        ]
        comparison = Comparison([cells[number] for number in block], of_disciplines, whole_only)
        averages, over = comparison.average_ranks()
        for number, average, line in zip(block, averages, comparison.with_best(), strict=True):
            ranked[number] = competitors[number].model_copy(update={"average_rank": average, "ranked_over": over})
            marked[number] = line
    return ranked, marked
