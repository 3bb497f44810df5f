"""Jobs that are trained side by side in one training process: each comes to what it would alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from reinmax_core import checkpoint
from reinmax_core.trainer import Trainer
from tests.worker.samples import submission
from tests.worker.workshop import ENDLESS, Run, Workshop, is_alive, process_in_training, states, training_processes
from worker.hardware import Machine
from worker.jobs import Job, State
from worker.series import SeriesByName, add_points, encode
from worker.standby import Standby

SHORT: Final = {"steps": 300, "log_every": 10, "evaluate_every": 100}
LONG: Final = {"steps": 3000, "log_every": 50}


@pytest.fixture
def workshop(redis_database: str, tmp_path: Path, standby: Standby, machine: Machine) -> Iterator[Workshop]:
    """Whose leases outlast a busy machine; those that run out here are made to."""
    with closing(Workshop(redis_database, tmp_path, standby, machine, lease_s=30)) as opened:
        yield opened


def submitted(workshop: Workshop, count: int, **settings: Any) -> list[str]:
    """Jobs that differ in their seeds."""
    return [workshop.submit(seed=seed, **settings) for seed in range(count)]


def begin(workshop: Workshop, jobs: Sequence[str]) -> threading.Thread:
    """Carries out the jobs in the background; returns once all of them train."""
    thread = workshop.begin(jobs[0])
    workshop.wait_for(lambda: all(workshop.store.get(job_id).progress.step > 0 for job_id in jobs))
    return thread


def alone(**settings: Any) -> Run:
    """What a run comes to that nothing is beside, and nothing happens to."""
    trainer = Trainer(submission(**settings).run_spec())
    series: SeriesByName = {}
    for progress in trainer:
        add_points(series, progress.step, progress.metrics)
    return {
        "model.safetensors": checkpoint.encode(trainer)[checkpoint.MODEL],
        "metrics.json": f'{{"series":{encode(series)}}}'.encode(),
        "spec.json": trainer.spec.model_dump_json(indent=2).encode(),
        "series": series,
        "metrics": trainer.final,
    }


def standing(workshop: Workshop, jobs: Sequence[str]) -> list[State]:
    return [workshop.store.get(job_id).status for job_id in jobs]


def test_ten_seeds_are_trained_by_one_process_and_each_comes_to_what_it_would_alone(workshop: Workshop) -> None:
    jobs = submitted(workshop, 10, **SHORT)
    workshop.supervisor.run(jobs[3])
    assert standing(workshop, jobs) == [State.SUCCEEDED] * 10
    for seed in (0, 4, 9):
        assert workshop.run_of(jobs[seed]) == alone(seed=seed, **SHORT)
    for job_id in jobs:
        job: Job = workshop.store.get(job_id)
        assert (job.attempt, job.epoch, job.progress.percent, job.status_reason) == (1, 1, 100.0, None)
        assert job.result is not None and job.result.wall_time_s > 0 and job.environment is not None
        assert states(workshop, job_id) == ["queued", "starting", "running", "succeeded"]
        files = {file.name for file in workshop.store.artifacts(job_id)}
        assert files == {"model.safetensors", "result.json", "metrics.json", "spec.json"}
        assert workshop.left(job_id) == {f"{job_id}/1/{name}" for name in files}
        log = workshop.store.logs(job_id)
        assert log.count("polynomial with reinmax") == log.count("done in") == 1
        assert "300 steps, side by side with 9 other jobs" in log
    assert workshop.woken == []


def test_with_packing_off_each_job_has_a_process_of_its_own(
    redis_database: str, tmp_path: Path, standby: Standby, machine: Machine
) -> None:
    with closing(Workshop(redis_database, tmp_path, standby, machine, replicas=1)) as workshop:
        jobs = submitted(workshop, 2, **SHORT)
        workshop.supervisor.run(jobs[1])
        assert standing(workshop, jobs) == [State.SUCCEEDED, State.QUEUED]
        assert "side by side" not in workshop.store.logs(jobs[0])


@pytest.mark.slow
def test_one_is_cancelled_and_one_paused_and_resumed_while_the_others_train(workshop: Workshop) -> None:
    jobs = submitted(workshop, 4, **LONG)
    cancelled, paused, *others = jobs
    thread = begin(workshop, jobs)
    training = process_in_training()
    began = time.monotonic()
    workshop.store.cancel(cancelled)
    workshop.wait_for(lambda: workshop.store.get(cancelled).finished_at)
    assert time.monotonic() - began < 2
    workshop.store.pause(paused)
    workshop.wait_for(lambda: workshop.store.get(paused).status is State.PAUSED)
    assert standing(workshop, others) == [State.RUNNING] * 2 and is_alive(training)
    assert workshop.supervisor.job_ids == tuple(others)
    thread.join()
    assert standing(workshop, jobs) == [State.CANCELLED, State.PAUSED, State.SUCCEEDED, State.SUCCEEDED]
    for job_id in (cancelled, paused):
        (saved, *_) = workshop.store.attempt(job_id, 1).checkpoints()
        assert f"stopped at step {saved.step}" in workshop.store.logs(job_id)
        assert 0 < saved.step == workshop.store.get(job_id).progress.step < LONG["steps"]

    workshop.store.resume(paused)
    workshop.store.retry(cancelled)
    workshop.supervisor.run(paused)
    assert standing(workshop, jobs) == [State.SUCCEEDED] * 4
    assert "continuing at step" in workshop.store.logs(paused)
    for seed in (1, 3):
        assert workshop.run_of(jobs[seed]) == alone(seed=seed, **LONG)
    assert workshop.store.get(paused).attempt == 1


@pytest.mark.slow
def test_all_are_lost_with_their_process_and_end_as_if_it_had_not_been(workshop: Workshop) -> None:
    jobs = submitted(workshop, 3, **LONG)
    thread = begin(workshop, jobs)
    workshop.wait_for(lambda: all(workshop.store.attempt(job_id, 1).checkpoints() for job_id in jobs))
    workshop.kill_training()
    thread.join()
    assert standing(workshop, jobs) == [State.QUEUED] * 3 and sorted(workshop.woken) == jobs
    assert [workshop.store.get(job_id).attempt for job_id in jobs] == [1, 1, 1]

    for job_id in jobs:  # alone, for they may have been too much together
        workshop.supervisor.run(job_id)
    assert standing(workshop, jobs) == [State.SUCCEEDED] * 3
    for job_id in jobs:
        assert (workshop.store.get(job_id).attempt, "continuing at step" in workshop.store.logs(job_id)) == (2, True)
    assert workshop.run_of(jobs[2]) == alone(seed=2, **LONG)


def test_one_that_diverges_fails_and_harms_nobody(workshop: Workshop) -> None:
    settings = SHORT | {"log_every": 1}
    optimizer = {"name": "sgd", "lr": 0.01, "weight_decay": 1.0}
    tame = workshop.submit(optimizer=optimizer, **settings)
    wild = workshop.submit(optimizer=optimizer | {"lr": 100.0}, **settings)
    workshop.supervisor.run(tame)
    failed = workshop.store.get(wild)
    assert standing(workshop, [tame, wild]) == [State.SUCCEEDED, State.FAILED]
    assert failed.error is not None and failed.error.type == "Diverged" and failed.attempt == 1
    assert "smaller learning rate than 100" in failed.error.message
    told = workshop.store.metrics(wild)["loss"].step
    assert told == list(range(1, len(told) + 1)) and told
    assert "Traceback" in workshop.store.logs(wild) and "Traceback" not in workshop.store.logs(tame)
    assert workshop.run_of(tame) == alone(optimizer=optimizer, **settings)


@pytest.mark.slow
def test_one_that_has_been_lost_is_let_go_and_the_others_train_on(workshop: Workshop) -> None:
    jobs = submitted(workshop, 3, **LONG)
    thread = begin(workshop, jobs)
    workshop.lose(jobs[1])
    workshop.wait_for(lambda: jobs[1] not in workshop.supervisor.job_ids)
    thread.join()
    assert standing(workshop, jobs) == [State.SUCCEEDED, State.QUEUED, State.SUCCEEDED]
    assert (workshop.store.get(jobs[1]).attempt, workshop.woken) == (1, [])
    assert workshop.left(jobs[1]) <= set(workshop.store.files(jobs[1]))


@pytest.mark.slow
def test_one_that_does_not_end_in_time_costs_the_others_no_more_than_their_place(
    redis_database: str, tmp_path: Path, standby: Standby, machine: Machine
) -> None:
    with closing(Workshop(redis_database, tmp_path, standby, machine, lease_s=30, cancel_grace_s=0.5)) as workshop:
        jobs = submitted(workshop, 3, steps=ENDLESS)
        thread = begin(workshop, jobs)
        process_in_training().suspend()
        workshop.store.cancel(jobs[1])
        thread.join()
        assert standing(workshop, jobs) == [State.QUEUED, State.CANCELLED, State.QUEUED]
        for job_id in (jobs[0], jobs[2]):
            assert workshop.store.get(job_id).attempt == 0 and "did not in time" in said(workshop, job_id)
        assert sorted(workshop.woken) == [jobs[0], jobs[2]]


@pytest.mark.slow
def test_only_those_go_on_together_that_have_begun_with_as_many_threads(workshop: Workshop) -> None:
    jobs = submitted(workshop, 3, **LONG)
    thread = begin(workshop, jobs)
    workshop.wait_for(lambda: all(workshop.store.attempt(job_id, 1).checkpoints() for job_id in jobs))
    workshop.kill_training()
    thread.join()
    environment = workshop.store.get(jobs[1]).environment
    assert environment is not None
    elsewhere = environment.model_copy(update={"threads": 77}).model_dump_json()
    workshop.store.keyspace.client.hset(f"reinmax:job:{jobs[1]}", "environment", elsewhere)
    for job_id in jobs:  # as after another end than the loss of all
        workshop.store.keyspace.client.hdel(f"reinmax:job:{job_id}", "replicas")
    workshop.woken.clear()
    workshop.supervisor.run(jobs[0])
    assert standing(workshop, jobs) == [State.SUCCEEDED, State.QUEUED, State.SUCCEEDED]
    assert (workshop.store.get(jobs[1]).attempt, workshop.woken) == (1, [jobs[1]])


@pytest.mark.slow
def test_all_are_handed_back_by_a_worker_that_shuts_down(workshop: Workshop, standby: Standby) -> None:
    jobs = submitted(workshop, 3, steps=ENDLESS)
    thread = begin(workshop, jobs)
    workshop.supervisor.shut_down()
    thread.join()
    assert standing(workshop, jobs) == [State.QUEUED] * 3 and sorted(workshop.woken) == jobs
    for job_id in jobs:
        assert workshop.store.get(job_id).attempt == 0 and workshop.store.attempt(job_id, 1).checkpoints()
    standby.replenish()


@pytest.mark.slow
def test_jobs_whose_time_is_up_side_by_side_are_tried_with_fewer_and_at_last_alone(workshop: Workshop) -> None:
    jobs = submitted(workshop, 2, steps=ENDLESS, timeout_s=2)
    wait_for_warm_process(workshop)
    workshop.supervisor.run(jobs[0])
    for job_id in jobs:
        job = workshop.store.get(job_id)
        assert (job.status, job.attempt) == (State.QUEUED, 0)
        assert "longer than timeout_s; it is tried again" in said(workshop, job_id)
        assert workshop.store.attempt(job_id, 1).checkpoints()
    workshop.supervisor.run(jobs[0])
    assert standing(workshop, jobs) == [State.FAILED, State.QUEUED]


@pytest.mark.slow
def test_an_error_of_all_is_counted_for_none_but_each_alone_has_its_own(workshop: Workshop) -> None:
    jobs = submitted(workshop, 2, task={"name": "categorical_vae", "dataset": "missing.npz"})
    workshop.supervisor.run(jobs[0])
    assert [workshop.store.get(job_id).attempt for job_id in jobs] == [0, 0]
    for job_id in jobs:
        assert "DataUnavailable" in workshop.store.logs(job_id)
        workshop.supervisor.run(job_id)
    for job_id in jobs:
        job = workshop.store.get(job_id)
        assert (job.status, job.attempt, job.epoch) == (State.FAILED, 1, 2)
        assert job.error is not None and job.error.type == "DataUnavailable"


@pytest.mark.slow
def test_where_memory_is_short_fewer_are_trained_side_by_side(workshop: Workshop) -> None:
    jobs = submitted(workshop, 8, task={"name": "polynomial", "latents": 64_000}, steps=2)
    limit_memory(wait_for_warm_process(workshop), more_gb=1.0)
    workshop.supervisor.run(jobs[0])
    for job_id in jobs:
        job = workshop.store.get(job_id)
        assert (job.status, job.attempt) == (State.QUEUED, 0), workshop.store.logs(job_id)
        assert "memory" in said(workshop, job_id)
    workshop.supervisor.run(jobs[0])
    assert standing(workshop, jobs) == [State.SUCCEEDED] * 4 + [State.QUEUED] * 4


def wait_for_warm_process(workshop: Workshop) -> psutil.Process:
    """The idle training process, once it has imported all it needs."""
    workshop.wait_for(training_processes)
    (process,) = training_processes()
    workshop.wait_for(lambda: process.memory_info().rss > 10**8 and process.cpu_percent(0.3) < 5)
    return process


def limit_memory(process: psutil.Process, more_gb: float) -> None:
    limit = process.memory_info().vms + round(more_gb * 10**9)
    process.rlimit(psutil.RLIMIT_AS, (limit, limit))


def said(workshop: Workshop, job_id: str) -> str:
    """Why the job is in its state; that no worker is alive is said in its place to those who ask for it."""
    return str(workshop.store.keyspace.client.hget(f"reinmax:job:{job_id}", "reason"))


@pytest.mark.slow
def test_a_job_of_another_queue_that_came_first_costs_the_one_that_was_woken_for_no_message(
    workshop: Workshop,
) -> None:
    first, second = workshop.submit(hardware="cpu", steps=1), workshop.submit(hardware="any", steps=1)
    workshop.supervisor.run(second)
    assert standing(workshop, [first, second]) == [State.SUCCEEDED, State.QUEUED]
    assert workshop.woken == [second]
