"""The life cycle of a job, against the real server: which change every state allows, refuses and leads to."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.worker.samples import ENVIRONMENT, progress, worker
from tests.worker.states import (
    CRASH,
    RESULT,
    STANDINGS,
    assert_it_is_found_only_where_it_stands,
    bring_to,
    claimed,
    everything,
    standing_of,
    started,
)
from worker.attempt import Checkpoint, Order
from worker.jobs import TERMINAL, Artifact, Job, State
from worker.series import Series
from worker.store import ArtifactNotFound, JobNotFound, JobStore, NotAllowed
from worker.submission import Cause

Submit = Callable[..., str]


WAYS: Final[dict[str, dict[str, str]]] = {
    "pause": {
        "queued": "paused",
        "starting": "starting/pause",
        "running": "running/pause",
        "paused": "paused",
        "starting/pause": "starting/pause",
        "running/pause": "running/pause",
    },
    "resume": {"paused": "queued", "starting/pause": "starting", "running/pause": "running"},
    "retry": {"failed": "queued", "cancelled": "queued"},
    "cancel": {
        "queued": "cancelled",
        "starting": "starting/cancel",
        "running": "running/cancel",
        "paused": "cancelled",
        "cancelled": "cancelled",
        "starting/pause": "starting/cancel",
        "running/pause": "running/cancel",
        "starting/cancel": "starting/cancel",
        "running/cancel": "running/cancel",
    },
}
"""What requests lead to from where they are allowed; everywhere else they are refused."""


@pytest.mark.parametrize("standing", STANDINGS)
@pytest.mark.parametrize("action", WAYS)
def test_a_request_is_granted_or_refused_by_where_the_job_stands(
    store: JobStore, submit: Submit, action: str, standing: str
) -> None:
    job_id = submit()
    bring_to(store, job_id, standing)
    before = everything(store)
    request: Callable[[str], Job] = getattr(store, action)
    if standing not in WAYS[action]:
        state = standing.partition("/")[0]
        with pytest.raises(NotAllowed, match=f"is {state}.* and cannot be {action[:4]}") as refusal:
            request(job_id)
        assert refusal.value.job == store.get(job_id)
        assert everything(store) == before
        return
    job = request(job_id)
    assert job == store.get(job_id)
    assert standing_of(store, job_id) == WAYS[action][standing]
    assert (everything(store) == before) == (WAYS[action][standing] == standing)
    assert_it_is_found_only_where_it_stands(store, job)


@pytest.mark.parametrize("standing", STANDINGS)
def test_only_a_queued_job_can_be_claimed(store: JobStore, submit: Submit, standing: str) -> None:
    job_id = submit()
    bring_to(store, job_id, standing)
    before = everything(store)
    assert (store.claim(job_id, worker("worker-2"), 60) is not None) == (standing == "queued")
    assert (everything(store) == before) == (standing != "queued")


@pytest.mark.parametrize("standing", STANDINGS)
def test_only_an_ended_job_can_be_deleted(store: JobStore, submit: Submit, standing: str) -> None:
    job_id = submit(labels={"study": "x"})
    bring_to(store, job_id, standing)
    before = everything(store)
    state = State(standing.partition("/")[0])
    if state not in TERMINAL:
        with pytest.raises(NotAllowed, match=state.value):
            store.delete(job_id)
        assert everything(store) == before
        return
    store.delete(job_id)
    with pytest.raises(JobNotFound):
        store.get(job_id)
    assert set(everything(store)) <= {"reinmax:changes", "reinmax:disk"}


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_request_outlives_the_start_of_the_training_process(store: JobStore, submit: Submit, action: str) -> None:
    job_id = submit()
    attempt = claimed(store, job_id)
    requested = getattr(store, action)(job_id).status_reason
    assert requested is not None and requested.code == f"{action}_requested"
    attempt.start(progress(0), {}, ENVIRONMENT)
    job = store.get(job_id)
    assert (job.status, job.status_reason) == (State.RUNNING, requested)
    assert attempt.beat(60) is Order(action)


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
    assert states_told(store, job_id) == ["queued", "starting", "running", "succeeded"]


def states_told(store: JobStore, job_id: str) -> list[str]:
    return [event.data.split('"')[3] for event in store.events_after(job_id) if event.kind == "state"]


def checkpoint(epoch: int, step: int) -> Checkpoint:
    return Checkpoint(epoch=epoch, step=step, files=())


def test_a_resumed_job_goes_on_from_its_checkpoint_in_its_old_place(store: JobStore, submit: Submit) -> None:
    first, second = submit(), submit()
    attempt = started(store, first)
    attempt.report({"loss": Series([10], [0.5])}, progress(10), {"loss": 0.5})
    store.pause(first)
    attempt.save(checkpoint(1, 10))
    assert attempt.pause() is State.PAUSED
    assert attempt.log("the last words\n")
    job = store.get(first)
    assert (job.attempt, job.progress.step, job.metrics) == (0, 10, {"loss": 0.5})
    assert job.status_reason is not None and job.status_reason.code == "paused"
    assert store.get(second).queue_position == 1

    resumed = store.resume(first)
    assert (resumed.queue_position, resumed.status_reason and resumed.status_reason.code) == (1, "no_worker")
    claim = store.claim(first, worker("worker-2"), 60)
    assert claim is not None
    assert (claim.job.attempt, claim.attempt.epoch, claim.checkpoints) == (1, 2, (checkpoint(1, 10),))
    claim.attempt.start(progress(10), {"loss": 0.5}, ENVIRONMENT)
    assert store.metrics(first)["loss"] == Series([10], [0.5])
    assert store.logs(first) == "the last words\n"
    told = ["queued", "starting", "running", "running", "paused", "queued", "starting", "running"]
    assert states_told(store, first) == told


def test_a_pause_that_is_withdrawn_leaves_no_trace(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    before = store.get(job_id)
    store.pause(job_id)
    job = store.resume(job_id)
    assert job == before.model_copy(update={"version": job.version})
    assert attempt.beat(60) is Order.CONTINUE


def test_a_pause_that_is_withdrawn_too_late_becomes_a_new_start(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    store.pause(job_id)
    assert attempt.beat(60) is Order.PAUSE
    store.resume(job_id)
    assert attempt.pause() is State.QUEUED
    reason = store.keyspace.client.hget(f"reinmax:job:{job_id}", "reason")
    assert '"resumed"' in str(reason)
    assert store.claim(job_id, worker(), 60) is not None


def test_a_retried_job_has_all_its_attempts_again_and_its_checkpoints(store: JobStore, submit: Submit) -> None:
    job_id = submit(max_attempts=2)
    for round_number in (1, 2):
        for attempt_number in (1, 2):
            attempt = started(store, job_id)
            assert attempt.epoch == 2 * (round_number - 1) + attempt_number
            assert store.get(job_id).attempt == attempt_number
            attempt.save(checkpoint(attempt.epoch, 10 * attempt.epoch))
            attempt.fail(Cause.LOST, CRASH)
        assert store.get(job_id).status is State.FAILED
        job = store.retry(job_id)
        assert (job.status, job.attempt, job.error, job.finished_at) == (State.QUEUED, 0, None, None)
    claim = store.claim(job_id, worker(), 60)
    assert claim is not None and claim.checkpoints == (checkpoint(4, 40), checkpoint(3, 30))


def test_a_job_that_was_cancelled_in_its_queue_can_be_retried(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    submitted = store.get(job_id)
    store.cancel(job_id)
    job = store.retry(job_id)
    assert job == submitted.model_copy(update={"version": job.version})


def test_every_change_of_a_record_changes_its_etag_and_is_announced(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = claimed(store, job_id)
    seen = {store.get(job_id).etag}
    changes: list[Callable[[], object]] = [
        lambda: attempt.start(progress(0), {}, ENVIRONMENT),
        lambda: attempt.report({}, progress(1), {}),
        lambda: store.pause(job_id),
        lambda: store.resume(job_id),
        lambda: store.pause(job_id),
        attempt.pause,
        lambda: store.cancel(job_id),
        lambda: store.retry(job_id),
    ]
    for change in changes:
        change()
        job = store.get(job_id)
        assert job.etag not in seen
        seen.add(job.etag)
        _, last = store.keyspace.client.xrevrange("reinmax:changes", count=1)[0]  # type: ignore[index]
        assert last == {"job": job_id, "version": str(job.version)}
