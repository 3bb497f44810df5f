"""A supervisor in this process, with real training processes and a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.worker.samples import submission, worker
from worker.artifacts import ArtifactStore
from worker.assignment import Places
from worker.call import Waiting
from worker.hardware import Machine
from worker.jobs import Job
from worker.settings import Settings
from worker.standby import Standby
from worker.store import JobStore
from worker.supervise import Supervisor

ENDLESS = 10**8
Run = dict[str, Any]
"""What a run comes to: its model and curves as files, its curves as the store has them, and its last metrics."""
PATIENCE_S = 60


class Workshop:
    """A supervisor, the store it serves and the jobs for which it woke others."""

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        standby: Standby,
        machine: Machine,
        supervisor_url: str | None = None,
        **settings: float,
    ) -> None:
        self.store = JobStore.connect(redis_url)
        self.folder = folder
        self.artifacts = ArtifactStore(str(folder))
        self.woken: list[str] = []
        self.resigned = 0
        mirror = Settings().data_mirror
        places = Places(redis_url=redis_url, artifacts_url=str(folder), data_dir=folder / "data", data_mirror=mirror)
        known = Settings.model_validate({"lease_s": 5, "checkpoint_interval_s": 0.8, "cancel_grace_s": 20} | settings)
        wake: Callable[[Waiting], None] = lambda job: self.woken.append(job.id)  # noqa: E731
        self._supervised = JobStore.connect(supervisor_url or redis_url)
        self.supervisor = Supervisor(self._supervised, wake, self.resign, worker, standby, machine, known, places)

    def close(self) -> None:
        self.store.keyspace.close()
        self._supervised.keyspace.close()

    def resign(self) -> None:
        self.resigned += 1

    def submit(self, **settings: Any) -> str:
        return self.store.submit(submission(**settings)).job.id

    def carry_out(self, job_id: str) -> Job:
        self.supervisor.run(job_id)
        return self.store.get(job_id)

    def begin(self, job_id: str) -> threading.Thread:
        """Carries a job out in the background; returns once it trains."""
        thread = threading.Thread(target=self.supervisor.run, args=(job_id,))
        thread.start()
        self.wait_for(lambda: self.store.get(job_id).progress.step > 0)
        return thread

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def lose(self, job_id: str) -> None:
        """Ends the attempt at a job as if its worker had not been heard of for longer than its lease."""

        def is_reaped() -> bool:
            # A beat in between extends the lease again.
            self.store.keyspace.client.zadd("reinmax:leases", {job_id: 0}, xx=True)
            return job_id in {job.id for job in self.store.reap()}

        self.wait_for(is_reaped)

    def kill_training(self) -> None:
        """Kills all training processes, the idle one too; returns once they are dead."""
        killed = training_processes()
        for process in killed:
            process.kill()
        self.wait_for(lambda: not any(is_alive(process) for process in killed))

    def files_of(self, job_id: str) -> dict[str, bytes]:
        paths = {file.name: self.store.locate(job_id, file.name) for file in self.store.artifacts(job_id)}
        return {name: self.artifacts.read(path) for name, path in paths.items()}

    def run_of(self, job_id: str) -> Run:
        files = self.files_of(job_id)
        told = {name: files[name] for name in ("model.safetensors", "metrics.json", "spec.json")}
        return told | {"series": self.store.metrics(job_id), "metrics": self.store.get(job_id).metrics}

    def left(self, job_id: str) -> set[str]:
        """Paths of all files of a job."""
        return {str(path.relative_to(self.folder)) for path in (self.folder / job_id).rglob("*") if path.is_file()}


def training_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker.train" in " ".join(child.cmdline())]


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def process_in_training() -> psutil.Process:
    """The one that was started first: another is not before that one is taken."""
    return min(training_processes(), key=lambda process: process.create_time())


def states(workshop: Workshop, job_id: str) -> list[str]:
    events = workshop.store.events_after(job_id)
    return [event.data.split('"')[3] for event in events if event.kind == "state"]
