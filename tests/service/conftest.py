"""One API process for the whole run, on the real server; every test begins with an empty store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.processes import running_api
from worker.artifacts import ArtifactStore
from worker.store import JobStore

SHORT = {"task": "polynomial", "estimator": "reinmax"}


@pytest.fixture(scope="session")
def artifacts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="session")
def api_url(redis_url: str, artifacts_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state_dir = tmp_path_factory.mktemp("api")
    with running_api(state_dir, redis_url=redis_url, artifacts_url=str(artifacts_dir)) as url:
        yield url


@pytest.fixture
def http(api_url: str, redis_database: str) -> Iterator[httpx.Client]:
    """A client of the API, whose store is empty."""
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


@pytest.fixture
def store(redis_database: str) -> Iterator[JobStore]:
    """The store behind the API, to do there what a worker does."""
    connected = JobStore.connect(redis_database)
    yield connected
    connected.keyspace.close()


@pytest.fixture
def artifacts(artifacts_dir: Path) -> ArtifactStore:
    return ArtifactStore(str(artifacts_dir))


@pytest.fixture
def submit(http: httpx.Client) -> Callable[..., str]:
    """Submits a job with these fields over HTTP and gives its id."""

    def submit_job(**fields: Any) -> str:
        return str(http.post("/v1/jobs", json=SHORT | fields).raise_for_status().json()["id"])

    return submit_job
