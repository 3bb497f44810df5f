"""Workers that stand still for longer than their lease, and go on when another worker has their job: real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

import psutil
import pytest
from celery import Celery
from redis import Redis

from tests.worker.samples import submission
from worker.app import wake
from worker.jobs import Job, State
from worker.store import JobStore

LEASE_S = 2.0
STEPS: Final = 1500
PATIENCE_S = 100.0
OF_WORKERS: Final = (b"reinmax:celery", b"reinmax:worker")
"""Beginnings of the keys that tell which workers live, and what they say to each other."""


@final
class Worker:
    """A worker process."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "worker", "--device", "cpu"]
        self.process = subprocess.Popen(command, env=environment)

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_idle(self, store: JobStore) -> bool:
        return any(self._is(worker.name) and not worker.job for worker in store.workers())

    def has(self, job: Job) -> bool:
        return job.worker is not None and self._is(job.worker)

    def _is(self, name: str) -> bool:
        return name.endswith(f"-{self.process.pid}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_worker(redis_database: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts workers on the same server and folder; all are gone after the test."""
    settings = {
        "REINMAX_REDIS_URL": redis_database,
        "REINMAX_STATE_DIR": str(tmp_path),
        "REINMAX_LEASE_S": str(LEASE_S),
        "REINMAX_CHECKPOINT_INTERVAL_S": "0.5",
        "REINMAX_LOG_LEVEL": "warning",
    }
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(os.environ | settings))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def send(store: JobStore, celery: Celery) -> str:
    job = store.submit(submission(steps=STEPS, log_every=10)).job
    wake(celery, job)
    return job.id


def ended(store: JobStore, job_id: str) -> Job:
    wait_for(lambda: store.get(job_id).finished_at)
    return store.get(job_id)


def keys(redis_url: str) -> dict[bytes, bytes | None]:
    """All that the server holds of jobs, as it keeps it."""
    with Redis.from_url(redis_url) as client:
        return {key: client.dump(key) for key in client.scan_iter() if not key.startswith(OF_WORKERS)}


def paths(folder: Path) -> list[str]:
    return [str(path) for path in (folder / "artifacts").rglob("*") if path.is_file()]


def files(folder: Path) -> dict[str, bytes]:
    return {path: Path(path).read_bytes() for path in paths(folder)}


def model(store: JobStore, job_id: str) -> str:
    return next(file.sha256 for file in store.artifacts(job_id) if file.name == "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_child_stopped", [False, True], ids=["the supervisor", "supervisor and child"])
def test_a_worker_that_stood_still_finds_itself_fenced_and_writes_nothing(
    store: JobStore,
    celery: Celery,
    start_worker: Callable[[], Worker],
    redis_database: str,
    tmp_path: Path,
    is_child_stopped: bool,
) -> None:
    workers = [start_worker(), start_worker()]
    wait_for(lambda: all(worker.is_idle(store) for worker in workers))
    job_id = send(store, celery)
    wait_for(store.attempt(job_id, 1).checkpoints)
    first, second = sorted(workers, key=lambda worker: not worker.has(store.get(job_id)))
    # An idle training process may have been started behind it, which nobody would let go on.
    training = min(first.children, key=lambda child: child.create_time())
    for process in [first.process, *([training] if is_child_stopped else ())]:
        process.send_signal(signal.SIGSTOP)

    job = ended(store, job_id)
    assert (job.status, job.attempt, job.epoch) == (State.SUCCEEDED, 2, 2)
    assert second.has(job)
    named = {f"/2/{file.name}" for file in store.artifacts(job_id)}
    # What else was written, by the first attempt too, is removed just after the success.
    wait_for(lambda: {path.split(job_id)[1] for path in paths(tmp_path)} == named)
    before = keys(redis_database), files(tmp_path)

    first.process.send_signal(signal.SIGCONT)
    wait_for(lambda: first.is_idle(store))
    assert not training.is_running(), "it is killed, though it was never told to go on"
    time.sleep(0.5)
    assert keys(redis_database) == before[0]
    assert files(tmp_path) == before[1]

    undisturbed = send(store, celery)
    assert ended(store, undisturbed).attempt == 1
    assert model(store, job_id) == model(store, undisturbed)
    assert store.metrics(job_id) == store.metrics(undisturbed)
