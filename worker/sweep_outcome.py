"""What the jobs of a sweep have come to, as tables, plots and searches read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from worker.jobs import State
from worker.reasons import PRUNED


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one job of a sweep has come to."""

    job_id: str
    """Its id."""
    cell: int
    """Number of its cell, from 0 in the order of the sweep."""
    coordinates: Mapping[str, JsonValue]
    """Of the cell: a value of each axis by its path, as it was written; None where the axis does not apply to it."""
    seed: int
    """The seed that it has among the jobs of its cell."""
    status: State
    """Where it stands."""
    values: Mapping[str, float]
    """Metrics of its result with `wall_time_s`, and `peak_memory_mb` where known; the latest ones until it has one."""
    progress: float
    """Share of its steps done, 0 to 100."""
    reason: str | None = None
    """The word for why it is in this state, where the state alone does not say, such as `diverged` or `pruned`."""

    @property
    def was_pruned(self) -> bool:
        """Whether a search gave it up as hopeless."""
        return self.reason == PRUNED.code
