"""A sweep: jobs made from one base and a grid, seeds being a dimension of their own, as users read it back."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from worker.jobs import State
from worker.search import SearchProgress


class SweepState(StrEnum):
    """Where a sweep stands, by the states of its jobs."""

    QUEUED = "queued"
    """None of its jobs has been started."""
    RUNNING = "running"
    """Some of its jobs have been started, and some have not ended."""
    SUCCEEDED = "succeeded"
    """All of its jobs have succeeded."""
    FAILED = "failed"
    """All of its jobs have ended, and some have failed."""
    CANCELLED = "cancelled"
    """All of its jobs have ended; some were cancelled, and none has failed."""


ENDED = frozenset({SweepState.SUCCEEDED, SweepState.FAILED, SweepState.CANCELLED})


class _Record(BaseModel):
    """Part of a sweep as it is read back. Fields that this version does not know are passed over."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, extra="ignore")


class Axis(_Record):
    """One dimension of the grid of a sweep."""

    path: str
    """Which field of a job it varies, as words with dots between them, such as `estimator.tau`."""
    values: tuple[JsonValue, ...]
    """What the field takes, in order; an object stands for several fields."""


class Selection(_Record):
    """How one cell is chosen among those that differ along some axes only."""

    over: tuple[str, ...]
    """Paths of the axes that are chosen from."""
    metric: str
    """The metric whose mean over the seeds decides."""
    direction: Literal["min", "max"]
    """Whether the smallest or the largest mean is the best."""


class Sweep(_Record):
    """A sweep as the service shows it."""

    id: str
    """`sweep_` and a UUID of version 7, so that ids sort by time of submission."""
    name: str | None = None
    """The name that its submitter gave it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Key-value pairs, which its jobs have, too."""
    preset: str | None = None
    """The preset that it was made from."""
    status: SweepState
    """Where it stands."""
    cells: int
    """Combinations of values; each has a job a seed."""
    seeds: tuple[int, ...]
    """The seeds of every cell."""
    jobs: int
    """How many of its jobs there are."""
    counts: dict[State, int]
    """How many of its jobs are in each state; states of none are left out."""
    percent: float
    """Share of the work done, 0 to 100: every job that has ended counts whole."""
    eta_s: float | None = None
    """Seconds left at the pace so far; null before anything is known of it, and once it has ended."""
    axes: tuple[Axis, ...]
    """The dimensions of the grid."""
    select: Selection | None = None
    """How the best of some cells are chosen in tables."""
    search: SearchProgress | None = None
    """How far a search is, which adds cells as it goes on; null for a grid."""
    request: dict[str, JsonValue]
    """What was asked for, as it was written; a preset's content filled in."""
    created_at: datetime
    """Time of submission."""
    finished_at: datetime | None = None
    """When the last of its jobs ended; null while one has not."""
    version: int = Field(default=0, exclude=True)

    @property
    def etag(self) -> str:
        """Changes whenever what is shown of the sweep does, but for the seconds left, which pass by themselves."""
        return f'"{self.version}-{self.percent}"'
