"""The jobs of a sweep, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from worker.jobs import State
from worker.sweep_outcome import Outcome


@dataclass(frozen=True, slots=True)
class Sample:
    """What the jobs of one cell have come to, a job a seed."""

    cell: int
    """The number of the cell."""
    coordinates: Mapping[str, JsonValue]
    """Of the cell, by path."""
    outcomes: tuple[Outcome, ...]
    """Of its jobs, however they stand."""
    seeds: int
    """How many jobs it was made with; those that are not among the outcomes were deleted."""

    @property
    def deleted(self) -> int:
        """How many of its jobs are there no more."""
        return self.seeds - len(self.outcomes)

    @property
    def is_complete(self) -> bool:
        """Whether every job has succeeded, and is there still."""
        return not self.deleted and all(outcome.status is State.SUCCEEDED for outcome in self.outcomes)

    @property
    def is_pruned(self) -> bool:
        """Whether a search gave it up as hopeless."""
        return any(outcome.was_pruned for outcome in self.outcomes)

    def values(self, metric: str) -> dict[int, float]:
        """The final values by seed: only of jobs that succeeded, as those of others say nothing about the end."""
        return {
            outcome.seed: outcome.values[metric]
            for outcome in self.outcomes
            if outcome.status is State.SUCCEEDED and math.isfinite(outcome.values.get(metric, math.nan))
        }


def samples_of(outcomes: Iterable[Outcome], seeds: int) -> tuple[Sample, ...]:
    """The cells that the outcomes belong to, by number, each of which was made with so many seeds."""
    cells: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault(outcome.cell, []).append(outcome)
    # Seeds may have been added since they were counted.
    return tuple(
        Sample(cell, found[0].coordinates, tuple(found), max(seeds, len(found)))
        for cell, found in sorted(cells.items())
    )


def metrics_of(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """The names of all metrics that any job has a value of, in alphabetical order."""
    return tuple(sorted({name for outcome in outcomes for name in outcome.values}))
