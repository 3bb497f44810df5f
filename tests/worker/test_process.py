"""The worker as a program: real processes, killed and stopped while they work."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from celery import Celery

from tests.worker.samples import submission
from worker.app import wake
from worker.jobs import Job, State
from worker.store import JobStore

LEASE_S = 2.0
ENDLESS = 10**8
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(redis_database: str, tmp_path: Path) -> Iterator[Start]:
    """Starts workers on the same server and folder; all are gone after the test."""
    settings = {
        "REINMAX_REDIS_URL": redis_database,
        "REINMAX_STATE_DIR": str(tmp_path),
        "REINMAX_LEASE_S": str(LEASE_S),
        "REINMAX_CHECKPOINT_INTERVAL_S": "1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(log: IO[bytes] | None = None, **more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker", "--device", "cpu"]
        started.append(subprocess.Popen(command, env=os.environ | settings | more, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def submit_and_wake(store: JobStore, celery: Celery) -> Callable[[int], str]:
    def send(steps: int) -> str:
        job = store.submit(submission(steps=steps)).job
        wake(celery, job)
        return job.id

    return send


def wait_for(condition: Callable[[], object], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trains(store: JobStore, job_id: str) -> bool:
    job = store.get(job_id)
    return job.status is State.RUNNING and job.progress.step > 0


def has_ended(store: JobStore, job_id: str) -> Job | None:
    job = store.get(job_id)
    return job if job.finished_at else None


def states(store: JobStore, job_id: str) -> list[str]:
    return [event.data.split('"')[3] for event in store.events_after(job_id) if event.kind == "state"]


@pytest.mark.slow
def test_a_job_of_a_killed_worker_is_finished_by_another(
    store: JobStore, start_worker: Start, submit_and_wake: Callable[[int], str]
) -> None:
    first, job_id = start_worker(), submit_and_wake(3000)
    wait_for(lambda: store.attempt(job_id, 1).checkpoints())
    training = psutil.Process(first.pid).children()
    for process in training:
        process.suspend()  # else the run may come to its end while the second worker starts
    second = start_worker()
    wait_for(lambda: len(store.workers()) == 2)
    first.kill()
    killed_at = time.monotonic()
    wait_for(lambda: store.get(job_id).attempt == 2)
    assert time.monotonic() - killed_at < LEASE_S + 2
    assert all(not process.is_running() or process.status() == psutil.STATUS_ZOMBIE for process in training)
    wait_for(lambda: has_ended(store, job_id))
    assert states(store, job_id).count("succeeded") == 1
    assert store.get(job_id).status is State.SUCCEEDED
    assert "continuing at step" in store.logs(job_id)
    steps = store.metrics(job_id)["loss"].step
    assert steps == list(range(6, 3001, 6))
    assert second.poll() is None


@pytest.mark.slow
def test_a_stopped_worker_hands_its_job_to_another(
    store: JobStore, start_worker: Start, submit_and_wake: Callable[[int], str]
) -> None:
    first, job_id = start_worker(), submit_and_wake(ENDLESS)
    wait_for(lambda: trains(store, job_id))
    second = start_worker()
    wait_for(lambda: len(store.workers()) == 2)
    first.terminate()
    assert first.wait(10) == 0
    wait_for(lambda: trains(store, job_id) and store.get(job_id).epoch == 2)
    assert store.get(job_id).attempt == 1
    wait_for(lambda: [worker.job for worker in store.workers()] == [job_id])
    store.cancel(job_id)
    wait_for(lambda: has_ended(store, job_id))
    second.terminate()
    assert second.wait(10) == 0
    assert store.workers() == ()


def test_what_a_worker_does_stands_in_its_log_once(
    store: JobStore, start_worker: Start, submit_and_wake: Callable[[int], str], tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        worker, job_id = start_worker(log, REINMAX_LOG_LEVEL="info"), submit_and_wake(1)
    wait_for(lambda: has_ended(store, job_id))
    worker.terminate()
    assert worker.wait(10) == 0
    written = (tmp_path / "log").read_text()
    for line in (
        " INFO worker.process: ",
        f" INFO worker.supervise: job {job_id}: attempt 1 begins\n",
        f" INFO worker.conclusion: job {job_id}: attempt 1 ends: succeeded\n",
    ):
        assert written.count(line) == 1, written
    assert "Task run_job" not in written, "messages mean nothing"


def test_a_worker_finds_a_job_for_which_it_was_not_woken(store: JobStore, start_worker: Start) -> None:
    job_id = store.submit(submission(steps=10)).job.id
    store.keyspace.client.zadd("reinmax:woken", {job_id: 0})
    start_worker()
    wait_for(lambda: has_ended(store, job_id))
    assert store.get(job_id).status is State.SUCCEEDED


@pytest.mark.slow
def test_messages_are_taken_in_quick_succession_and_in_order_of_priority(
    store: JobStore, start_worker: Start, celery: Celery
) -> None:
    jobs = [store.submit(submission(steps=1, priority=priority)).job for priority in (0, 9, 4)]
    for job in jobs:
        for _ in range(50):
            wake(celery, job)
    start_worker()
    wait_for(lambda: all(has_ended(store, job.id) for job in jobs))
    ended = sorted((store.get(job.id) for job in jobs), key=lambda job: str(job.finished_at))
    assert [job.priority for job in ended] == [9, 4, 0]
    assert all(states(store, job.id).count("starting") == 1 for job in jobs)


def test_a_worker_refuses_a_server_that_would_lose_jobs(store: JobStore, start_worker: Start) -> None:
    store.keyspace.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert start_worker().wait(30) == os.EX_CONFIG
    finally:
        store.keyspace.client.config_set("maxmemory-policy", "noeviction")


def test_a_worker_does_not_load_torch() -> None:
    script = "import sys, worker.process; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def check(redis_url: str) -> int:
    environment = os.environ | {"REINMAX_REDIS_URL": redis_url}
    return subprocess.run([sys.executable, "-m", "worker", "--check"], env=environment, timeout=60).returncode


def test_a_check_tells_whether_a_worker_of_this_host_lives(
    store: JobStore, redis_database: str, start_worker: Start
) -> None:
    assert check(redis_database) == 1
    start_worker()
    wait_for(store.workers)
    assert check(redis_database) == 0


def test_what_keeps_a_worker_from_starting_is_one_sentence() -> None:
    environment = os.environ | {"REINMAX_LEASE_S": "soon"}
    done = subprocess.run([sys.executable, "-m", "worker"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert "REINMAX_LEASE_S is 'soon'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_refuses_an_address_of_artefacts_that_it_cannot_reach(redis_database: str) -> None:
    environment = os.environ | {"REINMAX_REDIS_URL": redis_database, "REINMAX_ARTIFACTS_URL": "nothing://bucket"}
    command = [sys.executable, "-m", "worker", "--device", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert "REINMAX_ARTIFACTS_URL is 'nothing://bucket'" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_refuses_a_place_of_artefacts_that_takes_no_files(redis_database: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "artifacts")
    environment = os.environ | {"REINMAX_REDIS_URL": redis_database, "REINMAX_ARTIFACTS_URL": place}
    command = [sys.executable, "-m", "worker", "--device", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert f"REINMAX_ARTIFACTS_URL ({place})" in done.stderr and "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
