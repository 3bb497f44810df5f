"""Messages that are fewer than the jobs, or about others: no job is left to a sweep while a worker could have it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from celery import Celery

from tests.worker.samples import submission
from tests.worker.workshop import ENDLESS, Workshop, process_in_training
from worker.app import QUEUES, wake
from worker.call import message_keys
from worker.hardware import Machine
from worker.jobs import State
from worker.standby import Standby
from worker.store import JobStore

PATIENCE_S = 60.0
IN_AN_HOUR_MS = 3_600_000


def test_who_takes_a_job_wakes_a_worker_for_the_jobs_behind(workshop: Workshop, celery: Celery) -> None:
    jobs = [workshop.submit(steps=1, packing=False, seed=seed) for seed in range(3)]
    assert workshop.carry_out(jobs[0]).status is State.SUCCEEDED
    assert workshop.woken == [jobs[1]]
    wake(celery, workshop.store.get(jobs[2]))
    assert workshop.carry_out(jobs[1]).status is State.SUCCEEDED
    assert workshop.woken == [jobs[1]], "a message lies there that will wake one"


def test_a_message_about_a_job_that_was_taken_stands_for_another_of_its_queue(workshop: Workshop) -> None:
    elsewhere, taken, left = (workshop.submit(hardware=queue, steps=1) for queue in ("any", "cpu", "cpu"))
    workshop.store.cancel(taken)
    workshop.supervisor.run(taken, "cpu")
    assert workshop.store.get(elsewhere).status is State.SUCCEEDED
    assert workshop.woken == [left]


def test_a_worker_that_shuts_down_passes_on_a_message_whose_job_is_gone(
    redis_database: str, tmp_path: Path, standby: Standby, machine: Machine
) -> None:
    with closing(Workshop(redis_database, tmp_path, standby, machine)) as workshop:
        gone, waiting = workshop.submit(hardware="cpu"), workshop.submit(hardware="cpu")
        workshop.store.cancel(gone)
        workshop.supervisor.shut_down()
        workshop.supervisor.run(gone, "cpu")
        workshop.store.delete(gone)
        workshop.supervisor.run(gone, "cpu")
        assert workshop.woken == [waiting] * 2
        assert workshop.store.get(waiting).status is State.QUEUED


@pytest.mark.slow
def test_a_process_that_is_killed_is_followed_by_one_with_half_as_many_jobs(workshop: Workshop) -> None:
    jobs = [workshop.submit(seed=seed, steps=ENDLESS) for seed in range(4)]
    for beside in (4, 2):
        thread = threading.Thread(target=workshop.supervisor.run, args=(jobs[0],))
        thread.start()
        trained = jobs[:beside]
        workshop.wait_for(partial(all_run, workshop.store, trained))
        assert workshop.supervisor.job_ids == tuple(trained)
        process_in_training().send_signal(signal.SIGKILL)
        thread.join()
        assert [workshop.store.get(job_id).status for job_id in jobs] == [State.QUEUED] * 4


def all_run(store: JobStore, jobs: list[str]) -> bool:
    return all(store.get(job_id).status is State.RUNNING for job_id in jobs)


@pytest.fixture
def idle_worker(redis_database: str, store: JobStore, tmp_path: Path) -> Iterator[None]:
    settings = {"REINMAX_REDIS_URL": redis_database, "REINMAX_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "worker", "--device", "cpu"]
    with subprocess.Popen(command, env=os.environ | settings) as process:
        try:
            wait_for(store.workers)
            yield
        finally:
            process.kill()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("idle_worker")
def test_one_message_is_enough_for_all_jobs_and_none_is_left_over(store: JobStore, celery: Celery) -> None:
    jobs = [store.submit(submission(steps=1, packing=False, hardware=queue)).job for queue in ("any", "cpu", "any")]
    client = store.keyspace.client
    for job in jobs:
        # No sweep takes it for forgotten.
        client.zadd("reinmax:woken", {job.id: store.clock().timestamp() * 1000 + IN_AN_HOUR_MS}, xx=True)
    wake(celery, jobs[-1])
    wait_for(lambda: store.counts()[State.SUCCEEDED] == len(jobs))
    wait_for(lambda: not client.exists(*(name for queue in QUEUES for name in message_keys(queue))))
