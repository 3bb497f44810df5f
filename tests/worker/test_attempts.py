"""Attempts at a job, against the real server: how they end, who may make them, and how many there are."""

import time
from collections.abc import Callable
from typing import Final

import pytest

from tests.worker.samples import ENVIRONMENT, progress, submission
from tests.worker.states import (
    CRASH,
    HANDED_BACK,
    RESULT,
    STANDINGS,
    assert_it_is_found_only_where_it_stands,
    bring,
    bring_to,
    claimed,
    everything,
    standing_of,
    started,
)
from worker.attempt import Attempt, Checkpoint, Fenced, Order
from worker.jobs import TERMINAL, State
from worker.series import Series
from worker.store import JobStore
from worker.submission import Cause

Submit = Callable[..., str]

ENDS: Final[dict[str, tuple[State, State, State]]] = {
    "succeed": (State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED),
    "stop": (State.CANCELLED, State.CANCELLED, State.CANCELLED),
    "pause": (State.QUEUED, State.PAUSED, State.CANCELLED),
    "release": (State.QUEUED, State.PAUSED, State.CANCELLED),
    "vanish": (State.QUEUED, State.PAUSED, State.CANCELLED),
    "fail by lost": (State.QUEUED, State.PAUSED, State.CANCELLED),
    "fail by oom": (State.QUEUED, State.PAUSED, State.CANCELLED),
    "fail by error": (State.FAILED, State.FAILED, State.FAILED),
}
"""What the ends of an attempt lead to: where nothing was asked for, where a pause was, where a cancel was."""

LAST_ENDS: Final = ENDS | {
    "vanish": (State.FAILED, State.FAILED, State.CANCELLED),
    "fail by lost": (State.FAILED, State.FAILED, State.CANCELLED),
    "fail by oom": (State.FAILED, State.FAILED, State.FAILED),
}
"""The same where the attempt is the last one."""


def end(store: JobStore, attempt: Attempt, way: str) -> State | None:
    """Ends an attempt. Returns the state that the way tells, if it tells one."""
    match way.split():
        case ["succeed"]:
            attempt.succeed(RESULT, (), progress(100))
        case ["stop"]:
            attempt.stop()
        case ["pause"]:
            return attempt.pause()
        case ["release"]:
            return attempt.release(HANDED_BACK)
        case ["fail", "by", cause]:
            return attempt.fail(Cause(cause), CRASH)
        case ["vanish"]:
            attempt.beat(0)
            store.reap()
    return None


@pytest.mark.parametrize("asked", ["", "/pause", "/cancel"])
@pytest.mark.parametrize("state", ["starting", "running"])
@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("max_attempts", [1, 2])
def test_an_attempt_ends_by_what_was_asked_for(
    store: JobStore, submit: Submit, asked: str, state: str, way: str, max_attempts: int
) -> None:
    job_id = submit(max_attempts=max_attempts)
    attempt = bring_to(store, job_id, state + asked)
    assert attempt is not None
    ends = (LAST_ENDS if max_attempts == 1 else ENDS)[way]
    expected = ends[("", "/pause", "/cancel").index(asked)]
    assert end(store, attempt, way) in (None, expected)
    assert standing_of(store, job_id) == expected.value
    job = store.get(job_id)
    assert job.attempt == (0 if way in ("pause", "release") else 1)
    assert (job.error is not None) == (expected is State.FAILED)
    assert_it_is_found_only_where_it_stands(store, job)


@pytest.mark.parametrize(("asked", "order"), [("", Order.CONTINUE), ("/pause", Order.PAUSE), ("/cancel", Order.CANCEL)])
def test_a_beat_tells_what_was_asked_for(store: JobStore, submit: Submit, asked: str, order: Order) -> None:
    for state in ("starting", "running"):
        attempt = bring_to(store, submit(), state + asked)
        assert attempt is not None and attempt.beat(60) is order


def changes(attempt: Attempt) -> list[Callable[[], object]]:
    """Every way in which an attempt changes its job."""
    return [
        lambda: attempt.start(progress(0), {}, ENVIRONMENT),
        lambda: attempt.report({"loss": Series([1], [9.0])}, progress(1), {"loss": 9.0}),
        lambda: attempt.save(Checkpoint(epoch=attempt.epoch, step=1, files=())),
        lambda: attempt.succeed(RESULT, (), progress(100)),
        lambda: attempt.fail(Cause.ERROR, CRASH),
        lambda: attempt.fail(Cause.LOST, CRASH),
        attempt.stop,
        attempt.pause,
        lambda: attempt.release(HANDED_BACK),
    ]


def assert_it_changes_nothing(store: JobStore, attempt: Attempt) -> None:
    before = everything(store)
    for change in changes(attempt):
        with pytest.raises(Fenced, match="another worker"):
            change()
    assert attempt.beat(60) is Order.FENCED
    assert store.reap() == ()
    assert everything(store) == before


@pytest.mark.parametrize("standing", STANDINGS)
def test_an_attempt_that_lost_its_job_changes_nothing(store: JobStore, submit: Submit, standing: str) -> None:
    job_id = submit()
    stale = claimed(store, job_id, lease_s=0)
    assert [job.id for job in store.reap()] == [job_id]
    bring_to(store, job_id, standing)
    assert_it_changes_nothing(store, stale)
    if standing != "queued":
        with pytest.raises(Fenced):
            stale.log("late")
    assert store.logs(job_id) == "" and store.metrics(job_id) == {}


@pytest.mark.parametrize("state", [*sorted(TERMINAL), State.PAUSED])
def test_an_attempt_that_has_ended_changes_nothing(store: JobStore, submit: Submit, state: State) -> None:
    job_id = submit()
    attempt = bring(store, job_id, state)
    assert attempt is not None
    assert_it_changes_nothing(store, attempt)


@pytest.mark.parametrize(("state", "revive"), [("failed", "retry"), ("cancelled", "retry"), ("paused", "resume")])
def test_an_attempt_stays_fenced_off_a_job_that_is_revived(
    store: JobStore, submit: Submit, state: str, revive: str
) -> None:
    job_id = submit()
    attempt = bring(store, job_id, State(state))
    assert attempt is not None
    getattr(store, revive)(job_id)
    assert_it_changes_nothing(store, attempt)
    started(store, job_id)
    assert_it_changes_nothing(store, attempt)


def test_leases_run_out_by_the_clock_of_the_server(store: JobStore, submit: Submit) -> None:
    first, second = submit(), submit()
    claimed(store, first, lease_s=0.1)
    alive = claimed(store, second, lease_s=0.1)
    alive.beat(60)
    assert store.reap() == ()
    time.sleep(0.12)
    assert [job.id for job in store.reap()] == [first]
    job = store.get(first)
    assert (job.status, job.queue_position, job.attempt) == (State.QUEUED, 1, 1)
    assert job.status_reason is not None
    assert store.get(second).status is State.STARTING


def test_a_job_is_lost_with_its_last_attempt(store: JobStore, submit: Submit) -> None:
    job_id = submit(max_attempts=2)
    for _ in range(2):
        claimed(store, job_id, lease_s=0)
        store.reap()
    job = store.get(job_id)
    assert (job.status, job.attempt) == (State.FAILED, 2)
    assert job.status_reason is not None and job.status_reason.code == Cause.LOST
    assert job.error is not None and job.error.type == "WorkerLost"


def fail_as_often_as_it_may(store: JobStore, job_id: str, *causes: Cause) -> int:
    """How many attempts a job makes that end by these causes in turn, the last of them again and again."""
    attempts = 1
    while started(store, job_id).fail(causes[min(attempts, len(causes)) - 1], CRASH) is State.QUEUED:
        job = store.get(job_id)
        assert (job.attempt, job.error) == (attempts, None)
        attempts += 1
    assert store.get(job_id).error == CRASH
    return attempts


@pytest.mark.parametrize("cause", list(Cause))
def test_another_attempt_is_made_only_where_it_may_help(store: JobStore, submit: Submit, cause: Cause) -> None:
    expected = 3 if cause in (Cause.LOST, Cause.OOM) else 1
    job_id, old = submit(), submit()
    assert store.get(job_id).max_attempts_by_cause[cause] == expected, "what is shown is what is done"
    assert fail_as_often_as_it_may(store, job_id, cause) == expected
    store.keyspace.client.hdel(f"reinmax:job:{old}", "max_attempts_by_cause")
    assert fail_as_often_as_it_may(store, old, cause) == expected


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_a_limit_of_its_own(store: JobStore, submit: Submit, cause: Cause) -> None:
    for limit in (1, 2, 4):
        job_id = submit(max_attempts=4, max_attempts_by_cause={cause: limit})
        assert store.get(job_id).max_attempts_by_cause[cause] == limit
        assert fail_as_often_as_it_may(store, job_id, cause) == limit


def test_attempts_that_end_by_other_causes_do_not_count_for_a_cause(store: JobStore, submit: Submit) -> None:
    limits = {"max_attempts": 5, "max_attempts_by_cause": {"error": 2, "lost": 2}}
    assert fail_as_often_as_it_may(store, submit(**limits), Cause.OOM, Cause.LOST, Cause.ERROR) == 4
    assert fail_as_often_as_it_may(store, submit(**limits), Cause.OOM) == 5
    assert fail_as_often_as_it_may(store, submit(**limits), Cause.ERROR, Cause.DIVERGED) == 2


def test_a_worker_that_vanishes_counts_as_lost(store: JobStore, submit: Submit) -> None:
    job_id = submit(max_attempts_by_cause={"lost": 2})
    assert started(store, job_id).fail(Cause.LOST, CRASH) is State.QUEUED
    claimed(store, job_id, lease_s=0)
    assert store.reap() == ()
    assert store.get(job_id).status is State.FAILED


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"error": 0}, "greater than or equal to 1"),
        ({"error": 101}, "less than or equal to 100"),
        ({"crash": 1}, "'error', 'oom', 'timeout', 'lost' or 'diverged'"),
        (
            {"lost": 4},
            "4 attempts may end by 'lost', but max_attempts allows 3 in all; raise max_attempts to 4",
        ),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        submission(max_attempts_by_cause=limits)


def test_a_job_that_is_handed_back_keeps_its_attempts_and_its_place(store: JobStore, submit: Submit) -> None:
    first, second = submit(), submit()
    started(store, first).release(HANDED_BACK)
    job = store.get(first)
    assert (job.status, job.attempt, job.queue_position) == (State.QUEUED, 0, 1)
    assert store.get(second).queue_position == 2
