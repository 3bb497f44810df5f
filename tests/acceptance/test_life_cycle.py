"""A real job is paused, resumed and retried over HTTP, and comes to the same as if nothing had happened to it."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.acceptance.conftest import LEASE_S, Service
from tests.acceptance.test_crashes import SPEC, kill_training_process, model_digest, processes
from worker.jobs import Job, State


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Job:
    return service.finished(service.client.submit(SPEC))


def assert_the_same_came_of_them(service: Service, found: Job, expected: Job) -> None:
    assert found.status is expected.status is State.SUCCEEDED, found.error
    assert model_digest(service, found) == model_digest(service, expected)
    assert found.result is not None and expected.result is not None
    assert (found.result.metrics, found.result.best) == (expected.result.metrics, expected.result.best)
    assert service.client.metrics(found.id) == service.client.metrics(expected.id)


def test_a_job_that_is_paused_and_resumed_ends_as_if_nothing_had_happened(service: Service, undisturbed: Job) -> None:
    job = service.client.submit(SPEC)
    service.until(job, lambda seen: seen.progress.step > 1000)
    training = min(processes("worker.train"), key=psutil.Process.create_time)
    began = time.monotonic()
    service.client.pause(job.id)
    paused = service.until(job, lambda seen: seen.status is State.PAUSED)
    assert time.monotonic() - began < 2
    assert not training.is_running(), "what it held of the device is free"
    assert f"stopped at step {paused.progress.step}" in service.client.logs(job.id)

    # Nobody starts it by himself: no sweep, no end of a lease; and others are trained meanwhile.
    other = service.client.submit(SPEC | {"steps": 10})
    assert service.finished(other).status is State.SUCCEEDED
    time.sleep(LEASE_S)
    assert service.client.get(job.id) == paused

    assert service.client.resume(job.id).status is not State.PAUSED
    ended = service.finished(job)
    assert (ended.attempt, ended.error) == (1, None)
    assert f"continuing at step {paused.progress.step}" in service.client.logs(job.id)
    assert_the_same_came_of_them(service, ended, undisturbed)


@pytest.mark.slow
def test_a_job_that_failed_and_is_retried_ends_as_if_nothing_had_happened(service: Service, undisturbed: Job) -> None:
    job = service.client.submit(SPEC | {"max_attempts": 1})
    service.until(job, lambda seen: seen.progress.step > 1000)
    kill_training_process()
    failed = service.finished(job)
    assert (failed.status, failed.status_reason and failed.status_reason.code) == (State.FAILED, "lost")
    assert service.client.retry(job.id).status is not State.FAILED
    ended = service.finished(job)
    assert (ended.attempt, ended.error) == (1, None)
    assert "continuing at step" in service.client.logs(job.id)
    assert_the_same_came_of_them(service, ended, undisturbed)
