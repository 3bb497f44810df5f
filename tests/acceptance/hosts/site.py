"""The service spread over hosts: server and API on one, a worker on each of two others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self, final

import psutil

from service.client import Client
from tests.acceptance.hosts.network import Host, Network
from tests.worker.object_stores import BUCKET, CREDENTIALS, serve_command
from worker.jobs import TERMINAL, Job
from worker.server_program import find_server_program
from worker.store import JobStore

LEASE_S: Final = 4.0
CHECKPOINT_S: Final = 0.5
PATIENCE_S: Final = 150.0
KEY: Final = "key-of-the-test"
SERVER_PORT, API_PORT, OBJECTS_PORT = 6379, 8000, 9000
# Jobs, worker and heartbeat are the work of the test; which hosts live, and what they say to each other, is not.
OF_WORKERS: Final = (b"reinmax:celery", b"reinmax:worker")

Place = Literal["folder", "s3"]


@final
class WorkerHost:
    """A host with a worker on it.

    Args:
        host: the host.
        environment: of the worker.
        log: where all that it writes goes.
    """

    def __init__(self, host: Host, environment: Mapping[str, str], log: Path) -> None:
        self.host, self._log = host, log
        with log.open("wb") as file:
            command = [sys.executable, "-m", "worker", "--device", "cpu"]
            self.process = host.start(command, environment, file)

    @property
    def log(self) -> str:
        """What the worker has written."""
        return self._log.read_text()

    def has(self, job: Job) -> bool:
        """Whether the job is, or was last, on this host."""
        return job.worker == f"{self.host.name}-{self.process.pid}"

    @property
    def training(self) -> psutil.Process:
        """The training process that was started first, which is the one with a job."""
        children = psutil.Process(self.process.pid).children()
        return min((child for child in children if "worker.train" in child.cmdline()), key=psutil.Process.create_time)


@final
class Site:
    """All of it, inside a `with` block.

    Args:
        folder: of all data and logs.
        place: where artefacts are kept: a folder that all hosts see, or an object store on the host in the middle.
        wrong_s: seconds by which the clock on the wall of the first host with a worker is ahead, and that of the
            second behind.
    """

    def __init__(self, folder: Path, place: Place, wrong_s: float) -> None:
        self._folder, self._place, self.wrong_s = folder, place, wrong_s
        self._network = Network()
        self._resources = ExitStack()
        self.workers: list[WorkerHost] = []
        self.began = datetime.now(UTC)

    def __enter__(self) -> Self:
        """Returns once all workers have reported for duty.

        Raises:
            NoHosts: this machine does not allow namespaces.
        """
        with ExitStack() as resources:
            resources.enter_context(self._network)
            self._resources = resources
            self._serve()
            self.store = JobStore.connect(f"redis://127.0.0.1:{self._gate(SERVER_PORT)}/0")
            resources.callback(self.store.keyspace.close)
            self.client = resources.enter_context(
                Client(f"http://127.0.0.1:{self._gate(API_PORT)}", api_key=KEY, patience_s=PATIENCE_S)
            )
            self.workers += [self._employ("alpha", self.wrong_s), self._employ("beta", -self.wrong_s)]
            self.wait_for(lambda: len(self.client.workers()) == len(self.workers))
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    def cut(self, worker: WorkerHost) -> None:
        """Cuts its link."""
        self._network.cut(worker.host)

    def mend(self, worker: WorkerHost) -> None:
        """Ends the cut."""
        self._network.mend(worker.host)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Returns once it holds; fails with the workers' logs."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "\n".join(worker.log for worker in self.workers)
            time.sleep(0.05)

    def until(self, job: Job, condition: Callable[[Job], object]) -> Job:
        """The job once it fulfils a condition."""
        self.wait_for(lambda: condition(self.client.get(job.id)))
        return self.client.get(job.id)

    def finished(self, job: Job) -> Job:
        """The job once it has ended."""
        return self.until(job, lambda seen: seen.status in TERMINAL)

    def who_has(self, job: Job) -> WorkerHost:
        """The worker that a job is with, or was last."""
        (found,) = (worker for worker in self.workers if worker.has(job))
        return found

    def records(self) -> dict[bytes, bytes | None]:
        """All that the server holds of jobs, as it keeps it."""
        client = self.store.keyspace.client
        keys = [key.encode() for key in client.scan_iter()]
        return {
            key: client.execute_command("DUMP", key, NEVER_DECODE=True)
            for key in keys
            if not key.startswith(OF_WORKERS)
        }

    def files(self, job: Job) -> dict[str, bytes]:
        """All files of a job, by their paths below its folder."""
        folder = self._folder / "artifacts" / (BUCKET if self._place == "s3" else "") / job.id
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def _serve(self) -> None:
        """Server, object store and API, on the host in the middle."""
        (self._folder / "artifacts" / BUCKET).mkdir(parents=True)
        address = self._network.middle.address
        options = {
            "port": SERVER_PORT, "bind": address, "protected-mode": "no", "dir": self._folder, "save": "",
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self._start("server", [str(find_server_program().path), *words], SERVER_PORT)
        if self._place == "s3":
            self._start("objects", serve_command(self._folder / "artifacts", f"{address}:{OBJECTS_PORT}"), OBJECTS_PORT)
        self._start("api", [sys.executable, "-m", "service.server"], API_PORT)

    def _start(self, name: str, command: list[str], port: int) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = self._network.middle.start(command, self._environment("middle"), log)
        self._resources.callback(_end, process)
        self.wait_for(lambda: self._network.middle.reaches(self._network.middle.address, port))

    def _employ(self, name: str, ahead_s: float) -> WorkerHost:
        environment = self._environment(name) | (_clock(ahead_s) if ahead_s else {})
        worker = WorkerHost(self._network.link(name), environment, self._folder / f"{name}.log")
        self._resources.callback(_forget_clock, worker.process)
        self._resources.callback(_end, worker.process)
        return worker

    def _gate(self, port: int) -> int:
        """A port of this machine from which one of the host in the middle is reached."""
        with socket.create_server(("127.0.0.1", 0)) as listener, (self._folder / f"gate-{port}.log").open("wb") as log:
            where = (str(listener.fileno()), self._network.middle.address, str(port))
            command = [sys.executable, "-m", "tests.acceptance.hosts.gate", *where]
            gate = self._network.middle.start(command, os.environ, log, [listener.fileno()])
            self._resources.callback(_end, gate)
            return int(listener.getsockname()[1])

    def _environment(self, host: str) -> dict[str, str]:
        """Of our programs on a host; without the variables that this process has for itself."""
        middle = self._network.middle.address
        own = {name: value for name, value in os.environ.items() if not name.startswith(("REINMAX_", "AWS_"))}
        folder = self._folder / "artifacts"
        places = {"folder": str(folder), "s3": f"s3://{BUCKET}"}
        return own | CREDENTIALS | {
            "AWS_ENDPOINT_URL": f"http://{middle}:{OBJECTS_PORT}",
            "REINMAX_REDIS_URL": f"redis://{middle}:{SERVER_PORT}/0",
            "REINMAX_ARTIFACTS_URL": places[self._place],
            "REINMAX_STATE_DIR": str(self._folder / host),
            "REINMAX_HOST": middle,
            "REINMAX_PORT": str(API_PORT),
            "REINMAX_API_KEYS": KEY,
            "REINMAX_LEASE_S": str(LEASE_S),
            "REINMAX_CHECKPOINT_INTERVAL_S": str(CHECKPOINT_S),
        }  # fmt: skip


def _clock(ahead_s: float) -> dict[str, str]:
    """Variables that put the clock on the wall of a process, and of all that it starts, ahead; durations stay right."""
    import libfaketime  # there is none for other systems, nor are there namespaces

    library = Path(libfaketime.__file__).with_name("vendor") / "libfaketime/src/libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{ahead_s:+g}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _forget_clock(process: subprocess.Popen[bytes]) -> None:
    """Removes what the library of the clock leaves of a process that was killed."""
    for left in Path("/dev/shm").glob(f"*faketime_*_{process.pid}"):
        left.unlink()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
