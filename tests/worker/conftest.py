"""A store on the real server."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from tests.worker.samples import submission
from worker.app import application
from worker.store import JobStore


@pytest.fixture
def store(redis_database: str) -> Iterator[JobStore]:
    connected = JobStore.connect(redis_database)
    yield connected
    connected.keyspace.close()


@pytest.fixture
def celery(redis_database: str) -> Iterator[Celery]:
    """The application whose messages lie on the same server."""
    with application(redis_database) as connected:
        yield connected


@pytest.fixture
def submit(store: JobStore) -> Callable[..., str]:
    """Submits a job with these settings and gives its id."""
    return lambda **settings: store.submit(submission(**settings)).job.id
