"""kill -9 of the embedded server under a running job, as often as you like, and too often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.client import Client
from tests.acceptance.stack import Up, eventually, up
from worker.jobs import Job, State

SPEC = {"task": "polynomial", "estimator": "reinmax", "steps": 9_000, "log_every": 10, "seed": 11}


def kill_server(stack: Up) -> httpx.Response:
    """How the API answers while there is no server; the launcher is held for so long."""
    launcher = psutil.Process(stack.process.pid)
    launcher.suspend()
    try:
        stack.server.kill()
        return httpx.post(f"{stack.url}/v1/jobs", json=SPEC, timeout=30)
    finally:
        launcher.resume()


def outcome(client: Client, job: Job) -> dict[str, Any]:
    """All that a job leaves, but for the time it took."""
    assert job.status is State.SUCCEEDED, job.error
    assert job.result is not None
    digests = {file.name: file.sha256 for file in client.artifacts(job.id) if file.name == "model.safetensors"}
    return {"metrics": job.result.metrics, "series": client.metrics(job.id), "files": digests}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_outlives_the_server_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with up(tmp_path, lease_s=20) as stack, Client(stack.url) as client:
        undisturbed = client.wait(client.submit(SPEC).id, timeout_s=120)
        job = client.submit(SPEC)
        for step in (1500, 5000):
            assert eventually(lambda: client.get(job.id).progress.step > step, 60)  # noqa: B023  (called at once)
            answer = kill_server(stack)
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
            assert eventually(lambda: is_ready(stack))
        ended = client.wait(job.id, timeout_s=120)
        assert ended.attempt == 1
        assert outcome(client, ended) == outcome(client, undisturbed)
        assert client.wait(client.submit(SPEC | {"steps": 50}).id, timeout_s=60).status is State.SUCCEEDED


def is_ready(stack: Up) -> bool:
    try:
        return httpx.get(f"{stack.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_server_that_keeps_ending_ends_the_stack_with_its_last_words(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "0") as stack:
        while stack.process.poll() is None:
            stack.server.kill()
            assert eventually(lambda: stack.process.poll() is not None or is_ready(stack), 40)
        _, said = stack.process.communicate(timeout=40)
    assert stack.process.returncode == 1
    message = json.loads(said)["message"]
    assert "was killed by SIGKILL, again and again" in message
    assert "Ready to accept connections" in message.partition("The server said:")[2]
