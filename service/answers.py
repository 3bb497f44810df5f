"""The shapes of answers, besides the job itself."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from worker.jobs import Job

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
