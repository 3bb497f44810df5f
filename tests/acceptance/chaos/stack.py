"""A server, two APIs and some workers as real processes on this machine, kept alive whatever is done to them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from typing import Final, Self

from redis import Redis
from redis.exceptions import RedisError

from service.local import free_port
from tests.acceptance.chaos.intervals import Interval
from tests.acceptance.chaos.members import Member
from tests.worker.servers import process_of
from worker.embedded_server import EmbeddedServer, ServerKeepsEnding
from worker.settings import Settings
from worker.store import JobStore

APIS: Final = 2
PATIENCE_S: Final = 90.0
LOOK_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.5
"""What has died is started again after at most so many seconds."""
SERVER_LIVES_S: Final = 11.0
"""An embedded server that ends three times in a row younger than 10 s is given up by its owner."""


class NotUp(Exception):
    """The stack does not come up."""


class Stack:
    """The processes inside a `with` block, to be entered, tended and mistreated from the main thread.

    Args:
        folder: of all data and logs.
        workers: how many.
        lease_s: of an attempt.
        checkpoint_interval_s: seconds between two checkpoints.
        chance: of the pauses before something is started again.
    """

    def __init__(
        self, folder: Path, workers: int, lease_s: float, checkpoint_interval_s: float, chance: random.Random
    ) -> None:
        self.settings = Settings(
            state_dir=folder / "state",
            data_dir=folder / "data",
            lease_s=lease_s,
            checkpoint_interval_s=checkpoint_interval_s,
            cancel_grace_s=5.0,
        )
        self.logs = folder / "logs"
        self.apis: list[Member] = []
        self.workers: list[Member] = []
        self.outages: list[Interval] = []
        """When there was no server."""
        self._count, self._chance = workers, chance
        self._server = EmbeddedServer(self.settings.state_dir)
        self._resources = ExitStack()
        self._served_from, self._serve_again_at, self._gone_at = 0.0, inf, inf

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True)
        with ExitStack() as resources:
            resources.enter_context(self._server)
            self._served_from = time.monotonic()
            resources.callback(self._stop)
            self._start()
            self._wait_until_up()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops everything, the server last."""
        self._resources.close()

    @property
    def urls(self) -> list[str]:
        """The addresses of the APIs."""
        return self._urls

    def store(self, patience_s: float = 2.0) -> JobStore:
        """The jobs, past the API."""
        return JobStore.connect(self._server.url, patience_s=patience_s)

    @property
    def redis_url(self) -> str:
        """The server's address."""
        return self._server.url

    def tend(self) -> None:
        """Starts again what has died; to be called many times a second."""
        for member in (*self.apis, *self.workers):
            member.tend(self._chance.uniform(0, LONGEST_PAUSE_S))
        self._tend_server()

    def kill_server(self, away_s: float) -> bool:
        """Kills the server, which is started again so much later. False if it has only just come up."""
        if self._gone_at < inf or time.monotonic() < self._served_from + SERVER_LIVES_S:
            return False
        process_of(self._server.url).kill()
        self._gone_at, self._serve_again_at = time.time(), time.monotonic() + away_s
        return True

    @property
    def is_up(self) -> bool:
        """Whether everything is alive and well."""
        return self._gone_at == inf and all(member.life.is_well for member in (*self.apis, *self.workers))

    def _start(self) -> None:
        ports = [free_port("127.0.0.1") for _ in range(APIS)]
        self._urls = [f"http://127.0.0.1:{port}" for port in ports]
        common = self.settings.model_copy(update={"redis_url": self._server.url})
        for number, port in enumerate(ports):
            environment = common.model_copy(update={"port": port}).for_child()
            self.apis.append(self._member(f"api-{number}", ("service.server",), environment))
        cores = sorted(os.sched_getaffinity(0))
        for number in range(self._count):
            program = ("tests.acceptance.chaos.telling_worker", "--device", "cpu")
            # On one core each, so that they train with one thread, as the undisturbed runs do.
            self.workers.append(
                self._member(f"worker-{number}", program, common.for_child(), {cores[number % len(cores)]})
            )

    def _member(
        self, name: str, program: tuple[str, ...], environment: dict[str, str], cores: Collection[int] = ()
    ) -> Member:
        member = Member(name, program, environment, self.logs / f"{name}.log", cores)
        member.start()
        return member

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_up:
            if time.monotonic() > deadline:
                raise NotUp(f"APIs and workers should be ready within {PATIENCE_S:g} s; see their logs in {self.logs}")
            self.tend()
            time.sleep(LOOK_S)

    def _tend_server(self) -> None:
        if self._gone_at == inf:
            return
        if self._serve_again_at < inf:
            if time.monotonic() >= self._serve_again_at:
                with suppress(ServerKeepsEnding):
                    if self._server.restart_if_dead():
                        self._serve_again_at = inf
            return
        with suppress(RedisError), Redis.from_url(self._server.url, socket_timeout=0.2) as client:
            client.ping()
            self.outages.append((self._gone_at, time.time()))
            self._gone_at, self._served_from = inf, time.monotonic()

    def _stop(self) -> None:
        for members, grace_s in ((self.workers, 15.0), (self.apis, 5.0)):
            for member in members:
                member.ask_to_end()
            for member in members:
                member.wait(grace_s)
