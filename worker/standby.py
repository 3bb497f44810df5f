"""A training process that is ready before there is a job for it: importing torch takes seconds, a job may not."""

from __future__ import annotations

import logging
import threading
from typing import Self

from worker.child import Child
from worker.hardware import Machine

LOOK_EVERY_S = 1.0

logger = logging.getLogger(__name__)


class Standby:
    """Keeps one idle training process at hand, and starts all of them.

    The kernel kills a process with the *thread* that started it, so the one thread that starts them
    lives as long as the worker.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._change = threading.Condition()
        self._child: Child | None = None
        self._wanted = True
        self._closed = False
        self._thread = threading.Thread(target=self._keep, name="standby", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the idle process."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()

    def take(self) -> Child:
        """The idle process, or a new one; it is the caller's to close. The next is not started before `replenish`."""
        with self._change:
            self._wanted = True
            self._change.notify_all()
            self._change.wait_for(lambda: self._child is not None and self._child.exit_code is None)
            child, self._child, self._wanted = self._child, None, False
        assert child is not None
        return child

    def replenish(self) -> None:
        """Has the next process started, once the one that was taken can spare the processor."""
        with self._change:
            self._wanted = True
            self._change.notify_all()

    def _keep(self) -> None:
        with self._change:
            while not self._closed:
                self._look()
                self._change.wait(LOOK_EVERY_S)
            self._drop()

    def _look(self) -> None:
        if self._child is not None and self._child.exit_code is not None:
            logger.error("an idle training process has ended by itself: %s", self._child.last_words())
            self._drop()
        if self._child is None and self._wanted:
            self._start()

    def _start(self) -> None:
        try:
            self._child = Child(self._machine)
        except OSError:
            logger.exception("a training process could not be started; trying again in %g s", LOOK_EVERY_S)
        self._change.notify_all()

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
