"""Ways to bring a job of a store to a state, and to see all that the store holds."""

from typing import Any, Final

from reinmax_core.run import Result
from tests.worker.samples import ENVIRONMENT, progress, worker
from worker.attempt import Attempt
from worker.jobs import TERMINAL, Failure, Job, Reason, State
from worker.listing import Filters
from worker.store import JobStore
from worker.submission import Cause

STANDINGS: Final = (
    *(state.value for state in State),
    "starting/pause",
    "running/pause",
    "starting/cancel",
    "running/cancel",
)
"""Where a job can stand: its state and what its worker was asked for."""

RESULT = Result(metrics={"loss": 0.5}, best=None, wall_time_s=1.0, notes={"images": "a user's"})
CRASH = Failure(type="SIGKILL", message="the training process was killed")
HANDED_BACK = Reason(code="worker_stopped", message="the worker was asked to stop")


def claimed(store: JobStore, job_id: str, lease_s: float = 60.0) -> Attempt:
    claim = store.claim(job_id, worker(), lease_s)
    assert claim is not None
    return claim.attempt


def started(store: JobStore, job_id: str, step: int = 0) -> Attempt:
    attempt = claimed(store, job_id)
    attempt.start(progress(step), {}, ENVIRONMENT)
    return attempt


def bring(store: JobStore, job_id: str, state: State) -> Attempt | None:
    """Leads a queued job to a state. Returns the attempt that it had, if it had one."""
    if state is State.QUEUED:
        return None
    if state is State.STARTING:
        return claimed(store, job_id)
    attempt = started(store, job_id)
    match state:
        case State.PAUSED:
            store.pause(job_id)
            attempt.pause()
        case State.SUCCEEDED:
            attempt.succeed(RESULT, (), progress(100))
        case State.FAILED:
            attempt.fail(Cause.ERROR, CRASH)
        case State.CANCELLED:
            attempt.stop()
    return attempt


def everything(store: JobStore) -> dict[str, Any]:
    """The content of every key."""
    client: Any = store.keyspace.client
    readers = {
        "hash": client.hgetall,
        "stream": client.xrange,
        "string": client.get,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


def bring_to(store: JobStore, job_id: str, standing: str) -> Attempt | None:
    """Leads a queued job to where it is to stand. Returns the attempt that it had, if it had one."""
    state, _, asked = standing.partition("/")
    attempt = bring(store, job_id, State(state))
    if asked:
        {"pause": store.pause, "cancel": store.cancel}[asked](job_id)
    return attempt


def standing_of(store: JobStore, job_id: str) -> str:
    (asked,) = store.keyspace.ask(("HGET", f"reinmax:job:{job_id}", "asked"))
    return store.get(job_id).status.value + (f"/{asked}" if asked else "")


def assert_it_is_found_only_where_it_stands(store: JobStore, job: Job) -> None:
    assert [state for state, count in store.counts().items() if count] == [job.status]
    found = {state: store.list(Filters(status=state.value), limit=9).jobs for state in State}
    assert found == {state: (job,) if state is job.status else () for state in State}
    assert job.queue_position == (1 if job.status is State.QUEUED else None)
    waiting = store.forgotten(worker(), older_than_s=0)
    assert waiting == ((job,) if job.status is State.QUEUED else ())
    has_lease = store.keyspace.client.zscore("reinmax:leases", job.id) is not None
    assert has_lease == (job.status in (State.STARTING, State.RUNNING))
    assert (job.finished_at is not None) == (job.status in TERMINAL)
