"""A store on the real server."""

from collections.abc import Callable

import pytest

from tests.worker.samples import submission
from worker.store import JobStore


@pytest.fixture
def store(redis_database: str) -> JobStore:
    return JobStore.connect(redis_database)


@pytest.fixture
def submit(store: JobStore) -> Callable[..., str]:
    """Submits a job with these settings and gives its id."""
    return lambda **settings: store.submit(submission(**settings)).job.id
