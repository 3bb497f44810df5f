"""What a worker is given when it looks for work: the job that is next, and others to train beside it."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from celery import Celery

from tests.servers import line, own_server
from tests.worker.samples import submission, worker
from tests.worker.states import CRASH, claimed
from worker.app import wake
from worker.call import message_keys
from worker.jobs import Reason, State
from worker.keyspace import StoreUnavailable
from worker.store import JobStore
from worker.submission import HIGHEST_PRIORITY, Cause
from worker.sweep_request import SweepRequest
from worker.sweeps import SweepStore

Submit = Callable[..., str]
QUEUES = ("any", "cpu", "cuda")
BESIDE_FEWER = Reason(code="beside_fewer", message="memory ran out")


def take(store: JobStore, replicas: int = 1, token: str | None = None, **facts: Any) -> list[str]:
    claims = store.take(worker(**facts), 60, replicas=replicas, token=token)
    assert all(store.get(claim.job.id).status is State.STARTING for claim in claims)
    return [claim.job.id for claim in claims]


def test_jobs_are_taken_in_the_order_of_priority_and_submission_over_all_queues(
    store: JobStore, submit: Submit
) -> None:
    first, elsewhere, second, urgent, later = (
        submit(hardware="any", seed=0),
        submit(hardware="cuda"),
        submit(hardware="cpu", seed=1),
        submit(hardware="cpu", priority=1),
        submit(hardware="any", seed=2),
    )
    assert [take(store) for _ in range(5)] == [[urgent], [first], [second], [later], []]
    assert store.get(elsewhere).status is State.QUEUED


def test_a_job_that_was_lost_is_the_next(store: JobStore, submit: Submit) -> None:
    lost, waiting = submit(), submit()
    claimed(store, lost)
    store.keyspace.client.zadd("reinmax:leases", {lost: 0})
    assert [job.id for job in store.reap()] == [lost]
    assert [take(store), take(store)] == [[lost], [waiting]]


def test_a_job_that_does_not_fit_hides_none_behind_it(store: JobStore, submit: Submit) -> None:
    for _ in range(150):
        submit(hardware={"device": "cpu", "memory_gb": 17})
    fits = submit(hardware={"device": "cpu", "memory_gb": 15})
    assert take(store) == [fits]
    assert take(store) == []


def test_the_best_that_fits_is_taken_whatever_it_needs_and_wherever_it_waits(store: JobStore, submit: Submit) -> None:
    pick, waiting = Random(0).choice, []
    for number in range(40):
        priority, memory_gb, queue = pick((0, 1, 9)), pick((0, 4, 16, 16.5, 1e6)), pick(QUEUES)
        hardware = {"device": queue, "memory_gb": memory_gb}
        waiting.append((-priority, submit(seed=number, priority=priority, hardware=hardware), memory_gb, queue))
    mine = sorted(job for job in waiting if job[2] <= 16 and job[3] != "cuda")
    assert [take(store) for _ in range(len(mine) + 1)] == [*([job_id] for _, job_id, *_ in mine), []]
    others = sorted(set(waiting) - set(mine))
    assert [take(store, memory_gb=2e6, queues=QUEUES) for _ in others] == [[job_id] for _, job_id, *_ in others]
    assert store.keyspace.names("queued:") == ()


def test_jobs_that_do_not_fit_are_not_even_looked_at(store: JobStore, submit: Submit) -> None:
    for _ in range(150):
        submit(hardware={"memory_gb": 17})
    before = looks(store)
    assert take(store) == [] and store.forgotten(worker(), 0) == () and store.uncalled(worker()) is None
    assert looks(store) == before


def looks(store: JobStore) -> int:
    """How often fields of jobs were read."""
    statistics: Any = store.keyspace.client.info("commandstats")
    return int(statistics["cmdstat_hmget"]["calls"])


def test_jobs_that_an_older_version_queued_or_took_are_seen_at_once(store: JobStore, submit: Submit) -> None:
    client: Any = store.keyspace.client
    jobs = [submit(seed=seed, packing=False) for seed in range(4)]
    client.delete("reinmax:queued:any:needs", "reinmax:queued:any:0.0")
    assert [job.id for job in store.forgotten(worker(), 0)] == jobs
    client.delete("reinmax:queued:any:needs", "reinmax:queued:any:0.0")
    assert take(store) == jobs[:1]
    # It has taken one and queued another, so that there are as many here as there.
    client.hset(f"reinmax:job:{jobs[1]}", "status", "cancelled")
    client.zrem("reinmax:queued:any", jobs[1])
    client.zrem("reinmax:queued:any:0.0", jobs[3])
    assert [take(store) for _ in range(3)] == [jobs[2:3], jobs[3:], []]
    assert store.keyspace.names("queued:") == ()


def test_jobs_that_differ_in_seed_learning_rate_and_tau_are_taken_together(store: JobStore, submit: Submit) -> None:
    alike = [
        submit(seed=1),
        submit(seed=2, name="other", labels={"study": "a"}, max_attempts=7),
        submit(optimizer={"name": "adam", "lr": 0.5}),
        submit(estimator={"name": "reinmax", "tau": 1.7}),
    ]
    others = [
        submit(steps=99),
        submit(priority=1),
        submit(hardware="cpu"),
        submit(timeout_s=60),
        submit(packing=False),
        submit(optimizer={"name": "adam", "betas": [0.5, 0.9]}),
        submit(estimator="rloo"),
        submit(estimator="rloo", seed=1),
    ]
    taken = [take(store, replicas=16) for _ in range(9)]
    assert taken == [[others[1]], alike, *([other] for other in (others[0], *others[2:]))]
    assert take(store) == []


def test_no_more_are_taken_together_than_may_be(store: JobStore, submit: Submit) -> None:
    jobs = [submit(seed=seed) for seed in range(8)]
    assert take(store, replicas=1) == jobs[:1]
    assert take(store, replicas=3) == jobs[1:4]
    assert take(store, replicas=16) == jobs[4:]


def test_jobs_taken_together_fit_into_the_memory_together(store: JobStore, submit: Submit) -> None:
    jobs = [submit(seed=seed, hardware={"device": "cpu", "memory_gb": 5}) for seed in range(5)]
    assert take(store, replicas=16, memory_gb=16.0) == jobs[:3]
    assert take(store, replicas=16, memory_gb=5.0) == jobs[3:4]


def test_workers_without_a_job_share_what_waits_for_them(store: JobStore, submit: Submit) -> None:
    for name, queues in (("a", ("cpu", "any")), ("b", ("any",)), ("c", ("cuda",)), ("busy", ("cpu", "any"))):
        store.register(worker(name, queues=queues), 60)
    busy = submit(hardware="cpu")
    assert take(store, name="busy", replicas=16) == [busy]
    jobs = [submit(seed=seed) for seed in range(9)]
    assert take(store, name="a", replicas=16) == jobs[:5]
    assert take(store, name="b", replicas=16) == jobs[5:]


def test_where_other_jobs_wait_for_the_other_workers_one_takes_all_of_a_form(store: JobStore, submit: Submit) -> None:
    for name in ("a", "b"):
        store.register(worker(name), 60)
    jobs = [submit(seed=seed) for seed in range(4)]
    other = submit(steps=99)
    assert take(store, name="a", replicas=16) == jobs
    assert take(store, name="b", replicas=16) == [other]


def test_the_seeds_of_a_cell_are_taken_together(store: JobStore) -> None:
    base = {"task": "polynomial", "estimator": "reinmax", "steps": 100}
    request = {"base": base, "grid": {"task.p": [1.5, 2.0], "optimizer.lr": [0.1, 0.2]}, "seeds": 3}
    sweeps = SweepStore(store)
    jobs = sweeps.jobs(sweeps.submit(SweepRequest.model_validate(request).plan()).sweep.id)
    taken = [take(store, replicas=16) for _ in range(3)]
    assert [len(together) for together in taken] == [6, 6, 0] and sorted([*taken[0], *taken[1]]) == sorted(jobs)


def test_a_job_that_was_too_much_beside_others_is_taken_with_fewer(store: JobStore, submit: Submit) -> None:
    jobs = [submit(seed=seed) for seed in range(6)]
    for claim in store.take(worker(), 60, replicas=4):
        assert claim.attempt.release(BESIDE_FEWER, 2) is State.QUEUED
    assert store.get(jobs[0]).attempt == 0
    assert take(store, replicas=4) == jobs[:2]
    assert take(store, replicas=4) == jobs[2:4]
    assert take(store, replicas=4) == jobs[4:]


def test_jobs_that_were_lost_together_are_tried_with_half_as_many_and_at_last_alone(
    store: JobStore, submit: Submit
) -> None:
    jobs = [submit(seed=seed) for seed in range(16)]
    assert [taken_and_lost(store) for _ in range(2)] == [jobs, jobs[:8]]
    assert [store.get(job_id).attempt for job_id in jobs] == [2] * 8 + [1] * 8
    assert [take(store, replicas=16) for _ in range(9)] == [*([job_id] for job_id in jobs[:8]), jobs[8:]]


def taken_and_lost(store: JobStore) -> list[str]:
    jobs = take(store, replicas=16)
    store.keyspace.client.zadd("reinmax:leases", dict.fromkeys(jobs, 0))
    assert [job.id for job in store.reap()] == jobs
    return jobs


@pytest.mark.parametrize(("cause", "expected"), [(Cause.LOST, [1, 1]), (Cause.OOM, [2])])
def test_only_what_may_be_due_to_the_others_makes_a_pack_smaller(
    store: JobStore, submit: Submit, cause: Cause, expected: list[int]
) -> None:
    jobs = [submit(seed=seed) for seed in range(2)]
    for claim in store.take(worker(), 60, replicas=16):
        assert claim.attempt.fail(cause, CRASH) is State.QUEUED
    assert [len(take(store, replicas=16)) for _ in expected] == expected
    for job_id in jobs:
        assert store.attempt(job_id, 2).fail(cause, CRASH) is State.QUEUED
    assert take(store, name="alone", replicas=1) == jobs[:1]
    assert store.attempt(jobs[0], 3).fail(cause, CRASH) is State.FAILED


def test_a_job_that_was_lost_alone_may_be_taken_with_others(store: JobStore, submit: Submit) -> None:
    lost, other = submit(seed=0), submit(seed=1)
    claim = store.take(worker(), 60)[0]
    assert claim.attempt.fail(Cause.LOST, CRASH) is State.QUEUED
    assert take(store, replicas=16) == [lost, other]


def test_a_worker_is_to_be_called_where_jobs_wait_and_no_message_lies(
    store: JobStore, submit: Submit, celery: Celery
) -> None:
    late, large, elsewhere = submit(priority=3), submit(hardware={"memory_gb": 17}), submit(hardware="cuda")
    first, other = submit(priority=5), submit(hardware="cpu")
    assert store.uncalled(worker()) == (other, "cpu", 0)
    assert store.uncalled(worker(), "any") == (first, "any", 5)
    assert store.forgotten(worker(), 60) == (), "somebody was woken for both"
    for number in range(HIGHEST_PRIORITY + 1):
        store.keyspace.client.delete(*message_keys("any"))
        wake(celery, store.submit(submission(priority=number)).job)
        assert store.uncalled(worker(), "any") == (other, "cpu", 0)
    assert store.uncalled(worker(queues=("any",))) is None
    assert {store.get(job_id).status for job_id in (late, large, elsewhere)} == {State.QUEUED}


def test_jobs_wait_in_the_queue_of_their_form_whenever_they_wait(store: JobStore, submit: Submit) -> None:
    paused, cancelled, failed = (submit(seed=seed) for seed in range(3))
    store.pause(paused)
    store.cancel(cancelled)
    assert take(store, replicas=16) == [failed]
    store.attempt(failed, 1).stop()
    for bring, job_id in ((store.resume, paused), (store.retry, cancelled), (store.retry, failed)):
        bring(job_id)
    assert take(store, replicas=16) == [paused, cancelled, failed]
    assert store.keyspace.names("queued:") == ()


def test_a_job_of_an_older_version_is_taken_alone(store: JobStore, submit: Submit) -> None:
    jobs = [submit(seed=seed) for seed in range(2)]
    for job_id in jobs:
        store.pause(job_id)
        store.keyspace.client.hdel(f"reinmax:job:{job_id}", "form")
        store.resume(job_id)
    assert [take(store, replicas=16) for _ in range(3)] == [jobs[:1], jobs[1:], []]


def test_one_that_cannot_be_read_fails_and_is_not_in_the_way(store: JobStore, submit: Submit) -> None:
    jobs = [submit(seed=seed) for seed in range(4)]
    for job_id in (jobs[0], jobs[2]):
        store.keyspace.client.hset(f"reinmax:job:{job_id}", "request", "{}")
    assert take(store) == [jobs[1]]
    assert take(store, replicas=16) == [jobs[3]]
    assert store.counts()[State.FAILED] == 2


@pytest.mark.parametrize("what", ["request", "answer"])
def test_taking_is_repeated_with_its_token(what: str, tmp_path: Any) -> None:
    with own_server(tmp_path) as server, line(server.url) as cut:
        near, far = JobStore.connect(server.url), JobStore.connect(cut.url)
        near.take(worker(), 60)  # the server knows the script from here on
        jobs = [near.submit(submission(seed=seed)).job.id for seed in range(5)]
        cut.lose("request" if what == "request" else "answer")
        with pytest.raises(StoreUnavailable):
            far.take(worker(), 60, replicas=3, token="mine")
        for _ in range(2):
            claims = far.take(worker(), 60, replicas=3, token="mine")
            assert sorted(claim.job.id for claim in claims) == jobs[:3]
            assert {claim.attempt.epoch for claim in claims} == {1}
        assert take(near, replicas=16) == jobs[3:]
        for store in (near, far):
            store.keyspace.close()
