"""Which cell of a sweep stands where in a table, and which it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from service.tables.choice import Chosen, chosen
from service.tables.entries import Baseline, Dimension, baseline_of, entries_of, place_of
from service.tables.labels import Labels
from service.tables.layout import Layout
from service.tables.samples import Sample
from service.tables.table import Entry


@dataclass(frozen=True, slots=True)
class Places:
    """Rows, columns, and what stands where they meet."""

    rows: Sequence[Entry]
    columns: Sequence[Entry]
    found: Sequence[Sequence[Chosen | None]]
    """A sequence a row; None where the sweep has no cell."""
    baseline: Baseline | None
    """What differences are taken to."""

    @classmethod
    def of(
        cls, samples: Sequence[Sample], layout: Layout, labels: Labels, subject: str, baseline_name: str | None
    ) -> Self:
        """The places of a sweep's cells.

        Raises:
            Unfitting: no value of an axis is called as the baseline is.
        """
        paths = layout.rows + layout.columns
        candidates: dict[tuple[str, ...], list[Sample]] = {}
        for sample in samples:
            candidates.setdefault(place_of(sample.coordinates, paths), []).append(sample)
        chosen_at = {place: chosen(cells, layout.select) for place, cells in candidates.items()}
        entries = entries_of(samples, layout, labels, subject)
        rows, columns = entries["rows"], entries["columns"]
        found = [
            [chosen_at.get(place_of(row.coordinates | column.coordinates, paths)) for column in columns] for row in rows
        ]
        return cls(rows, columns, found, baseline_of(baseline_name, entries, labels) if baseline_name else None)

    def opposite(self, row: int, column: int) -> Chosen | None:
        """What the cell there is compared with; None without a baseline, for the baseline, and where it has no cell."""
        if self.baseline is None:
            return None
        dimension: Dimension = self.baseline.dimension
        entries, own = (self.rows, row) if dimension == "rows" else (self.columns, column)
        number = self.baseline.entry_for(entries[own], entries)
        if number is None or number == own:
            return None
        return self.found[number][column] if dimension == "rows" else self.found[row][number]
