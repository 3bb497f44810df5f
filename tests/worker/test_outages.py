"""Workers and their attempts while the server hangs or is gone, and scripts that are cut off in the middle."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import pytest

from reinmax_core.run import Result
from tests.servers import Line, OwnServer, line, own_server
from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from worker.app import application, wake
from worker.artifacts import ArtifactStore, location
from worker.attempt import Checkpoint, Fenced
from worker.child import Child
from worker.hardware import Machine
from worker.jobs import Cause, Failure, Job, Reason, State
from worker.keyspace import StoreUnavailable
from worker.listing import Filters
from worker.refusal import JobNotFound, NotAllowed
from worker.series import Series
from worker.settings import Settings
from worker.standby import Standby
from worker.store import JobStore
from worker.watch import Ending, Watch

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
    machine, attempt = Machine(), store.attempt(starting(store), 1)
    with closing(Child(machine)) as child, ThreadPoolExecutor(1) as threads:
        watch = Watch(attempt, child, 1.0, Settings(cancel_grace_s=0.5), threading.Event(), Standby(machine))
        server.hang()
        try:
            outcome = threads.submit(watch.until_the_end)
            assert child.wait(ANSWER_S / 3) is not None, "its time was up after a second"
            assert not outcome.done(), "a beat is under way still"
        finally:
            server.go_on()
        assert outcome.result(ANSWER_S) is None and watch.ending is Ending.TIMEOUT


Change = Callable[[JobStore, str], object]
FILE = Checkpoint(epoch=1, step=10, files=())
BOOM = Failure(type="ZeroDivisionError", message="division by zero")


def queued(store: JobStore) -> str:
    return store.submit(submission()).job.id


def starting(store: JobStore) -> str:
    job_id = queued(store)
    assert store.claim(job_id, worker(), lease_s=600)
    return job_id


def running(store: JobStore) -> str:
    job_id = starting(store)
    store.attempt(job_id, 1).start(progress(0), {}, ENVIRONMENT)
    return job_id


def ended(store: JobStore) -> str:
    job_id = queued(store)
    store.cancel(job_id)
    return job_id


def lost(store: JobStore) -> str:
    job_id = running(store)
    store.keyspace.client.zadd("reinmax:leases", {job_id: 0})
    return job_id


def claim_anew(store: JobStore, job_id: str) -> None:
    """As a worker does whose answer was lost: the next, once the lease has run out."""
    if store.claim(job_id, worker(), lease_s=600) is None:
        store.keyspace.client.zadd("reinmax:leases", {job_id: 0})
        store.reap()
        assert store.claim(job_id, worker(), lease_s=600) is not None


def of_attempt(method: str, *arguments: Any) -> Change:
    return lambda store, job_id: getattr(store.attempt(job_id, 1), method)(*arguments)


POINTS = {"loss": Series([5, 10], [0.5, 0.25])}
RESULT = Result(metrics={"loss": 0.25}, best=None, wall_time_s=1.0)
CHANGES: dict[str, tuple[Callable[[JobStore], str], Change]] = {
    "start": (starting, of_attempt("start", progress(0), {}, ENVIRONMENT)),
    "beat": (running, of_attempt("beat", 30)),
    "report": (running, of_attempt("report", POINTS, progress(10), {"loss": 0.25})),
    "log": (running, of_attempt("log", "some words\n")),
    "checkpoint": (running, of_attempt("save", FILE)),
    "succeed": (running, of_attempt("succeed", RESULT, (), progress(100))),
    "fail for good": (running, of_attempt("fail", Cause.ERROR, BOOM)),
    "fail for now": (running, of_attempt("fail", Cause.LOST, BOOM)),
    "stop": (running, of_attempt("stop")),
    "release": (running, of_attempt("release", Reason(code="worker_stopped", message="it was stopped"))),
    "cancel a queued one": (queued, lambda store, job_id: store.cancel(job_id)),
    "cancel a running one": (running, lambda store, job_id: store.cancel(job_id)),
    "delete": (ended, lambda store, job_id: store.delete(job_id)),
    "reap": (lost, lambda store, job_id: store.reap()),
}
# These read the job before they change it.
SECOND_SCRIPT = {"delete"}


def seen(store: JobStore, job_id: str) -> dict[str, object]:
    """All that anybody can see of a job, but for times and for how often it was written."""
    try:
        job = store.get(job_id).model_dump(exclude={"id", "created_at", "started_at", "finished_at", "queue_position"})
    except JobNotFound:
        job = {}
    states = [state for state in State if any(job_id == other.id for other in everything(store, state))]
    return job | {
        "states": states,
        "events": once((event.kind, event.data) for event in store.events_after(job_id)),
        "checkpoints": once(store.attempt(job_id, 1).checkpoints()),
        "waits": store.keyspace.client.zscore("reinmax:queued:any", job_id) is not None,
        "is held": store.keyspace.client.zscore("reinmax:leases", job_id) is not None,
    }


def once(entries: Iterable[object]) -> list[object]:
    """Entries without those that only repeat the one before, as a repeated start, log or checkpoint leaves them."""
    return [entry for entry, _ in groupby(entries)]


def everything(store: JobStore, state: State) -> tuple[Job, ...]:
    return store.list(Filters(status=state), 200).jobs


def repeat(change: Change, store: JobStore, job_id: str) -> None:
    """Makes a change whose answer was lost once more, as workers and clients do; that it was made already is fine."""
    try:
        change(store, job_id)
    except (Fenced, JobNotFound, NotAllowed):
        return


@pytest.fixture
def cut(server: OwnServer) -> Iterator[Line]:
    with line(server.url) as cut:
        yield cut


@pytest.fixture
def far_store(cut: Line) -> Iterator[JobStore]:
    """The store at the other end of a line that breaks."""
    connected = JobStore.connect(cut.url)
    yield connected
    connected.keyspace.close()


@pytest.mark.parametrize("loses", ["request", "answer"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_cut_off_is_made_or_not_and_may_be_repeated(
    store: JobStore, far_store: JobStore, cut: Line, name: str, loses: Literal["request", "answer"]
) -> None:
    prepare, change = CHANGES[name]
    reference = prepare(store)
    change(store, reference)  # the server knows the script from here on
    expected = seen(store, reference)
    job_id = prepare(store)
    before = seen(store, job_id)
    assert before != expected or name == "beat"
    cut.lose(loses, after=int(name in SECOND_SCRIPT))
    with pytest.raises(StoreUnavailable):
        change(far_store, job_id)
    assert cut.breaks == 1
    assert seen(store, job_id) == (before if loses == "request" else expected)
    repeat(change, far_store, job_id)
    assert seen(store, job_id) == expected


@pytest.mark.parametrize("loses", ["request", "answer"])
def test_a_submission_that_is_cut_off_makes_one_job(
    store: JobStore, far_store: JobStore, cut: Line, loses: Literal["request", "answer"]
) -> None:
    before = sum(store.counts().values())
    cut.lose(loses)
    with pytest.raises(StoreUnavailable):
        far_store.submit(submission(), idempotency_key=f"once {loses}")
    assert sum(store.counts().values()) == before + (loses == "answer")
    repeated = far_store.submit(submission(), idempotency_key=f"once {loses}")
    assert repeated.replayed == (loses == "answer")
    assert sum(store.counts().values()) == before + 1


@pytest.mark.parametrize("loses", ["request", "answer"])
def test_a_claim_that_is_cut_off_loses_no_job(
    store: JobStore, far_store: JobStore, cut: Line, loses: Literal["request", "answer"]
) -> None:
    job_id = queued(store)
    cut.lose(loses)
    with pytest.raises(StoreUnavailable):
        far_store.claim(job_id, worker(), lease_s=600)
    claim_anew(far_store, job_id)
    job = store.get(job_id)
    assert (job.status, job.epoch) == (State.STARTING, 1 + (loses == "answer"))
