"""Jobs side by side whose ends meet with trouble: what befalls one costs the others nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from reinmax_core import replicas
from reinmax_core.categorical import NoDistribution
from reinmax_core.replicas import Replicas, trainers_of
from reinmax_core.trainer import Diverged
from tests.servers import OwnServer, own_server
from tests.worker.samples import submission
from tests.worker.states import claimed
from tests.worker.workshop import ENDLESS, Workshop, process_in_training, training_processes
from worker.artifacts import ArtifactStore
from worker.assignment import AssignedJob, Failed, Left, News, Outcome, Said, Spoilt
from worker.hardware import Machine
from worker.jobs import State
from worker.saver import Saver
from worker.standby import Standby
from worker.store import JobStore
from worker.submission import Cause
from worker.trainee import Trainee

LEASE_S = 3.0
GRACE_S = 1.0
MOST = 128
PIPE_BYTES = 2**16
"""What a pipe takes before anybody reads it."""


@pytest.fixture
def workshop(redis_database: str, tmp_path: Path, standby: Standby, machine: Machine) -> Iterator[Workshop]:
    with closing(Workshop(redis_database, tmp_path, standby, machine, lease_s=LEASE_S, replicas=MOST)) as opened:
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path) as server:
        yield server


def begin(workshop: Workshop, count: int, **settings: Any) -> tuple[list[str], threading.Thread]:
    """Jobs without an end, carried out in the background; returns once all of them train."""
    jobs = [workshop.submit(seed=seed, steps=ENDLESS, **settings) for seed in range(count)]
    thread = workshop.begin(jobs[0])
    workshop.wait_for(lambda: all(workshop.store.get(job_id).progress.step for job_id in jobs))
    return jobs, thread


def standing(workshop: Workshop, jobs: list[str]) -> list[State]:
    return [workshop.store.get(job_id).status for job_id in jobs]


def leased_until(workshop: Workshop, jobs: list[str]) -> float:
    """The time, in s since 1970, up to which all of them have a lease; 0 if one has none."""
    leases = [workshop.store.keyspace.client.zscore("reinmax:leases", job_id) for job_id in jobs]
    return min((lease or 0.0) / 1000 for lease in leases)


def goes_on(workshop: Workshop, job_id: str) -> Callable[[], bool]:
    """Whether a job has made steps since."""
    before = workshop.store.get(job_id).progress.step
    return lambda: workshop.store.get(job_id).progress.step > before


def test_what_has_become_of_all_is_written_before_the_files_of_any_are_cleared(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, thread = begin(workshop, 3)
    serves, find = threading.Event(), LocalFileSystem.find

    def find_late(*arguments: Any, **options: Any) -> Any:
        serves.wait(60)
        return find(*arguments, **options)

    monkeypatch.setattr(LocalFileSystem, "find", find_late)

    def are_ended() -> bool:
        workshop.store.reap()  # as another worker does that takes those for lost whose lease has run out
        return standing(workshop, jobs) == [State.QUEUED] * 3

    process_in_training().send_signal(signal.SIGSEGV)
    workshop.wait_for(are_ended)
    serves.set()
    thread.join()
    for job_id in jobs:
        assert workshop.store.get(job_id).attempt == 0, "each is tried again alone, and none is lost"
    assert sorted(workshop.woken) == jobs


def test_a_word_about_a_job_after_its_end_harms_nobody(workshop: Workshop) -> None:
    jobs, thread = begin(workshop, 2)
    workshop.store.cancel(jobs[0])
    workshop.wait_for(lambda: workshop.supervisor.job_ids == (jobs[1],))
    late = News(job_id=jobs[0], content=Said(text="no checkpoint at step 7: it took too long\n"))
    training = process_in_training()
    with open(f"/proc/{training.pid}/fd/{training.cmdline()[-1]}", "wb") as news:
        news.write(late.model_dump_json().encode() + b"\n")
    workshop.wait_for(goes_on(workshop, jobs[1]))
    workshop.store.cancel(jobs[1])
    thread.join()
    assert standing(workshop, jobs) == [State.CANCELLED] * 2


@pytest.mark.slow
def test_one_whose_last_words_wait_for_the_store_keeps_nobody_from_training(
    server: OwnServer, tmp_path: Path, standby: Standby, machine: Machine
) -> None:
    workshop = Workshop(server.url, tmp_path / "artifacts", standby, machine, lease_s=30, cancel_grace_s=GRACE_S)
    with closing(workshop):
        jobs, thread = begin(workshop, 2)
        training = process_in_training()
        training.suspend()
        workshop.store.cancel(jobs[0])
        for _ in range(2):  # beats, the second of which comes after the order of the first is obeyed
            before = leased_until(workshop, jobs)
            workshop.wait_for(lambda before=before: leased_until(workshop, jobs) > before)
        server.hang()
        training.resume()
        time.sleep(2 * GRACE_S)  # the grace is over, and a process that was asked to end for it would have
        server.go_on()
        workshop.wait_for(lambda: workshop.store.get(jobs[0]).status is State.CANCELLED)
        assert workshop.store.attempt(jobs[0], 1).checkpoints()
        workshop.wait_for(goes_on(workshop, jobs[1]))
        workshop.store.cancel(jobs[1])
        thread.join()
        assert standing(workshop, jobs) == [State.CANCELLED] * 2


def test_leases_are_extended_while_the_training_process_has_not_read_a_long_assignment(
    workshop: Workshop, standby: Standby
) -> None:
    task = {"name": "categorical_vae", "dataset": f"own/{'letters-' * 9}.npz", "image_shape": (5, 4)}
    assert MOST * len(submission(task=task).run_spec().model_dump_json()) > PIPE_BYTES
    jobs = [workshop.submit(task=task, seed=seed) for seed in range(MOST)]
    standby.replenish()
    workshop.wait_for(training_processes)
    (training,) = training_processes()
    training.suspend()
    began = time.time()
    thread = threading.Thread(target=workshop.supervisor.run, args=(jobs[0],))
    thread.start()
    workshop.wait_for(lambda: leased_until(workshop, jobs) > began + LEASE_S + 1)
    workshop.supervisor.shut_down()
    training.resume()
    thread.join()
    assert standing(workshop, jobs) == [State.QUEUED] * MOST
    assert workshop.store.get(jobs[0]).attempt == 0
    standby.replenish()


def test_a_step_in_common_that_fails_where_none_does_alone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where products of matrices in common are rounded otherwise."""

    def overflow(pack: object) -> None:
        raise NoDistribution("row 0 of the logits is not finite")

    monkeypatch.setattr(replicas.Pack, "step", overflow)
    together = Replicas(trainers_of([submission(seed=seed).run_spec() for seed in range(2)]))
    with pytest.raises(NoDistribution):
        next(iter(together))
    assert not together.diverged


@pytest.mark.parametrize(
    ("device", "error", "expected"),
    [
        ("cuda", RuntimeError("CUDA error: an illegal memory access was encountered"), (Spoilt, Cause.ERROR)),
        ("cuda", RuntimeError("CUDA out of memory"), (Spoilt, Cause.OOM)),
        ("cuda", Diverged("the loss is not finite"), (Failed, Cause.DIVERGED)),
        ("cpu", RuntimeError("an error of its own"), (Failed, Cause.ERROR)),
    ],
)
def test_an_error_that_a_gpu_tells_of_one_may_be_of_another_beside_it(
    store: JobStore, tmp_path: Path, device: str, error: Exception, expected: tuple[type[Outcome], Cause]
) -> None:
    told: list[Outcome | Left] = []
    spec = submission()
    attempt = claimed(store, store.submit(spec).job.id)
    saver = Saver(attempt, ArtifactStore(str(tmp_path)), interval_s=60, say=lambda line: None)
    job = AssignedJob(job_id=attempt.job_id, epoch=attempt.epoch, spec=spec.run_spec(), checkpoints=())
    trainee = Trainee(job, store, saver, lambda line: None, told.append, 60, replicas=2, device=device)
    trainee.fail(error)
    trainee.wait()
    (outcome,) = [content for content in told if not isinstance(content, Left)]
    assert isinstance(outcome, Failed | Spoilt)
    assert (type(outcome), outcome.cause) == expected
