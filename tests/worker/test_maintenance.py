"""What a worker does beside its job, through outages and with messages that get lost."""

import time
from collections.abc import Callable

import pytest
from celery import Celery

from tests.worker.samples import submission, worker
from worker.app import RUN_JOB, wake
from worker.attempt import Order
from worker.jobs import Job, State
from worker.maintenance import DEAF_AFTER, Maintenance
from worker.store import JobStore


class Office:
    """A maintenance thread, and what it asked for."""

    def __init__(self, store: JobStore, *, job: str | None = None, lease_s: float = 0.2) -> None:
        self.worker = worker(job=job)
        self.woken: list[str] = []
        self.resigned = 0

        def note(job: Job) -> None:
            self.woken.append(job.id)

        def resign() -> None:
            self.resigned += 1

        self.maintenance = Maintenance(store, note, lambda: self.worker, resign, lease_s, forgotten_after_s=0.05)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_is_registered_while_it_lives(store: JobStore) -> None:
    with Office(store).maintenance:
        wait_for(store.workers)
    assert store.workers() == ()


def test_lost_attempts_are_ended_and_others_woken(store: JobStore, submit: Callable[..., str]) -> None:
    job_id, office = submit(), Office(store, job="another")
    store.claim(job_id, worker("lost"), 0.01)
    with office.maintenance:
        wait_for(lambda: office.woken == [job_id])
    assert store.get(job_id).status is State.QUEUED


def test_a_worker_that_starts_just_after_an_outage_lets_the_living_say_so_first(
    store: JobStore, submit: Callable[..., str]
) -> None:
    job_id, office = submit(), Office(store, job="another", lease_s=3600.0)
    claim = store.claim(job_id, worker("alive"), 0.01)
    assert claim is not None
    with office.maintenance:
        wait_for(store.workers)
        time.sleep(0.2)
        assert store.get(job_id).status is State.STARTING
        assert claim.attempt.beat(60) is Order.CONTINUE


def test_an_idle_worker_wakes_for_forgotten_jobs_until_it_finds_itself_deaf(
    store: JobStore, submit: Callable[..., str]
) -> None:
    job_id, office = submit(), Office(store)
    with office.maintenance:
        wait_for(lambda: office.resigned)
    assert office.woken[:DEAF_AFTER] == [job_id] * DEAF_AFTER


def test_a_queue_that_a_worker_was_told_to_leave_alone_does_not_make_it_deaf(
    store: JobStore, submit: Callable[..., str]
) -> None:
    submit()
    office = Office(store)
    office.worker = worker(queues=())
    with office.maintenance:
        time.sleep(0.6)
        assert office.woken == []
        for queues in [("any",), ("cpu", "any")] * DEAF_AFTER:
            office.worker = worker(queues=queues)
            seen = len(office.woken)
            wait_for(lambda seen=seen: len(office.woken) > seen)
    assert office.resigned == 0


def test_a_busy_worker_wakes_nobody(store: JobStore, submit: Callable[..., str]) -> None:
    submit()
    office = Office(store, job="another")
    with office.maintenance:
        time.sleep(0.3)
    assert office.woken == [] and office.resigned == 0


def test_maintenance_goes_on_after_an_outage(store: JobStore, caplog: pytest.LogCaptureFixture) -> None:
    with Office(store).maintenance:
        store.keyspace.client.config_set("maxmemory", 1)
        wait_for(lambda: "does not serve" in caplog.text)
        store.keyspace.client.config_set("maxmemory", 0)
        wait_for(store.workers)


def test_messages_carry_the_id_and_go_by_queue_and_priority(store: JobStore, celery: Celery) -> None:
    job = store.submit(submission(hardware="cuda", priority=7)).job
    wake(celery, job)
    # Redis as a broker counts from 0, the highest.
    with celery.connection_for_read() as connection:
        message = connection.default_channel.basic_get("cuda", no_ack=True)
    assert message.headers["task"] == RUN_JOB and message.payload[0] == [job.id]
    assert message.properties["priority"] == 2
