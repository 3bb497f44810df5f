"""Jobs and faults side by side, until all jobs have ended."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.acceptance.chaos.calls import Caller
from tests.acceptance.chaos.faults import schedule
from tests.acceptance.chaos.saboteur import Saboteur
from tests.acceptance.chaos.stack import LOOK_S, Stack
from worker.jobs import TERMINAL
from worker.keyspace import StoreUnavailable
from worker.submission import HIGHEST_MAX_ATTEMPTS

WAITING: Final = 3
"""Jobs that wait for a worker, besides those that the workers have."""
GAP_S: Final = (0.3, 2.5)
"""Seconds between two faults, at least."""
COUNT_EVERY_S: Final = 0.25
LOOK_FOR_VICTIMS_S: Final = 5.0
"""A fault to which there is nobody to do it for so long is exchanged for the next one."""


@dataclass(frozen=True)
class Order:
    """A job that is to be submitted."""

    number: int
    key: str
    spec: dict[str, Any]
    """Of the run."""

    @property
    def body(self) -> dict[str, Any]:
        """The request."""
        names = {"name": f"chaos {self.number}", "labels": {"number": str(self.number)}}
        return self.spec | names | {"hardware": "cpu", "max_attempts": HIGHEST_MAX_ATTEMPTS}


class Campaign:
    """Submits jobs over HTTP while faults happen, both spread over the whole time.

    Args:
        stack: to be mistreated.
        caller: over HTTP.
        orders: the jobs.
        faults: how many.
        chance: of the faults.
    """

    def __init__(
        self, stack: Stack, caller: Caller, orders: Sequence[Order], faults: int, chance: random.Random
    ) -> None:
        self.accepted: dict[str, Order] = {}
        """The jobs that the service has accepted, by id."""
        self.wanted = len(orders)
        """How many there should be."""
        self.twice: list[str] = []
        """Ids that two keys were answered with."""
        self.error: Exception | None = None
        """What has ended the submissions."""
        actions = actions_of(caller)
        self.saboteur = Saboteur(stack, caller, actions, chance)
        self._stack, self._caller, self._orders, self._chance = stack, caller, orders, chance
        self._kinds, self._faults = schedule(faults, actions, chance), faults
        self._ended = 0
        self._next_fault = self._next_count = 0.0
        self._no_victim_since = float("inf")
        self._is_over = threading.Event()

    def run(self, limit_s: float) -> None:
        """Returns when all jobs have ended, or that time is over, with all processes alive and well again."""
        deadline = time.monotonic() + limit_s
        submitter = threading.Thread(target=self._submit_all, name="submitter", daemon=True)
        submitter.start()
        while not self._is_through and time.monotonic() < deadline:
            self._turn()
            time.sleep(LOOK_S)
        self._is_over.set()
        submitter.join()
        self._mend(deadline=time.monotonic() + 120)

    @property
    def _is_through(self) -> bool:
        if self.error:
            return True
        is_quiet = self.saboteur.is_through
        return is_quiet and self._ended >= len(self._orders) and len(self.accepted) == len(self._orders)

    def _turn(self) -> None:
        self._stack.tend()
        self.saboteur.relieve()
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + COUNT_EVERY_S
            with suppress(StoreUnavailable):
                self._ended = self._count_ended()
        if self._kinds and time.monotonic() >= self._next_fault and self._may_strike:
            self._strike()

    @property
    def _may_strike(self) -> bool:
        """Faults keep pace with the jobs, so that they meet all of them."""
        done = len(self.saboteur.done) / self._faults
        return bool(self.accepted) and done <= (self._ended + len(self._stack.workers)) / len(self._orders)

    def _may_submit(self, number: int) -> bool:
        """Jobs keep pace with the faults; a few more than there are workers are under way."""
        backlog = len(self._stack.workers) + WAITING
        done = len(self.saboteur.done) / self._faults if self._kinds else 1.0
        return number < self._ended + backlog and number <= done * len(self._orders) + backlog

    def _strike(self) -> None:
        now = time.monotonic()
        if self.saboteur.strike(self._kinds[0]):
            self._kinds.pop(0)
            self._next_fault, self._no_victim_since = now + self._chance.uniform(*GAP_S), float("inf")
            return
        self._next_fault = now + 0.1
        self._no_victim_since = min(self._no_victim_since, now)
        if now > self._no_victim_since + LOOK_FOR_VICTIMS_S:
            self._kinds.append(self._kinds.pop(0))
            self._no_victim_since = now

    def _submit_all(self) -> None:
        try:
            for order in self._orders:
                while not self._may_submit(order.number):
                    if self._is_over.wait(0.05):
                        return
                job_id = self._caller.submit(order.body, order.key)
                if job_id in self.accepted:
                    self.twice.append(job_id)
                self.accepted[job_id] = order
        except Exception as error:  # noqa: BLE001  (part of the report)
            self.error = error

    def _mend(self, deadline: float) -> None:
        """Returns when everything is alive and well again."""
        while time.monotonic() < deadline and not (self._stack.is_up and self.saboteur.is_through):
            self._stack.tend()
            self.saboteur.relieve()
            time.sleep(LOOK_S)

    def _count_ended(self) -> int:
        counts = self._stack.store(1.0).counts()
        return sum(counts.get(state, 0) for state in TERMINAL)


def actions_of(caller: Caller) -> set[str]:
    """What the service says that it can be asked to do with a job."""
    paths = caller.ask("GET", "/openapi.json").json()["paths"]
    found = (re.fullmatch(r"/v1/jobs/\{\w+\}/(cancel|pause|resume|retry)", path) for path in paths)
    return {match[1] for match in found if match}
