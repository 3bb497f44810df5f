"""The whole service, started as users start it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client
from service.local import LocalStack
from worker.jobs import TERMINAL, Job
from worker.settings import Settings

LEASE_S = 2.0


class Service:
    """A running stack and a client of it. What dies while a job is waited for is started again, as by `make up`."""

    def __init__(self, stack: LocalStack, client: Client) -> None:
        self.stack, self.client = stack, client

    def finished(self, job: Job, timeout_s: float = 100) -> Job:
        """The job once it has ended."""
        return self.until(job, lambda seen: seen.status in TERMINAL, timeout_s)

    def until(self, job: Job, condition: object, timeout_s: float = 30) -> Job:
        """The job once it fulfils a condition."""
        deadline = time.monotonic() + timeout_s
        while not condition(seen := self.client.get(job.id)):  # type: ignore[operator]
            assert time.monotonic() < deadline, f"still {seen.status}: {seen!r}\n{self.client.logs(job.id)}"
            self.stack.tend()
            time.sleep(0.05)
        return seen


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Server, API and one worker on free ports, with short leases and frequent checkpoints."""
    settings = Settings(
        state_dir=Path(tmp_path_factory.mktemp("state")), port=0, lease_s=LEASE_S, checkpoint_interval_s=0.5
    )
    with LocalStack(settings, lambda process, line: None) as stack, stack.client() as client:
        yield Service(stack, client)
