"""What the routes of one application work with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from reinmax_core.data.base import DataSource
from service.events import Changes
from worker.artifacts import ArtifactStore
from worker.call import Waiting
from worker.store import JobStore
from worker.sweeps import SweepStore

Wake: TypeAlias = Callable[[Waiting], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """The store and all else outside the process that requests are about."""

    store: JobStore
    sweeps: SweepStore
    artifacts: ArtifactStore
    changes: Changes
    data: DataSource
    wake: Wake
    """Tells the workers of a new job."""
    sweep_limit: int
    """How many jobs a sweep may have."""

    def call_a_worker(self, job: Waiting) -> None:
        """Wakes a worker for a job that is safe in the store. Where that fails, the workers' sweep finds the job."""
        try:
            self.wake(job)
        except Exception:
            logger.warning("no worker could be woken for %s, which the next sweep finds", job.id, exc_info=True)

    def call_workers(self, jobs: Iterable[Waiting]) -> None:
        """Wakes workers for several jobs, in their order."""
        for job in jobs:
            self.call_a_worker(job)


async def context_of(request: Request) -> Context:
    """The context of the application that answers the request."""
    context: Context = request.app.state.context
    return context


Here: TypeAlias = Annotated[Context, Depends(context_of)]
"""A route's parameter for the context."""
