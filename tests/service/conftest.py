"""One API process for the whole run, on the real server; every test begins with an empty store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.processes import running_api
from worker.artifacts import ArtifactStore
from worker.store import JobStore

SHORT = {"task": "polynomial", "estimator": "reinmax"}
COMMAND = Path(sys.executable).with_name("reinmax")
Run = Callable[..., subprocess.CompletedProcess[str]]


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


@pytest.fixture
def run(api_url: str, redis_database: str, tmp_path: Path) -> Run:
    """Runs the command with arguments, in an empty folder, told the address of the API."""

    def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("REINMAX_")}
        # A thread alone does not wait for cores that other tests use.
        told = {"REINMAX_URL": api_url, "REINMAX_STATE_DIR": str(tmp_path / "state"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [COMMAND, *arguments],
            env=own | told | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run_command
