"""What tests of every package share: a real server, one for the whole run."""

import os
from collections.abc import Iterator

import pytest
from redis import Redis

from worker.embedded_server import EmbeddedServer

# Before torch is imported: threads that spin while they wait slow each other down where tests share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Where pytest-xdist runs tests side by side, each process has its share of the cores.
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(processes))))
# Before Triton is imported: its interpreter runs kernels where there is no GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that lives as long as the run (with pytest-xdist: one for each of its processes)."""
    with EmbeddedServer(tmp_path_factory.mktemp("state")) as server:
        yield server.url


@pytest.fixture
def redis_database(redis_url: str) -> str:
    """Address of the same server, emptied."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url
