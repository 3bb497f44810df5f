"""A worker and its training process while the server hangs or is gone for less than the lease."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import OwnServer, own_server
from tests.worker.samples import submission, worker
from worker.app import application, wake
from worker.artifacts import ArtifactStore, location
from worker.child import Child
from worker.hardware import Machine
from worker.heartbeat import Heartbeat
from worker.jobs import State
from worker.member import Ending, Member
from worker.settings import Settings
from worker.standby import Standby
from worker.store import JobStore
from worker.watch import Watch

LEASE_S = 6.0
OUTAGE_S = 3.0
"""Shorter than the lease, and longer than the patience with an answer, which is a third of it."""
STEPS = 3000
PATIENCE_S = 60.0
ANSWER_S = 30.0
"""How long the tests' own store waits for an answer: longer than anything here that must not wait may take."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def store(server: OwnServer) -> Iterator[JobStore]:
    connected = JobStore.connect(server.url, patience_s=ANSWER_S)
    yield connected
    connected.keyspace.close()


@pytest.fixture(scope="module")
def train(server: OwnServer, store: JobStore, artifacts: Path) -> Iterator[Callable[[], str]]:
    """Submits a job, of which a real worker makes its first steps before this returns; all jobs are the same."""
    settings = {
        "REINMAX_REDIS_URL": server.url,
        "REINMAX_ARTIFACTS_URL": str(artifacts),
        "REINMAX_LEASE_S": str(LEASE_S),
        "REINMAX_CHECKPOINT_INTERVAL_S": "1",
        "REINMAX_LOG_LEVEL": "error",
    }
    with application(server.url) as celery:

        def begin() -> str:
            job = store.submit(submission(steps=STEPS, log_every=1)).job
            wake(celery, job)
            wait_for(lambda: store.get(job.id).progress.rate)
            return job.id

        command = [sys.executable, "-m", "worker", "--device", "cpu"]
        with subprocess.Popen(command, env=os.environ | settings) as process:
            yield begin
            process.kill()


@pytest.fixture(scope="module")
def undisturbed(train: Callable[[], str], store: JobStore) -> str:
    """A job that has succeeded without any trouble."""
    job_id = train()
    wait_for(lambda: store.get(job_id).status is State.SUCCEEDED)
    return job_id


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def hang(server: OwnServer) -> None:
    server.hang()
    time.sleep(OUTAGE_S)
    server.go_on()


def restart(server: OwnServer) -> None:
    server.kill()
    time.sleep(OUTAGE_S)
    server.start()


@pytest.mark.parametrize("trouble", [hang, pytest.param(restart, marks=pytest.mark.slow)])
def test_a_run_goes_on_through_an_outage_shorter_than_the_lease(
    train: Callable[[], str],
    undisturbed: str,
    store: JobStore,
    server: OwnServer,
    artifacts: Path,
    trouble: Callable[[OwnServer], None],
) -> None:
    job_id = train()
    before = store.get(job_id).progress
    began = time.monotonic()
    trouble(server)
    time.sleep(0.6)  # for a report that was under way, and the one behind it
    after, took_s = store.get(job_id).progress, time.monotonic() - began
    wait_for(lambda: store.get(job_id).finished_at)
    job = store.get(job_id)
    assert (job.status, job.attempt, job.epoch) == (State.SUCCEEDED, 1, 1)
    assert job.result is not None
    steps_meanwhile = took_s * STEPS / job.result.wall_time_s
    assert after.step >= min(STEPS, before.step + steps_meanwhile / 3), "it stood still meanwhile"
    assert store.metrics(job_id)["loss"].step == list(range(1, STEPS + 1))
    assert store.metrics(job_id) == store.metrics(undisturbed)
    files = ArtifactStore(str(artifacts))
    for name in ("model.safetensors", "metrics.json"):
        found, expected = (files.read(location(done, 1, name)) for done in (job_id, undisturbed))
        assert found == expected


def test_a_training_process_is_watched_while_the_server_does_not_answer(store: JobStore, server: OwnServer) -> None:
    machine, claim = Machine(), store.claim(store.submit(submission(timeout_s=1)).job.id, worker(), lease_s=60)
    assert claim is not None
    member, settings = Member(claim), Settings(cancel_grace_s=0.5)
    heartbeat = Heartbeat([member], settings.lease_s)
    with heartbeat, closing(Child(machine)) as child, ThreadPoolExecutor(1) as threads:
        watch = Watch([member], heartbeat, child, settings, threading.Event(), Standby(machine), lambda member: None)
        server.hang()
        try:
            outcome = threads.submit(watch.until_the_end)
            assert outcome.result(ANSWER_S / 3) == [member], "its time was up after a second"
        finally:
            server.go_on()
        assert member.outcome is None and member.ending is Ending.TIMEOUT
