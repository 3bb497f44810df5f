"""Jobs that go on in another environment than they began in: with fewer cores, and with other versions."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.worker.samples import ENVIRONMENT
from tests.worker.workshop import Workshop
from worker.hardware import Machine
from worker.jobs import Job, State
from worker.standby import Standby

RUN: dict[str, Any] = {"steps": 240, "log_every": 10}
# Two threads share out the sums of a step, which come to other bits in one.
LARGE: dict[str, Any] = RUN | {"task": {"name": "categorical_vae", "dataset": "mnist"}, "evaluate_every": 240}


@contextmanager
def workshop_on(cores: set[int], redis_url: str, folder: Path) -> Iterator[Workshop]:
    """A supervisor whose training processes have these cores."""
    all_cores = os.sched_getaffinity(0)
    with ExitStack() as resources:
        os.sched_setaffinity(0, cores)
        try:
            machine = Machine()
            assert machine.cores == len(cores)
            standby = resources.enter_context(Standby(machine))  # its thread, and processes, inherit the cores
        finally:
            os.sched_setaffinity(0, all_cores)
        yield resources.enter_context(closing(Workshop(redis_url, folder, standby, machine)))


@pytest.fixture
def many(redis_database: str, tmp_path: Path) -> Iterator[Workshop]:
    with workshop_on(os.sched_getaffinity(0), redis_database, tmp_path) as opened:
        yield opened


@pytest.fixture
def one(redis_database: str, tmp_path: Path) -> Iterator[Workshop]:
    with workshop_on({min(os.sched_getaffinity(0))}, redis_database, tmp_path) as opened:
        yield opened


def hand_back(workshop: Workshop, job_id: str, begun: threading.Thread) -> Job:
    """The job, waiting again with a checkpoint."""
    workshop.supervisor.shut_down()
    begun.join()
    job = workshop.store.get(job_id)
    assert (job.status, job.progress.step < job.progress.steps) == (State.QUEUED, True)
    return job


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_that_goes_on_with_fewer_cores_comes_to_the_same_bits(many: Workshop, one: Workshop) -> None:
    undisturbed = many.submit(**LARGE)
    many.carry_out(undisturbed)
    job_id = many.submit(**LARGE)
    begun = hand_back(many, job_id, many.begin(job_id))
    ended = one.carry_out(job_id)
    assert ended.status is State.SUCCEEDED, one.store.logs(job_id)
    assert f"continuing at step {begun.progress.step}" in one.store.logs(job_id)
    assert ended.environment is not None and begun.environment is not None
    assert ended.environment == begun.environment
    assert ended.environment.deterministic and ended.environment.threads == len(os.sched_getaffinity(0))
    assert one.run_of(job_id) == one.run_of(undisturbed)


def test_a_job_that_goes_on_with_other_versions_says_so(many: Workshop, one: Workshop) -> None:
    job_id = many.submit(**RUN)
    begun = hand_back(many, job_id, many.begin(job_id))
    assert begun.environment is not None
    elsewhere = begun.environment.model_copy(
        update={"device": "cpu (of another make)", "versions": begun.environment.versions | {"torch": "2.0.0"}}
    )
    one.store.keyspace.client.hset(f"reinmax:job:{job_id}", "environment", elsewhere.model_dump_json())
    ended = one.carry_out(job_id)
    assert ended.environment is not None and not ended.environment.deterministic
    changes = {change.what: change for change in ended.environment.changes}
    assert set(changes) == {"device", "torch"}
    assert (changes["torch"].before, changes["torch"].now) == ("2.0.0", begun.environment.versions["torch"])
    assert {change.step for change in changes.values()} == {begun.progress.step}
    assert "torch was 2.0.0 before step" in one.store.logs(job_id)


def test_what_has_changed_is_kept_as_long_as_a_part_of_the_run_depends_on_it() -> None:
    first = ENVIRONMENT.model_copy(update={"revision": "a"})
    second = first.model_copy(update={"revision": "b"}).continuing(first, 500)
    assert [json.loads(change.model_dump_json()) for change in second.changes] == [
        {"step": 500, "what": "revision", "before": "a", "now": "b"}
    ]
    third = first.model_copy(update={"revision": "b"})
    assert third.continuing(second, 900) == second, "as before, and the steps up to 500 are still the first one's"
    assert third.continuing(third, 900).deterministic
    (change,) = third.continuing(second, 400).changes
    assert (change.step, change.before, change.now) == (400, "a", "b"), "from a checkpoint of the first one"
    for step in (400, 500):
        assert first.continuing(second, step).deterministic, "nothing of the second one is left"
