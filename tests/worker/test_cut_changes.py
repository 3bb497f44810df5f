"""Every change of a job over a connection that is cut in the middle: all or nothing of it is there."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from reinmax_core.run import Result
from tests.servers import Line, OwnServer, line, own_server
from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from worker.attempt import Checkpoint, Fenced
from worker.jobs import Failure, Job, Reason, State
from worker.keyspace import StoreUnavailable
from worker.listing import Filters
from worker.output import Output
from worker.refusal import JobNotFound, NotAllowed
from worker.series import Series
from worker.store import JobStore
from worker.submission import Cause

Change = Callable[[JobStore, str], object]
FILE = Checkpoint(epoch=1, step=10, files=())
BOOM = Failure(type="ZeroDivisionError", message="division by zero")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def store(server: OwnServer) -> Iterator[JobStore]:
    connected = JobStore.connect(server.url)
    yield connected
    connected.keyspace.close()


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


def paused(store: JobStore) -> str:
    job_id = queued(store)
    store.pause(job_id)
    return job_id


def being_paused(store: JobStore) -> str:
    job_id = running(store)
    store.pause(job_id)
    return job_id


def lost(store: JobStore) -> str:
    job_id = running(store)
    store.keyspace.client.zadd("reinmax:leases", {job_id: 0})
    return job_id


def of_attempt(method: str, *arguments: Any) -> Change:
    return lambda store, job_id: getattr(store.attempt(job_id, 1), method)(*arguments)


POINTS = {"loss": Series([5, 10], [0.5, 0.25])}
RESULT = Result(metrics={"loss": 0.25}, best=None, wall_time_s=1.0)
CHANGES: dict[str, tuple[Callable[[JobStore], str], Change]] = {
    "start": (starting, of_attempt("start", progress(0), {}, ENVIRONMENT)),
    "beat": (running, of_attempt("beat", 30)),
    "report": (running, of_attempt("report", POINTS, progress(10), {"loss": 0.25})),
    "log": (running, of_attempt("log", "some words\n", 1)),
    "checkpoint": (running, of_attempt("save", FILE)),
    "succeed": (running, of_attempt("succeed", RESULT, (), progress(100))),
    "fail for good": (running, of_attempt("fail", Cause.ERROR, BOOM)),
    "fail for now": (running, of_attempt("fail", Cause.LOST, BOOM)),
    "stop": (running, of_attempt("stop")),
    "release": (running, of_attempt("release", Reason(code="worker_stopped", message="it was stopped"))),
    "cancel a queued one": (queued, lambda store, job_id: store.cancel(job_id)),
    "cancel a running one": (running, lambda store, job_id: store.cancel(job_id)),
    "pause a queued one": (queued, lambda store, job_id: store.pause(job_id)),
    "pause a running one": (running, lambda store, job_id: store.pause(job_id)),
    "end by the pause": (being_paused, of_attempt("pause")),
    "resume a paused one": (paused, lambda store, job_id: store.resume(job_id)),
    "resume a running one": (being_paused, lambda store, job_id: store.resume(job_id)),
    "retry": (ended, lambda store, job_id: store.retry(job_id)),
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
        "events": [(event.kind, event.data) for event in store.events_after(job_id)],
        "checkpoints": store.attempt(job_id, 1).checkpoints(),
        "waits": store.keyspace.client.zscore("reinmax:queued:any", job_id) is not None,
        "is held": store.keyspace.client.zscore("reinmax:leases", job_id) is not None,
    }


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


@pytest.mark.parametrize("answered", [0, 1])
@pytest.mark.parametrize("loses", ["request", "answer"])
def test_a_claim_that_is_cut_off_and_repeated_uses_up_one_attempt(
    store: JobStore, far_store: JobStore, cut: Line, loses: Literal["request", "answer"], answered: int
) -> None:
    job_id = queued(store)
    cut.lose(loses, after=answered)
    with pytest.raises(StoreUnavailable):
        far_store.claim(job_id, worker(), lease_s=600, token="this one")
    if answered or loses == "answer":
        assert store.claim(job_id, worker(), lease_s=600, token="another") is None
    store.keyspace.client.zadd("reinmax:leases", {job_id: 0}, xx=True)
    claim = far_store.claim(job_id, worker(), lease_s=600, token="this one")
    assert store.reap() == (), "the lease begins anew"
    assert claim is not None and (claim.attempt.epoch, claim.job.attempt) == (1, 1)
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    assert store.claim(job_id, worker(), lease_s=600, token="this one") is None, "the job trains already"


def test_a_start_that_is_repeated_late_takes_no_points_back(store: JobStore) -> None:
    job_id = running(store)
    attempt = store.attempt(job_id, 1)
    attempt.report(POINTS, progress(10), {"loss": 0.25})
    attempt.start(progress(0), {}, ENVIRONMENT)
    assert (store.metrics(job_id), store.get(job_id).progress.step) == (POINTS, 10)


def test_pieces_of_the_log_are_told_apart_by_attempt(store: JobStore) -> None:
    job_id = running(store)
    for _ in range(2):
        assert store.attempt(job_id, 1).log("first\n", 1)
    store.attempt(job_id, 1).log("second\n", 2)
    store.attempt(job_id, 1).log("first\n", 1)
    store.attempt(job_id, 1).fail(Cause.LOST, BOOM)
    assert store.claim(job_id, worker(), lease_s=600)
    store.attempt(job_id, 2).log("first of the next\n", 1)
    assert store.logs(job_id) == "first\nsecond\nfirst of the next\n"


@pytest.mark.parametrize("loses", ["request", "answer"])
def test_output_that_is_cut_off_arrives_once_and_in_order(
    store: JobStore, far_store: JobStore, cut: Line, loses: Literal["request", "answer"]
) -> None:
    job_id = running(store)
    output = Output(far_store.attempt(job_id, 1))
    for text in (b"one\n", b"two\n", b"three\n"):
        output.add(text)
        if text == b"two\n":
            cut.lose(loses)
        output.send()
    assert cut.breaks == 1
    assert store.logs(job_id) == "one\ntwo\nthree\n"
