"""Signs of life of an attempt, beside whatever else its worker does."""

from __future__ import annotations

import threading
from typing import Self, final

from worker.attempt import Attempt, Order
from worker.keyspace import StoreUnavailable
from worker.output import Output

BEAT_EVERY_S = 0.2


@final
class Heartbeat:
    """Extends the lease of an attempt again and again, and passes on what the training process writes.

    It does so in a thread of its own, because a server may take seconds not to answer, and the training
    process has to be watched meanwhile. Works inside a `with` block.
    """

    def __init__(self, attempt: Attempt, output: Output, lease_s: float) -> None:
        self._attempt, self._output, self._lease_s = attempt, output, lease_s
        self._order = Order.CONTINUE
        self._error: Exception | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread, after the answer that it waits for."""
        self._is_over.set()
        self._thread.join()

    @property
    def order(self) -> Order:
        """What the store has answered last; raises what has ended the beating, if something has."""
        if self._error is not None:
            raise self._error
        return self._order

    def _run(self) -> None:
        try:
            while not self._is_over.wait(min(BEAT_EVERY_S, self._lease_s / 3)):
                self._beat()
        except Exception as error:  # noqa: BLE001  (raised where the attempt is watched, by `order`)
            self._error = error

    def _beat(self) -> None:
        # Through an outage training goes on: whether the lease was lost, the first answer after it tells.
        try:
            self._order = self._attempt.beat(self._lease_s)
        except StoreUnavailable:
            return
        self._output.send()
