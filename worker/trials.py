"""The trials of a search: cells of a sweep, by what their jobs have come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from statistics import fmean
from typing import final

from pydantic import JsonValue

from worker.jobs import TERMINAL, State
from worker.reasons import PRUNED
from worker.search import Direction
from worker.submission import Cause
from worker.sweep_outcome import Outcome


class Standing(Enum):
    """What a trial has come to."""

    RUNNING = auto()
    """Some of its jobs have not ended."""
    COMPLETE = auto()
    """All of its jobs have succeeded."""
    PRUNED = auto()
    """It was hopeless."""
    DIVERGED = auto()
    """A loss, or what it is judged by, was no longer finite."""
    FAILED = auto()
    """Some of its jobs failed otherwise, or somebody cancelled them, which says nothing of its values."""


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A cell of a sweep that searches."""

    number: int
    """Of the cell."""
    outcomes: tuple[Outcome, ...]
    """Of its jobs, by seed."""
    metric: str
    """What it is judged by."""

    @property
    def coordinates(self) -> Mapping[str, JsonValue]:
        """The values that are tried, by path."""
        return self.outcomes[0].coordinates

    @property
    def standing(self) -> Standing:
        """What it has come to so far."""
        if any(outcome.status not in TERMINAL for outcome in self.outcomes):
            return Standing.RUNNING
        reasons = {outcome.reason for outcome in self.outcomes}
        if PRUNED.code in reasons:
            return Standing.PRUNED
        if Cause.DIVERGED.value in reasons:
            return Standing.DIVERGED
        if any(outcome.status is not State.SUCCEEDED for outcome in self.outcomes) or self.lacks_metric:
            return Standing.FAILED
        return Standing.COMPLETE if math.isfinite(self.mean) else Standing.DIVERGED

    @property
    def lacks_metric(self) -> bool:
        """Whether a run has come to its end without the metric."""
        return any(outcome.status is State.SUCCEEDED and self.metric not in outcome.values for outcome in self.outcomes)

    @property
    def mean(self) -> float:
        """The mean of the metric over the seeds."""
        return fmean(outcome.values[self.metric] for outcome in self.outcomes)


def trials_of(outcomes: Iterable[Outcome], metric: str) -> tuple[Trial, ...]:
    """The trials that jobs belong to, in order."""
    ordered = sorted(outcomes, key=lambda outcome: (outcome.cell, outcome.seed))
    return tuple(Trial(cell, tuple(jobs), metric) for cell, jobs in groupby(ordered, lambda outcome: outcome.cell))


def best_of(trials: Sequence[Trial], direction: Direction) -> Trial | None:
    """The one with the best mean among those that are complete, the first of equals."""
    complete = [trial for trial in trials if trial.standing is Standing.COMPLETE]
    better = min if direction == "min" else max
    return better(complete, key=lambda trial: trial.mean, default=None)
