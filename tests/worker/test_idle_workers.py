"""A worker without a job that stands still, or whose server does: real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests.servers import OwnServer, own_server
from tests.worker.samples import submission
from worker.app import application, wake
from worker.call import KEY_PREFIX
from worker.store import JobStore

LEASE_S = 3.0
PATIENCE_S = 60.0
LONG_FROZEN_S = 14.0
"""After so long Celery drops a connection on which a message may have come."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def store(server: OwnServer) -> Iterator[JobStore]:
    connected = JobStore.connect(server.url)
    yield connected
    connected.keyspace.close()


@pytest.fixture
def celery(server: OwnServer) -> Iterator[Celery]:
    with application(server.url) as connected:
        yield connected


@pytest.fixture
def worker(server: OwnServer, celery: Celery, store: JobStore, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that is idle, and has been asking for messages for a while."""
    settings = {
        "REINMAX_REDIS_URL": server.url,
        "REINMAX_STATE_DIR": str(tmp_path),
        "REINMAX_LEASE_S": str(LEASE_S),
        "REINMAX_LOG_LEVEL": "info",
    }
    command = [sys.executable, "-m", "worker", "--device", "cpu"]
    with subprocess.Popen(command, env=os.environ | settings) as process:
        job_id = send(celery, store)
        wait_for(lambda: store.get(job_id).finished_at)
        time.sleep(1.5)
        yield process
        process.kill()


def send(celery: Celery, store: JobStore) -> str:
    job = store.submit(submission(steps=5)).job
    wake(celery, job)
    return job.id


def swallowed(celery: Celery, store: JobStore, worker: "subprocess.Popen[bytes]") -> str:
    """A job whose message has gone to the worker, which asked before it was stopped; it asks once a second or so."""
    for _ in range(30):
        worker.send_signal(signal.SIGSTOP)
        job_id = send(celery, store)
        if not store.keyspace.client.keys(f"{KEY_PREFIX}any*"):
            return job_id
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: store.get(job_id).finished_at)  # noqa: B023  (called at once)
    raise AssertionError("every message is still there")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_that_is_asked_to_end_does_so_though_the_server_hangs(
    server: OwnServer, worker: "subprocess.Popen[bytes]"
) -> None:
    server.hang()
    try:
        worker.terminate()
        assert worker.wait(LEASE_S + 8) == 0, "by itself Celery takes minutes"
    finally:
        server.go_on()


@pytest.mark.slow
@pytest.mark.parametrize("frozen_s", [0.5, LONG_FROZEN_S])
def test_a_job_whose_message_went_to_a_worker_that_stood_still_starts_soon(
    celery: Celery, store: JobStore, worker: "subprocess.Popen[bytes]", frozen_s: float
) -> None:
    job_id = swallowed(celery, store, worker)
    time.sleep(frozen_s)
    worker.send_signal(signal.SIGCONT)
    began = time.monotonic()
    wait_for(lambda: store.get(job_id).finished_at)
    assert time.monotonic() - began < 6, "two seconds for a sweep, but for a slow machine"
