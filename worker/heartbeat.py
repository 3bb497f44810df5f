"""Signs of life of attempts, beside whatever else their worker does."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Self, final

from worker.attempt import Order, beat_for
from worker.keyspace import StoreUnavailable
from worker.member import Member

BEAT_EVERY_S = 0.2


@final
class Heartbeat:
    """Extends the leases of attempts again and again, and passes on what their training process writes.

    It does so in a thread of its own, because a server may take seconds not to answer, and the training
    process has to be watched meanwhile. Works inside a `with` block.
    """

    def __init__(self, members: Sequence[Member], lease_s: float) -> None:
        self._members, self._lease_s = list(members), lease_s
        self._orders: Mapping[str, Order] = {}
        self._error: Exception | None = None
        self._is_over = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread, after the answer that it waits for."""
        self._is_over.set()
        self._thread.join()

    @property
    def orders(self) -> Mapping[str, Order]:
        """What the store has answered last, by job; raises what has ended the beating, if something has."""
        if self._error is not None:
            raise self._error
        return self._orders

    def leave_out(self, member: Member) -> None:
        """Beats for one of them no more; returns after the answer that is waited for."""
        with self._turn:
            self._members.remove(member)

    def _run(self) -> None:
        try:
            while not self._is_over.wait(min(BEAT_EVERY_S, self._lease_s / 3)):
                with self._turn:
                    self._beat()
        except Exception as error:  # noqa: BLE001  (raised where the attempts are watched, by `orders`)
            self._error = error

    def _beat(self) -> None:
        if not self._members:
            return
        # Through an outage training goes on: whether a lease was lost, the first answer after it tells.
        try:
            orders = beat_for([member.attempt for member in self._members], self._lease_s)
        except StoreUnavailable:
            return
        self._orders = {member.job_id: order for member, order in zip(self._members, orders, strict=True)}
        for member in self._members:
            member.output.send()
