"""Watches one training process: its output, its outcome, its lease, and the reasons to end it."""

from __future__ import annotations

import os
import selectors
import threading
import time
from enum import StrEnum

from worker.assignment import Outcome, outcomes
from worker.attempt import Attempt, Order
from worker.child import Child
from worker.heartbeat import Heartbeat
from worker.output import Output
from worker.settings import Settings
from worker.standby import Standby

TICK_S = 0.1
REPLENISH_AFTER_S = 1.0
"""By then a job trains, and the start of the next training process no longer delays its first step."""
OUTPUT_BYTES = 2**16
LAST_OUTPUT_S = 1.0
"""How long processes that a dead training process left behind may hold its output open."""


class Ending(StrEnum):
    """Why a training process is ended before its time."""

    CANCEL = "cancel"
    PAUSE = "pause"
    TIMEOUT = "timeout"
    HAND_BACK = "hand back"
    FENCED = "fenced"


class Watch:
    """The life of one training process, from its assignment to its end.

    Args:
        attempt: what it is about.
        child: the process.
        timeout_s: seconds it may run; None for ever.
        settings: lease and grace.
        is_stopping: set when the worker shuts down.
        standby: told when the next training process may be started.
    """

    def __init__(
        self,
        attempt: Attempt,
        child: Child,
        timeout_s: float | None,
        settings: Settings,
        is_stopping: threading.Event,
        standby: Standby,
    ) -> None:
        self._child = child
        self._settings, self._is_stopping, self._standby = settings, is_stopping, standby
        self._began = time.monotonic()
        self._timeout_s = timeout_s
        self._kill_at: float | None = None
        self._output = Output(attempt)
        self._heartbeat = Heartbeat(attempt, self._output, settings.lease_s)
        self._outcome = b""
        self.ending: Ending | None = None
        """Why the process was asked to end; None if it was not."""

    def until_the_end(self) -> Outcome | None:
        """Waits for the process to end. Returns what it says came of the run; None if it could not say."""
        with selectors.DefaultSelector() as pipes, self._heartbeat:
            pipes.register(self._child.output, selectors.EVENT_READ, self._output.add)
            pipes.register(self._child.outcome, selectors.EVENT_READ, self._add_outcome)
            self._watch(pipes)
        self._output.send()
        return outcomes.validate_json(self._outcome) if self._outcome.strip() else None

    @property
    def has_begun(self) -> bool:
        """Whether the process has read its assignment."""
        return bool(self._outcome)

    def _watch(self, pipes: selectors.BaseSelector) -> None:
        next_tick, ended_at = 0.0, float("inf")
        while pipes.get_map() and time.monotonic() < ended_at + LAST_OUTPUT_S:
            self._read(pipes, max(0.0, next_tick - time.monotonic()))
            if time.monotonic() >= next_tick:
                self._tick()
                next_tick = time.monotonic() + TICK_S
            if self._child.exit_code is not None:
                ended_at = min(ended_at, time.monotonic())

    def _read(self, pipes: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in pipes.select(timeout_s):
            written = os.read(key.fd, OUTPUT_BYTES)
            if written:
                key.data(written)
            else:
                pipes.unregister(key.fileobj)

    def _add_outcome(self, written: bytes) -> None:
        self._outcome += written

    def _tick(self) -> None:
        self._obey(self._heartbeat.order)
        age_s = time.monotonic() - self._began
        if self._timeout_s is not None and age_s > self._timeout_s:
            self._end(Ending.TIMEOUT)
        if self._is_stopping.is_set():
            self._end(Ending.HAND_BACK)
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._child.kill()
        if age_s > REPLENISH_AFTER_S and not self._is_stopping.is_set():
            self._standby.replenish()

    def _obey(self, order: Order) -> None:
        match order:
            case Order.CANCEL:
                self._end(Ending.CANCEL)
            case Order.PAUSE:
                self._end(Ending.PAUSE)
            case Order.FENCED:
                self.ending = Ending.FENCED
                self._child.kill()

    def _end(self, ending: Ending) -> None:
        """Asks the process to save a checkpoint and end; it is killed if it takes too long."""
        if self.ending is None:
            self.ending = ending
            self._kill_at = time.monotonic() + self._settings.cancel_grace_s
            self._child.ask_to_end()
