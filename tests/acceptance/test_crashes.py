"""kill -9 of what trains and of what supervises: one success, equal to the last bit to an undisturbed run."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest

from tests.acceptance.conftest import Service
from worker.jobs import Job, State

SPEC = {"task": "polynomial", "estimator": "reinmax", "steps": 6000, "log_every": 10, "seed": 11}


def processes(module: str) -> list[psutil.Process]:
    """The processes that this one has started, however indirectly, of that Python module."""
    family = psutil.Process(os.getpid()).children(recursive=True)
    return [process for process in family if ["-m", module] == process.cmdline()[1:3] or module in process.cmdline()]


def model_digest(service: Service, job: Job) -> str:
    return next(file.sha256 for file in service.client.artifacts(job.id) if file.name == "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Job:
    return service.finished(service.client.submit(SPEC))


def kill_training_process() -> None:
    for process in processes("worker.train"):
        process.kill()


def kill_worker() -> None:
    (worker,) = processes("worker")
    worker.kill()


@pytest.mark.parametrize("kill", [kill_training_process, kill_worker])
def test_a_killed_job_ends_once_as_if_nothing_had_happened(
    service: Service, undisturbed: Job, kill: Callable[[], None]
) -> None:
    job = service.client.submit(SPEC)
    service.until(job, lambda seen: seen.progress.step > 1000)
    kill()
    ended = service.finished(job)
    assert ended.status is State.SUCCEEDED, ended.error
    assert ended.attempt == 2
    assert model_digest(service, ended) == model_digest(service, undisturbed)
    assert ended.result is not None
    assert undisturbed.result is not None
    assert ended.result.metrics == undisturbed.result.metrics
    loss = service.client.metrics(job.id)["loss"]
    assert loss == service.client.metrics(undisturbed.id)["loss"]
    assert loss.step == list(range(10, 6001, 10))


def test_cancelling_a_running_job_takes_less_than_two_seconds_and_keeps_a_checkpoint(service: Service) -> None:
    job = service.client.submit(SPEC | {"steps": 10**6})
    service.until(job, lambda seen: seen.progress.step > 0)
    service.client.cancel(job.id)
    assert service.finished(job, timeout_s=2).status is State.CANCELLED


def test_nothing_is_left_of_the_killed(service: Service) -> None:
    # Besides the worker there is one process that waits for work, and for a moment the one that has just worked.
    job = service.client.submit(SPEC | {"steps": 1})
    service.until(job, lambda seen: seen.status is State.SUCCEEDED and len(processes("worker.train")) <= 1)
