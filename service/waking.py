"""Messages to the workers, sent through Celery."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from worker.jobs import Job

if TYPE_CHECKING:
    from celery import Celery


def wake_through_celery(redis_url: str, job: Job) -> None:
    """Tells the workers of a new job. Celery is loaded when it is first needed, as that takes time and memory.

    Raises:
        kombu.exceptions.OperationalError: the server cannot be reached.
    """
    from worker.app import wake

    wake(_application(redis_url), job)


@cache
def _application(redis_url: str) -> Celery:
    from worker.app import application

    return application(redis_url)
