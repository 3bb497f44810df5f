"""The whole service on this machine: API, workers, and a server of our own where none is given."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple, Self

from service.client import Client
from service.client.address import AlreadyRunning, announced
from service.client.errors import ServiceError
from service.process import Listener, ProcessKeepsEnding, StackProcess, stop
from worker.embedded_server import EmbeddedServer, ServerKeepsEnding, ServerNotStarted
from worker.hardware import Machine, find_machine
from worker.server_folder import StateFolderUnusable
from worker.server_program import NoServerProgram
from worker.settings import Settings, load_api_keys

PATIENCE_S: Final = 60.0
POLL_S: Final = 0.05
LOOK_S: Final = 0.25
API_GRACE_S: Final = 5.0
FAREWELL_S: Final = 10.0
"""Seconds that a worker needs to hand its job back, once the training process has ended."""


class NotReady(Exception):
    """The stack was started, but does not answer in time."""


CONDITIONS: Final = (
    AlreadyRunning,
    NoServerProgram,
    NotReady,
    ProcessKeepsEnding,
    ServerKeepsEnding,
    ServerNotStarted,
    StateFolderUnusable,
)
"""Why a stack may not come up or go on; each message says what to do."""


class _Member(NamedTuple):
    """A process to start: its name, the program behind `python -m`, and its cores; all of them if empty."""

    name: str
    program: Sequence[str]
    cores: Collection[int] = ()


class LocalStack:
    """The stack inside a `with` block: `url` answers, and all workers have reported for duty.

    Everything ends with the block: workers first, which hand their jobs back, the server last. If this
    process is killed, the system ends everything (Linux).

    To be entered from the main thread, to which the system ties the life of the processes.

    Args:
        settings: of all processes. Without `redis_url` there is an embedded server; port 0 is a free one.
        listener: is given every line that a process writes, from several threads.
        workers: how many there are, of those that take a GPU if there is one; see `worker_programs`.
        announce: whether other programs of this user find the address by themselves.
    """

    def __init__(self, settings: Settings, listener: Listener, *, workers: int = 1, announce: bool = False) -> None:
        self._settings = settings
        self._listener = listener
        # The variable is not a setting of ours but CUDA's own; workers go by it too.
        self._workers = worker_programs(workers, find_machine(visible=os.environ.get("CUDA_VISIBLE_DEVICES")))
        self._announce = announce
        self._server: EmbeddedServer | None = None
        self._processes: list[StackProcess] = []
        self._resources = ExitStack()
        self.api_key: str | None = None
        """A key that the API accepts; None where it asks for none."""

    @property
    def url(self) -> str:
        """The address of API and dashboard."""
        host = self._settings.host.strip("[]")
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (not bound, but reached)
        return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{self._settings.port}"

    def __enter__(self) -> Self:
        """Starts everything; afterwards `url` answers.

        Raises:
            AlreadyRunning: another stack has announced itself with this state folder.
            NotReady: the API answers, but not all workers have come.
            ProcessKeepsEnding, ServerKeepsEnding: one ended instead of coming up; the message holds its last words.
            NoServerProgram, ServerNotStarted, StateFolderUnusable: see `EmbeddedServer`.
        """
        with ExitStack() as resources:
            redis_url = self._settings.redis_url or self._serve(resources)
            port = self._settings.port or free_port(self._settings.host)
            self._settings = self._settings.model_copy(update={"redis_url": redis_url, "port": port})
            if self._announce:
                resources.enter_context(announced(self.url, self._settings.state_dir))
            self.api_key = _key(self._settings)
            self._start(resources)
            self._wait()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops everything."""
        self._resources.close()

    def client(self) -> Client:
        """A client of this stack, to be closed by the caller."""
        return Client(self.url, api_key=self.api_key)

    def tend(self) -> None:
        """Starts again what has died; to be called now and then, from the main thread.

        Raises:
            ProcessKeepsEnding, ServerKeepsEnding: something dies again and again.
        """
        self._tend_server()
        for process in self._processes:
            process.restart_if_dead()

    def run_until(self, end: threading.Event) -> None:
        """Tends the stack until the event is set; errors as for `tend`."""
        while not end.wait(LOOK_S):
            self.tend()

    def _serve(self, resources: ExitStack) -> str:
        self._server = resources.enter_context(EmbeddedServer(self._settings.state_dir))
        return self._server.url

    def _tend_server(self) -> None:
        if self._server and (ending := self._server.restart_if_dead()):
            self._listener("server", f"{ending}; starting again")

    def _start(self, resources: ExitStack) -> None:
        """Starts API and workers, so that they are stopped in the opposite order, the workers all at once."""
        self._launch([_Member("api", ("service.server",))], API_GRACE_S, resources)
        count = len(self._workers)
        names = ["worker"] if count == 1 else [f"worker {number}" for number in range(1, count + 1)]
        members = map(_Member, names, self._workers, _shares_of_cores(count))
        self._launch(members, self._settings.cancel_grace_s + FAREWELL_S, resources)

    def _launch(self, members: Iterable[_Member], grace_s: float, resources: ExitStack) -> None:
        launched: list[StackProcess] = []
        resources.callback(stop, launched, grace_s)
        environment = self._settings.for_child()
        for name, program, cores in members:
            # One by one into the list that is stopped, should the next one not start.
            launched += [StackProcess(name, program, environment, self._listener, cores)]
        self._processes += launched

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with Client(self.url, api_key=self.api_key, patience_s=0) as client:
            while not self._is_ready(client):
                self._tend_server()
                for process in self._processes:
                    process.must_live()
                if time.monotonic() > deadline:
                    count = len(self._workers)
                    raise NotReady(f"{self.url} should answer and have {count} workers within {PATIENCE_S} s.")
                time.sleep(POLL_S)

    def _is_ready(self, client: Client) -> bool:
        with suppress(ServiceError):
            return len(client.workers()) >= len(self._workers)
        return False


def worker_programs(workers: int, machine: Machine) -> list[tuple[str, ...]]:
    """What to start behind `python -m`, so that jobs for every device of the machine find a worker.

    Args:
        workers: how many take the machine's own device: its GPU, or the processor where there is none.
        machine: as a worker without arguments finds it.
    """
    programs: list[tuple[str, ...]] = [("worker",)] * workers
    # A worker on a GPU leaves alone what is submitted for the CPU, and nobody else would ever run it.
    return [*programs, ("worker", "--device", "cpu")] if workers and machine.gpu else programs


def _key(settings: Settings) -> str | None:
    """A key for the API, which is made where others can reach it and there is none."""
    keys = settings.api_keys or (() if settings.is_on_loopback else load_api_keys(settings))
    return keys[0].get_secret_value() if keys else None


def _shares_of_cores(workers: int) -> list[Collection[int]]:
    """The cores of each worker: with as many threads each as the machine has cores, they would slow each other down."""
    if workers == 1 or not hasattr(os, "sched_getaffinity"):
        return [()] * workers
    cores = sorted(os.sched_getaffinity(0))
    return [cores[index % len(cores) :: workers] for index in range(workers)]


def free_port(host: str, preferred: int = 0) -> int:
    """A port on which nobody listens there: the preferred one if it is free."""
    for port in (preferred, 0):
        with suppress(OSError), socket.create_server((host.strip("[]"), port)) as listener:
            return int(listener.getsockname()[1])
    raise NotReady(f"No port of {host} can be listened on; set REINMAX_HOST to an address of this machine.")
