"""The contract of the job store, against the real server: what each script allows, refuses and leaves behind."""

import time
from collections.abc import Callable
from uuid import UUID

import pytest

from reinmax_core.run import Result
from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from worker.attempt import Attempt, Checkpoint, Fenced, Order
from worker.jobs import Artifact, Cause, Failure, Job, Reason, State
from worker.series import Series
from worker.store import (
    ArtifactNotFound,
    IdempotencyMismatch,
    JobNotFound,
    JobStore,
    NotAllowed,
    StoreUnavailable,
)

Submit = Callable[..., str]
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
    """Leads a queued job to a state by the ways that exist."""
    if state is State.QUEUED:
        return None
    if state is State.STARTING:
        return claimed(store, job_id)
    attempt = started(store, job_id)
    match state:
        case State.SUCCEEDED:
            attempt.succeed(RESULT, (), progress(100))
        case State.FAILED:
            attempt.fail(Cause.ERROR, CRASH)
        case State.CANCELLED:
            attempt.stop()
    return attempt


REACHABLE = [state for state in State if state is not State.PAUSED]


def test_a_submitted_job_is_queued_and_reads_back_whole(store: JobStore) -> None:
    given = submission(name="a", labels={"study": "x"}, priority=3, timeout_s=60, hardware="cpu")
    job = store.submit(given).job
    assert job == store.get(job.id)
    assert UUID(job.id.removeprefix("job_")).version == 7
    assert (job.status, job.queue, job.queue_position, job.attempt) == (State.QUEUED, "cpu", 1, 0)
    assert (job.spec, job.name, job.labels, job.priority) == (given.run_spec(), "a", {"study": "x"}, 3)
    assert job.progress.steps == 100
    assert abs(job.created_at.timestamp() - time.time()) < 5


def test_ids_sort_by_time_of_submission(submit: Submit) -> None:
    ids = [submit() for _ in range(50)]
    assert ids == sorted(ids)


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    for ask in (store.get, store.cancel, store.delete, store.metrics, store.logs, store.artifacts):
        with pytest.raises(JobNotFound, match="job_unknown"):
            ask("job_unknown")
    assert store.claim("job_unknown", worker(), 1) is None
    assert store.events_after("job_unknown") == ()


def test_the_queue_is_ordered_by_priority_then_submission(store: JobStore, submit: Submit) -> None:
    ids = [submit(priority=priority) for priority in (0, 9, 5, 9, 0)]
    assert [store.get(job_id).queue_position for job_id in ids] == [4, 1, 3, 2, 5]


def test_a_job_goes_its_way_to_success(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    claim = store.claim(job_id, worker(), 60)
    assert claim is not None
    assert (claim.job.status, claim.job.attempt, claim.job.worker) == (State.STARTING, 1, "worker-1")
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    assert store.get(job_id).status is State.RUNNING
    claim.attempt.report({"loss": Series([10], [0.5])}, progress(10), {"loss": 0.5})
    assert store.get(job_id).metrics == {"loss": 0.5}
    files = (Artifact(name="model.safetensors", bytes=3, sha256="ab"),)
    claim.attempt.succeed(RESULT, files, progress(100))
    job = store.get(job_id)
    assert (job.status, job.result, job.progress.step) == (State.SUCCEEDED, RESULT, 100)
    assert (job.metrics, job.environment) == (RESULT.metrics, ENVIRONMENT)
    assert job.started_at is not None and job.finished_at is not None
    assert store.artifacts(job_id) == files
    assert store.locate(job_id, "model.safetensors") == f"{job_id}/1/model.safetensors"
    with pytest.raises(ArtifactNotFound, match="no artefact"):
        store.locate(job_id, "other.bin")
    states = [event.data for event in store.events_after(job_id) if event.kind == "state"]
    assert [state.split('"')[3] for state in states] == ["queued", "starting", "running", "succeeded"]


@pytest.mark.parametrize("state", REACHABLE)
def test_only_a_queued_job_can_be_claimed(store: JobStore, submit: Submit, state: State) -> None:
    job_id = submit()
    bring(store, job_id, state)
    assert (store.claim(job_id, worker("worker-2"), 60) is not None) == (state is State.QUEUED)


@pytest.mark.parametrize("state", REACHABLE)
def test_a_job_can_be_cancelled_until_it_has_ended_otherwise(store: JobStore, submit: Submit, state: State) -> None:
    job_id = submit()
    attempt = bring(store, job_id, state)
    if state in (State.SUCCEEDED, State.FAILED):
        with pytest.raises(NotAllowed, match=state.value):
            store.cancel(job_id)
        return
    job = store.cancel(job_id)
    if state in (State.STARTING, State.RUNNING):
        assert attempt is not None and attempt.beat(60) is Order.CANCEL
        assert (job.status, job.status_reason and job.status_reason.code) == (state, "cancel_requested")
        assert store.cancel(job_id) == job
        attempt.stop()
    assert store.get(job_id).status is State.CANCELLED


@pytest.mark.parametrize("state", REACHABLE)
def test_only_an_ended_job_can_be_deleted(store: JobStore, submit: Submit, state: State) -> None:
    job_id = submit(labels={"study": "x"})
    bring(store, job_id, state)
    if state in (State.QUEUED, State.STARTING, State.RUNNING):
        with pytest.raises(NotAllowed, match=state.value):
            store.delete(job_id)
        return
    assert store.delete(job_id).status is state
    with pytest.raises(JobNotFound):
        store.get(job_id)
    assert set(store.keyspace.client.scan_iter()) == {"reinmax:changes"}


def changes(attempt: Attempt) -> list[Callable[[], object]]:
    """Every way in which an attempt changes its job."""
    return [
        lambda: attempt.start(progress(0), {}, ENVIRONMENT),
        lambda: attempt.report({"loss": Series([1], [9.0])}, progress(1), {"loss": 9.0}),
        lambda: attempt.save(Checkpoint(epoch=attempt.epoch, step=1, files=())),
        lambda: attempt.succeed(RESULT, (), progress(100)),
        lambda: attempt.fail(Cause.ERROR, CRASH),
        attempt.stop,
        lambda: attempt.release(HANDED_BACK),
    ]


def test_an_attempt_that_lost_its_job_changes_nothing(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    stale = claimed(store, job_id, lease_s=0)
    assert [job.id for job in store.reap()] == [job_id]
    for state in ("queued", "claimed by another"):
        if state != "queued":
            started(store, job_id)
        before = store.get(job_id)
        for change in changes(stale):
            with pytest.raises(Fenced, match="another worker"):
                change()
        assert stale.beat(60) is Order.FENCED
        assert store.get(job_id) == before
    with pytest.raises(Fenced):
        stale.log("late")
    assert store.logs(job_id) == "" and store.metrics(job_id) == {}


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_a_job_that_has_ended_does_not_change(store: JobStore, submit: Submit, state: State) -> None:
    job_id = submit()
    attempt = bring(store, job_id, state)
    before = store.get(job_id)
    assert attempt is not None
    for change in changes(attempt):
        with pytest.raises(Fenced):
            change()
    assert store.get(job_id) == before and store.reap() == ()


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


def test_a_lost_job_that_was_to_be_cancelled_is(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    claimed(store, job_id, lease_s=0)
    store.cancel(job_id)
    assert store.reap() == ()
    assert store.get(job_id).status is State.CANCELLED


@pytest.mark.parametrize("cause", list(Cause))
def test_another_attempt_is_made_only_where_it_may_help(store: JobStore, submit: Submit, cause: Cause) -> None:
    job_id = submit(max_attempts=2)
    state = started(store, job_id).fail(cause, CRASH)
    job = store.get(job_id)
    assert job.status is state
    assert job.status_reason is not None
    assert (state is State.QUEUED) == (cause in (Cause.LOST, Cause.OOM))
    if state is State.QUEUED:
        assert job.error is None
        assert started(store, job_id).fail(cause, CRASH) is State.FAILED
    assert store.get(job_id).error == CRASH


def test_a_job_that_is_handed_back_keeps_its_attempts_and_its_place(store: JobStore, submit: Submit) -> None:
    first, second = submit(), submit()
    started(store, first).release(HANDED_BACK)
    job = store.get(first)
    assert (job.status, job.attempt, job.queue_position) == (State.QUEUED, 0, 1)
    assert store.get(second).queue_position == 2


def test_a_job_waits_for_a_worker_with_enough_memory(store: JobStore, submit: Submit) -> None:
    job_id = submit(hardware={"memory_gb": 32})
    assert store.claim(job_id, worker(), 60) is None
    assert store.claim(job_id, worker(memory_gb=64), 60) is not None


def test_idempotent_submissions(store: JobStore) -> None:
    first = store.submit(submission(), idempotency_key="key", fingerprint="one")
    again = store.submit(submission(), idempotency_key="key", fingerprint="one")
    assert (first.replayed, again.replayed) == (False, True)
    assert first.job == again.job
    with pytest.raises(IdempotencyMismatch, match="key"):
        store.submit(submission(seed=1), idempotency_key="key", fingerprint="two")
    assert store.submit(submission(), idempotency_key="other", fingerprint="one").job.id != first.job.id
    lifetime = store.keyspace.client.ttl("reinmax:idempotency:key")
    assert 86_390 <= int(str(lifetime)) <= 86_400


def points(*steps: int) -> dict[str, Series]:
    return {"loss": Series(list(steps), [float(step) for step in steps])}


def test_metrics_of_a_resumed_run_have_no_gap_and_no_repeat(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    attempt.report(points(1, 2), progress(2), {"loss": 2.0})
    attempt.log("first attempt\n")
    assert attempt.save(Checkpoint(epoch=1, step=3, files=())) == ()
    attempt.report(points(4, 5), progress(5), {"loss": 5.0})
    attempt.report(points(6), progress(6), {"loss": 6.0})
    attempt.fail(Cause.LOST, CRASH)

    claim = store.claim(job_id, worker(), 60)
    assert claim is not None and claim.checkpoints == (Checkpoint(epoch=1, step=3, files=()),)
    claim.attempt.start(progress(3), {"loss": 2.0}, ENVIRONMENT)
    assert store.get(job_id).metrics == {"loss": 2.0}
    claim.attempt.report(points(4, 5, 6, 7), progress(7), {"loss": 7.0})
    assert store.metrics(job_id)["loss"] == Series([1, 2, 4, 5, 6, 7], [1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    assert [event.data for event in store.events_after(job_id) if event.kind == "rewind"] == ["3"]
    assert store.logs(job_id) == "first attempt\n"


def test_a_report_that_is_repeated_counts_once(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    for _ in range(2):
        attempt.report(points(1, 2), progress(2), {"loss": 2.0})
    attempt.report(points(3), progress(3), {"loss": 3.0})
    assert store.metrics(job_id)["loss"].step == [1, 2, 3]


def test_a_run_that_begins_anew_takes_all_points_back(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    for step in range(1, 251):
        attempt.report(points(step), progress(step), {})
    attempt.fail(Cause.LOST, CRASH)
    started(store, job_id)
    assert store.metrics(job_id) == {}


def test_two_checkpoints_are_kept(store: JobStore, submit: Submit) -> None:
    attempt = started(store, submit())
    made = [Checkpoint(epoch=1, step=step, files=()) for step in (10, 20, 30)]
    assert [attempt.save(checkpoint) for checkpoint in made] == [(), (), (made[0],)]
    assert attempt.checkpoints() == (made[2], made[1])


def test_the_log_is_cut_at_its_limit_and_says_so(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    assert attempt.log("é\n")
    assert not attempt.log("x" * 2**20)
    assert not attempt.log("more")
    text = store.logs(job_id)
    assert text.startswith("é\nxxx") and text.endswith("[the log is cut here: it reached 1048576 bytes]\n")
    assert len(text) < 2**20 + 100


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_the_log_is_never_cut_within_a_character(store: JobStore, submit: Submit, offset: int) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    assert attempt.log("x" * (2**20 - 10 - offset))
    assert not attempt.log("é€𝄞" * 10)
    text, notice = store.logs(job_id).lstrip("x").split("\n", 1)
    assert ("é€𝄞" * 10).startswith(text) and 7 <= len(text.encode()) - offset <= 10
    assert "is cut here" in notice


def test_the_start_of_a_long_curve_is_kept(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    many = "for step = 1, 100500 do redis.call('XADD', KEYS[1], '*', 'metrics', '{}', 'step', step) end"
    store.keyspace.client.eval(many, 1, f"reinmax:events:{job_id}")
    attempt.report(points(100501), progress(100), {})
    assert store.events_after(job_id, limit=1)[0].kind == "state"


def test_a_forgotten_job_is_found_behind_many_that_fit_nowhere(store: JobStore, submit: Submit) -> None:
    for _ in range(120):
        submit(hardware={"memory_gb": 32})
    fitting = [submit() for _ in range(17)]
    assert [job.id for job in store.forgotten(worker(), older_than_s=0)] == fitting[:16]
    store.keyspace.client.zadd("reinmax:woken", {fitting[16]: 0})
    assert [job.id for job in store.forgotten(worker(), older_than_s=60)] == fitting[16:]


def test_a_forgotten_job_is_given_to_one_worker_that_fits(store: JobStore, submit: Submit) -> None:
    job_id, large, other = submit(), submit(hardware={"memory_gb": 32}), submit(hardware="cuda")
    assert store.forgotten(worker(), older_than_s=60) == ()
    assert [job.id for job in store.forgotten(worker(), older_than_s=0)] == [job_id]
    assert [job.id for job in store.forgotten(worker(memory_gb=64), older_than_s=0)] == [job_id, large]
    assert store.forgotten(worker(memory_gb=64), older_than_s=1) == ()
    gpu = worker(device="cuda", queues=("cuda", "any"), gpu_memory_gb=8)
    assert other in [job.id for job in store.forgotten(gpu, older_than_s=0)]


def test_workers_live_as_long_as_they_are_registered(store: JobStore) -> None:
    store.register(worker("b"), lifetime_s=60)
    store.register(worker("a"), lifetime_s=60)
    store.register(worker("dead"), lifetime_s=0.05)
    time.sleep(0.1)
    assert [found.name for found in store.workers()] == ["a", "b"]
    assert 0 < store.workers()[0].heartbeat_age_s < 5
    store.unregister("a")
    assert [found.name for found in store.workers()] == ["b"]


def test_a_job_says_that_no_worker_has_its_hardware(store: JobStore, submit: Submit) -> None:
    job_id = submit(hardware={"device": "cuda", "memory_gb": 8})
    reason = store.get(job_id).status_reason
    assert reason is not None and reason.code == "no_worker" and "no worker is alive" in reason.message
    store.register(worker(), lifetime_s=60)
    found = store.get(job_id)
    assert found.status_reason is not None
    assert "a GPU with 8 GB" in found.status_reason.message and "cpu with 16.0 GB" in found.status_reason.message
    gpu = worker("gpu", device="cuda", queues=("cuda", "any"), gpu_memory_gb=16.0)
    store.register(gpu, lifetime_s=60)
    served = store.get(job_id)
    assert served.status_reason is None and served.etag != found.etag


def test_every_change_of_a_record_changes_its_etag_and_is_announced(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    seen = {store.get(job_id).etag}

    def changed() -> Job:
        job = store.get(job_id)
        assert job.etag not in seen
        seen.add(job.etag)
        return job

    attempt = claimed(store, job_id)
    changed()
    attempt.start(progress(0), {}, ENVIRONMENT)
    changed()
    attempt.report({}, progress(1), {})
    changed()
    attempt.stop()
    version = changed().version
    _, last = store.keyspace.client.xrevrange("reinmax:changes", count=1)[0]  # type: ignore[index]
    assert last == {"job": job_id, "version": str(version)}


def test_a_store_without_a_server_says_so() -> None:
    store = JobStore.connect("redis://127.0.0.1:1/0")
    for ask in (lambda: store.get("job_a"), lambda: store.submit(submission()), lambda: store.metrics("job_a")):
        with pytest.raises(StoreUnavailable, match="does not serve"):
            ask()


def test_a_store_whose_server_is_full_takes_nothing_and_still_reads(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    store.keyspace.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            submit()
        assert store.get(job_id).status is State.QUEUED
    finally:
        store.keyspace.client.config_set("maxmemory", 0)
