"""The contract of the job store, against the real server: what it takes, keeps, finds and gives back."""

import time
from collections.abc import Callable
from uuid import UUID

import pytest

from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from tests.worker.states import CRASH, everything, started
from worker.attempt import Checkpoint
from worker.jobs import State
from worker.series import Series
from worker.store import IdempotencyMismatch, JobNotFound, JobStore, StoreUnavailable
from worker.submission import Cause

Submit = Callable[..., str]


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
    requests = (store.cancel, store.pause, store.resume, store.retry, store.delete)
    for ask in (store.get, store.metrics, store.logs, store.artifacts, *requests):
        with pytest.raises(JobNotFound, match="job_unknown"):
            ask("job_unknown")
    assert store.claim("job_unknown", worker(), 1) is None
    assert store.events_after("job_unknown") == ()
    assert everything(store) == {}


def test_the_queue_is_ordered_by_priority_then_submission(store: JobStore, submit: Submit) -> None:
    ids = [submit(priority=priority) for priority in (0, 9, 5, 9, 0)]
    assert [store.get(job_id).queue_position for job_id in ids] == [4, 1, 3, 2, 5]


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
