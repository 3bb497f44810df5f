"""How jobs are written down: how small those get that have ended, and what happens to a record that cannot be read."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.worker.finished import ENVIRONMENT, LOSSES, WHOLE, files, run_like_a_worker
from tests.worker.samples import progress, submission, worker
from tests.worker.states import CRASH, RESULT, everything, started
from worker import shown
from worker.attempt import Checkpoint
from worker.jobs import Failure, State
from worker.listing import Filters
from worker.refusal import JobNotFound, NotAllowed, RecordUnreadable
from worker.series import Series
from worker.store import JobStore
from worker.submission import Cause

Submit = Callable[..., str]
MOST_BYTES = 4096
JOBS = 600


def memory_of_jobs(store: JobStore) -> int:
    """Bytes that the server uses, but for the stream of changes, which forgets old ones."""
    client: Any = store.keyspace.client
    return int(client.info("memory")["used_memory"]) - int(client.memory_usage(store.changes, samples=0))


@pytest.fixture
def eager_store(store: JobStore) -> Any:
    """The store on a server on whose disk nobody waits."""
    client: Any = store.keyspace.client
    client.config_set("appendfsync", "no")
    client.execute_command("ACL", "SETUSER", "default", "-waitaof")
    yield store
    client.execute_command("ACL", "SETUSER", "default", "+waitaof")
    client.config_set("appendfsync", "always")


def test_a_job_that_has_ended_takes_little_memory_beside_its_metrics(eager_store: JobStore) -> None:
    run_like_a_worker(eager_store, seed=0)
    before = memory_of_jobs(eager_store)
    for seed in range(JOBS):
        run_like_a_worker(eager_store, seed)
    assert (memory_of_jobs(eager_store) - before) / JOBS < MOST_BYTES


def test_what_is_folded_reads_back_whole(store: JobStore) -> None:
    job = store.get(run_like_a_worker(store, seed=7))
    assert (job.status, job.environment, job.progress) == (State.SUCCEEDED, ENVIRONMENT, WHOLE)
    assert (job.spec.seed, job.labels, job.worker, job.attempt) == (7, {"study": "table-2"}, "machine-4711", 1)
    assert job.metrics == LOSSES and job.started_at and job.finished_at and job.queue == "any"
    assert [file.name for file in store.artifacts(job.id)][:2] == ["model.safetensors", "result.json"]
    assert store.list(Filters(), 5).jobs == (job,)


def test_events_keep_their_ids_and_order_when_a_job_ends(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    attempt = started(store, job_id)
    attempt.report({"loss": Series([1], [0.5])}, progress(1), {"loss": 0.5})
    attempt.save(Checkpoint(epoch=1, step=1, files=files("checkpoint-1-", "model.safetensors")))
    before = store.events_after(job_id)
    attempt.succeed(RESULT, (), progress(100))
    attempt.log("the last words\n")
    after = store.events_after(job_id)
    assert after[: len(before)] == before
    assert [event.kind for event in store.events_after(job_id, before[-1].id)] == ["state", "log"]
    assert [event.data for event in after if event.kind == "checkpoint"] == ['{"step":1}']


def test_a_retried_job_has_all_that_it_had(store: JobStore, submit: Submit) -> None:
    job_id = submit(priority=3, max_attempts=5, hardware={"memory_gb": 2})
    attempt = started(store, job_id)
    checkpoint = Checkpoint(epoch=1, step=10, files=files("checkpoint-10-", "model.safetensors"))
    attempt.save(checkpoint)
    running = store.get(job_id)
    attempt.fail(Cause.ERROR, CRASH)
    store.retry(job_id)
    assert not [key for key in everything(store) if key.startswith("reinmax:environment:")]
    claim = store.claim(job_id, worker(), 60)
    assert claim is not None and claim.checkpoints == (checkpoint,)
    kept = {"spec", "priority", "max_attempts", "hardware", "environment", "started_at", "created_at"}
    assert claim.job.model_dump(include=kept) == running.model_dump(include=kept)


def test_an_environment_is_kept_once_and_as_long_as_a_job_has_it(store: JobStore) -> None:
    jobs = [run_like_a_worker(store, seed) for seed in range(3)]
    for left in (2, 1, 0):
        store.delete(jobs[left])
        kept = [value for key, value in everything(store).items() if key.startswith("reinmax:environment:")]
        assert [value["jobs"] for value in kept] == ([str(left)] if left else [])


def test_a_deleted_job_leaves_nothing_not_even_its_idempotency_key(store: JobStore) -> None:
    job_id = store.submit(submission(labels={"a": "b"}), idempotency_key="once").job.id
    store.cancel(job_id)
    store.delete(job_id)
    assert set(everything(store)) <= {"reinmax:changes", "reinmax:disk"}


def test_a_key_that_means_another_job_by_now_outlives_the_first(store: JobStore) -> None:
    first = store.submit(submission(), idempotency_key="key").job.id
    store.cancel(first)
    store.keyspace.client.delete("reinmax:idempotency:key")
    second = store.submit(submission(), idempotency_key="key").job.id
    store.delete(first)
    assert store.submit(submission(), idempotency_key="key").job.id == second


def test_a_job_whose_files_are_being_removed_cannot_come_back(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    with pytest.raises(NotAllowed, match="queued and cannot be deleted"):
        store.condemn(job_id)
    started(store, job_id).fail(Cause.ERROR, CRASH)
    store.condemn(job_id)
    with pytest.raises(NotAllowed, match="failed and cannot be retried"):
        store.retry(job_id)
    with pytest.raises(JobNotFound):
        store.condemn("job_unknown")


def of_the_first_version(store: JobStore, status: str) -> str:
    """A record as the first version wrote it: no format, nothing folded, files as objects. Returns its id."""
    job_id = "job_01993b5e7c6f7a3d8b1c2d3e4f506172"
    request = json.loads(submission(labels={"study": "old"}).model_dump_json())
    del request["max_attempts_by_cause"], request["evaluate_every"]
    fields = {
        "request": json.dumps(request),
        "queue": "any",
        "priority": "0",
        "memory_gb": "0.0",
        "max_attempts": "3",
        "attempt": "1",
        "epoch": "1",
        "version": "9",
        "status": status,
        "reason": "",
        "created": "1795284667112",
    }
    if status == "succeeded":
        rows = [file.model_dump() for file in files("", "model.safetensors")]
        fields |= {"result": RESULT.model_dump_json(), "artifacts": json.dumps({"epoch": 1, "files": rows})}
        fields |= {"progress": WHOLE.model_dump_json(), "started": "1795284668020", "finished": "1795284674538"}
        fields |= {"environment": ENVIRONMENT.model_dump_json(), "worker": "old", "log_bytes": "0"}
    client: Any = store.keyspace.client
    client.hset(f"reinmax:job:{job_id}", mapping=fields)
    client.xadd(f"reinmax:events:{job_id}", {"state": '{"status":"queued","reason":null}'})
    indexes = ("task:polynomial", "estimator:reinmax", "label:study=old", f"status:{status}")
    for name in ("jobs", *(f"index:{index}" for index in indexes)):
        client.zadd(f"reinmax:{name}", {job_id: 0})
    if status == "queued":
        client.zadd("reinmax:queued:any", {job_id: 9e13})
        client.zadd("reinmax:woken", {job_id: 0})
    return job_id


def test_a_job_of_the_first_version_reads_as_it_did(store: JobStore) -> None:
    job_id = of_the_first_version(store, "succeeded")
    job = store.get(job_id)
    assert (job.status, job.result, job.environment, job.labels) == (
        State.SUCCEEDED,
        RESULT,
        ENVIRONMENT,
        {"study": "old"},
    )
    assert store.artifacts(job_id) == files("", "model.safetensors")
    assert store.locate(job_id, "model.safetensors") == f"{job_id}/1/model.safetensors"
    assert store.list(Filters(labels={"study": "old"}), 9).jobs == (job,)
    store.delete(job_id)
    assert set(everything(store)) <= {"reinmax:changes", "reinmax:disk"}


def test_a_job_of_the_first_version_runs_to_its_end(store: JobStore) -> None:
    job_id = of_the_first_version(store, "queued")
    claim = store.claim(job_id, worker(), 60)
    assert claim is not None
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    claim.attempt.fail(Cause.ERROR, CRASH)
    assert store.retry(job_id).status is State.QUEUED
    started(store, job_id).succeed(RESULT, files("", "model.safetensors"), progress(100))
    assert (store.get(job_id).status, len(store.artifacts(job_id))) == (State.SUCCEEDED, 1)


def spoil(store: JobStore, job_id: str, how: str) -> None:
    """Turns a record into one as another version might have written it, or a damaged one."""
    client: Any = store.keyspace.client
    name = f"reinmax:job:{job_id}"
    match how:
        case "newer":
            client.hset(name, "format", "3")
        case "no number":
            client.hset(name, "format", "three")
        case "no JSON":
            client.hset(name, "request", "{")
        case "renamed estimator":
            client.hset(name, "request", '{"task":"polynomial","estimator":"gone","steps":1}')
        case "field missing":
            client.hdel(name, "request", "memory_gb", "max_attempts", "created")


SPOILT = {
    "newer": "format 3, but this version of the service reads formats 1 to 2. Update API and workers",
    "no number": "format three, but",
    "no JSON": "JSON.*Submit the job anew",
    "renamed estimator": "estimator",
    "field missing": "request",
}
EVERY_DAMAGE = pytest.mark.parametrize("how", SPOILT)


@EVERY_DAMAGE
def test_a_record_that_cannot_be_read_says_what_it_is_and_what_to_do(store: JobStore, submit: Submit, how: str) -> None:
    job_id = submit()
    spoil(store, job_id, how)
    for ask in (store.get, store.cancel):
        with pytest.raises(
            RecordUnreadable, match=f"the record of job {job_id} cannot be read: .*{SPOILT[how]}.*delete it"
        ):
            ask(job_id)


@EVERY_DAMAGE
def test_a_list_leaves_out_what_cannot_be_read(
    store: JobStore, submit: Submit, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [submit(seed=seed) for seed in range(5)]
    spoil(store, ids[2], how)
    with caplog.at_level(logging.WARNING):
        first = store.list(Filters(task="polynomial"), 3)
        second = store.list(Filters(task="polynomial"), 3, first.next_cursor)
    assert [job.id for job in (*first.jobs, *second.jobs)] == [ids[4], ids[3], ids[1], ids[0]]
    assert ids[2] in caplog.text


@EVERY_DAMAGE
def test_a_job_that_cannot_be_read_fails_when_it_is_claimed(store: JobStore, submit: Submit, how: str) -> None:
    job_id, other = submit(), submit()
    spoil(store, job_id, how)
    assert [job.id for job in store.forgotten(worker(), older_than_s=0)] == [other]
    assert store.claim(job_id, worker(), 60) is None
    fields: Any = shown.fields(store.keyspace, job_id)
    assert fields["status"] == "failed"
    assert Failure.model_validate_json(fields["error"]).type == "RecordUnreadable"
    assert store.claim(other, worker(), 60) is not None


@EVERY_DAMAGE
def test_lost_attempts_at_a_job_that_cannot_be_read_do_not_keep_others_from_being_found(
    store: JobStore, submit: Submit, how: str
) -> None:
    ids = submit(), submit()
    for job_id in ids:
        assert store.claim(job_id, worker(), 0.001) is not None
    spoil(store, ids[0], how)
    found: set[str] = set()
    while ids[1] not in found:
        found |= {job.id for job in store.reap()}
    assert found == {ids[1]}


@EVERY_DAMAGE
def test_what_cannot_be_read_can_be_deleted(store: JobStore, submit: Submit, how: str) -> None:
    job_id = submit(labels={"study": "x*"})
    spoil(store, job_id, how)
    with pytest.raises(RecordUnreadable):
        store.delete(job_id)
    with pytest.raises(RecordUnreadable):
        store.cancel(job_id)
    store.condemn(job_id)
    store.delete(job_id)
    assert set(everything(store)) <= {"reinmax:changes", "reinmax:disk"}


def test_a_folded_record_that_is_damaged_can_be_told_and_deleted(store: JobStore, submit: Submit) -> None:
    job_id = submit()
    store.cancel(job_id)
    client: Any = store.keyspace.client
    client.hset(f"reinmax:job:{job_id}", "folded", "request 99999999 {")
    with pytest.raises(RecordUnreadable):
        store.get(job_id)
    assert store.list(Filters(), 5).jobs == ()
    store.delete(job_id)
    assert set(everything(store)) <= {"reinmax:changes", "reinmax:disk"}
