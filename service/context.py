"""What the routes of one application work with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from reinmax_core.data.base import DataSource
from service.events import Changes
from worker.artifacts import ArtifactStore
from worker.jobs import Job
from worker.store import JobStore

Wake: TypeAlias = Callable[[Job], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """The store and all else outside the process that requests are about."""

    store: JobStore
    artifacts: ArtifactStore
    changes: Changes
    data: DataSource
    wake: Wake
    """Tells the workers of a new job."""

    def call_a_worker(self, job: Job) -> None:
        """Wakes a worker for a job that is safe in the store. Where that fails, the workers' sweep finds the job."""
        try:
            self.wake(job)
        except Exception:
            logger.warning("no worker could be woken for %s, which the next sweep finds", job.id, exc_info=True)


async def context_of(request: Request) -> Context:
    """The context of the application that answers the request."""
    context: Context = request.app.state.context
    return context


Here: TypeAlias = Annotated[Context, Depends(context_of)]
"""A route's parameter for the context."""
