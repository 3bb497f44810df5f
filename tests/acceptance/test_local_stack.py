"""`reinmax up`: the whole service as a process of its own, which leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.client import Client
from service.client.address import running_here
from service.client.errors import Unauthorized
from service.local import LocalStack
from tests.acceptance.stack import COMMAND, Up, eventually, up
from worker.jobs import Job, State
from worker.settings import Settings

SHORT = {"task": "polynomial", "estimator": "reinmax", "steps": 50}
ENDLESS = SHORT | {"steps": 10**6}


def running(job: Job, client: Client) -> bool:
    return client.get(job.id).progress.step > 0


def test_it_trains_mends_itself_and_ends_without_a_trace(tmp_path: Path) -> None:
    with up(tmp_path) as stack, Client(stack.url) as client:
        assert running_here(tmp_path) == stack.url
        assert client.wait(client.submit(SHORT).id, timeout_s=60).status is State.SUCCEEDED

        (api,) = (process for process in stack.family if "service.server" in process.cmdline())
        api.kill()
        assert "was killed by SIGKILL; starting again" in _mending(stack)
        assert eventually(lambda: len(client.workers()) == 1)

        second = subprocess.run(
            COMMAND, env=os.environ | {"REINMAX_STATE_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=40
        )
        assert second.returncode == 1
        assert stack.url in json.loads(second.stderr)["message"]

        family = stack.family
        assert {"service.server", "worker"} <= {argument for process in family for argument in process.cmdline()}
        assert stack.end(signal.SIGTERM) == 0
        assert [process for process in family if process.is_running()] == []
    assert running_here(tmp_path) is None


def test_others_may_reach_it_only_with_a_key(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, host="0.0.0.0", port=0)
    with LocalStack(settings, lambda name, line: None, workers=0) as stack:
        with Client(stack.url) as stranger, pytest.raises(Unauthorized):
            stranger.workers()
        with stack.client() as friend:
            assert friend.workers() == ()


def _mending(stack: Up) -> str:
    while "starting again" not in (line := stack.line_with("line")["line"]):
        pass
    return line


def test_an_interrupted_job_is_handed_back_and_goes_on_with_the_next_stack(tmp_path: Path) -> None:
    with up(tmp_path) as stack, Client(stack.url) as client:
        job = client.submit(ENDLESS)
        assert eventually(lambda: running(job, client), 60)
        step = client.get(job.id).progress.step
        assert stack.end(signal.SIGINT) == 0
    with up(tmp_path) as stack, Client(stack.url) as client:
        assert eventually(lambda: client.get(job.id).status is State.RUNNING, 60)
        assert client.get(job.id).progress.step >= step
        client.cancel(job.id)
        assert client.wait(job.id, timeout_s=20).status is State.CANCELLED
        assert stack.end(signal.SIGTERM) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tie the life of a process to another's")
def test_nothing_outlives_a_killed_launcher(tmp_path: Path) -> None:
    with up(tmp_path) as stack, Client(stack.url) as client:
        job = client.submit(ENDLESS)
        assert eventually(lambda: running(job, client), 60)
        family = stack.family
        stack.end(signal.SIGKILL)
        assert eventually(lambda: not any(process.is_running() for process in family), 30), family
    assert running_here(tmp_path) is None
