"""The shapes of answers, besides the job itself."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from reinmax_core.run import RunSpec
from worker.jobs import Job
from worker.sweep import Axis, Selection, Sweep

T = TypeVar("T")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class JobPage(_Answer):
    """Some of the jobs, newest first."""

    data: tuple[Job, ...]
    """The jobs of this page."""
    has_more: bool
    """Whether there are older ones."""
    next_cursor: str | None
    """The `cursor` of the next page, for the same filters; null on the last one."""


class SweepPage(_Answer):
    """Some of the sweeps, newest first."""

    data: tuple[Sweep, ...]
    """The sweeps of this page."""
    has_more: bool
    """Whether there are older ones."""
    next_cursor: str | None
    """The `cursor` of the next page; null on the last one."""


class CellPreview(_Answer):
    """One of the cells that a sweep would have."""

    coordinates: dict[str, JsonValue]
    """Its value of each axis by path; null where the axis does not apply to it."""
    spec: RunSpec
    """The run of its first seed, every default filled in."""


class SweepPreview(_Answer):
    """What a sweep would be."""

    cells: int
    """Combinations of values; each would have a job a seed."""
    seeds: tuple[int, ...]
    """The seeds of every cell."""
    jobs: int
    """How many jobs there would be."""
    steps: int
    """Optimiser steps of all of them together."""
    estimated_s: float | None
    """Seconds that it would take; null where nothing is known of some of its jobs."""
    estimate: str
    """What that rests on, in a sentence, or why it is not known."""
    axes: tuple[Axis, ...]
    """The dimensions of the grid."""
    select: Selection | None
    """How the best of some cells would be chosen in tables."""
    first: tuple[CellPreview, ...]
    """The first of the cells."""
    request: dict[str, JsonValue]
    """The request; a preset's content filled in."""


class Listing(_Answer, Generic[T]):
    """All there are."""

    data: tuple[T, ...]
    """The items, in a fixed order."""


class Curve(_Answer):
    """One metric over the steps of a run."""

    step: list[int]
    """Optimiser steps done at each point, ascending."""
    value: list[float | None]
    """The metric at those steps; null where it was not finite."""


class Curves(_Answer):
    """The metrics of a job."""

    series: dict[str, Curve]
    """One curve a metric, by name; a curve has a point for each step at which the metric was measured."""


class Health(_Answer):
    """That the service does its work."""

    status: str
    """`ok`; where something is wrong, the answer is a problem that says what."""
