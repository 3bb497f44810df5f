"""A store on the real server."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

from tests.worker.samples import submission
from tests.worker.workshop import Workshop, training_processes
from worker.app import application
from worker.hardware import Machine
from worker.standby import Standby
from worker.store import JobStore
from worker.sweeps import SweepStore


@pytest.fixture
def store(redis_database: str) -> Iterator[JobStore]:
    connected = JobStore.connect(redis_database)
    yield connected
    connected.keyspace.close()


@pytest.fixture
def sweeps(store: JobStore) -> SweepStore:
    return SweepStore(store)


@pytest.fixture
def celery(redis_database: str) -> Iterator[Celery]:
    """The application whose messages lie on the same server."""
    with application(redis_database) as connected:
        yield connected


@pytest.fixture
def submit(store: JobStore) -> Callable[..., str]:
    """Submits a job with these settings and gives its id."""
    return lambda **settings: store.submit(submission(**settings)).job.id


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


@pytest.fixture(scope="module")
def standby(machine: Machine) -> Iterator[Standby]:
    """One for all tests of this module: what is tested with a warm process is tested sooner."""
    with Standby(machine) as standby:
        yield standby
    assert training_processes() == []


@pytest.fixture
def workshop(redis_database: str, tmp_path: Path, standby: Standby, machine: Machine) -> Iterator[Workshop]:
    with closing(Workshop(redis_database, tmp_path, standby, machine)) as opened:
        yield opened
