"""The end of a worker for which the server does not care: whoever is asked to end does so, answered or not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self, final

LOOK_EVERY_S = 0.1

logger = logging.getLogger(__name__)


@final
class Farewell:
    """Ends a worker that was asked to end and has no job, when Celery still waits for a server that answers nothing.

    It would do so for minutes, half of one for each of several answers. Works inside a `with` block, which is to be
    left when the worker has ended by itself.

    Args:
        is_busy: whether the worker has a job that it has not handed back yet.
        patience_s: how long it may take from then on.
        leave: ends the process at once.
    """

    def __init__(self, is_busy: Callable[[], bool], patience_s: float, leave: Callable[[], None]) -> None:
        self._is_busy, self._patience_s, self._leave = is_busy, patience_s, leave
        self._is_asked, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="farewell", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """The worker has ended by itself."""
        self._is_over.set()
        self._is_asked.set()
        self._thread.join()

    def begin(self) -> None:
        """The worker is asked to end. Returns at once, as signal handlers must."""
        self._is_asked.set()

    def _run(self) -> None:
        self._is_asked.wait()
        while self._is_busy() and not self._is_over.wait(LOOK_EVERY_S):
            continue
        if not self._is_over.wait(self._patience_s):
            logger.warning("the server does not answer; this worker ends without taking leave")
            self._leave()
