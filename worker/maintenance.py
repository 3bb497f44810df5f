"""What a worker does beside its job: show that it lives, and look after jobs that others have lost or forgotten."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from worker.jobs import Job, WorkerRecord
from worker.keyspace import StoreUnavailable
from worker.store import JobStore

ROUND_S = 1.0
REGISTER_EVERY_S = 2.0
REGISTERED_FOR_S = 15.0
FORGOTTEN_AFTER_S = 2.0
"""A worker that is idle so long after a job was queued was not woken for it."""
DEAF_AFTER = 30
"""A worker that has woken for the same job so often and is still idle does not hear."""

logger = logging.getLogger(__name__)


class Maintenance:
    """A thread that registers the worker, ends attempts whose lease has run out, and wakes for forgotten jobs.

    It goes on through outages of the server. Any number of workers may do the same at once.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job.
        worker: describes this worker as it is now; while it names no job, the worker is idle.
        resign: ends a worker that no message reaches any more.
        lease_s: for how long attempts hold a job without a sign of life.
        forgotten_after_s: when an idle worker wakes for a job by itself.
        duties: what else to do; each gives the seconds after which it is due again.
    """

    def __init__(
        self,
        store: JobStore,
        wake: Callable[[Job], None],
        worker: Callable[[], WorkerRecord],
        resign: Callable[[], None],
        lease_s: float,
        forgotten_after_s: float = FORGOTTEN_AFTER_S,
        duties: Sequence[Callable[[], float]] = (),
    ) -> None:
        self._store, self._wake, self._worker, self._resign = store, wake, worker, resign
        self._lease_s, self._forgotten_after_s = lease_s, forgotten_after_s
        self._woken_in_vain: Counter[str] = Counter()
        self._queues: tuple[str, ...] = ()
        self._reap_from: float | None = None
        self._is_closed = threading.Event()
        self._due = dict.fromkeys((self._register, self._reap, self._sweep, *duties), 0.0)
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread and takes the worker off the living."""
        self._is_closed.set()
        self._thread.join()
        try:
            self._store.unregister(self._worker().name)
        except StoreUnavailable as unavailable:
            logger.warning("the worker was not unregistered: %s", unavailable)

    def _run(self) -> None:
        rounds_s = min(ROUND_S, self._lease_s / 4, self._forgotten_after_s / 2)
        while not self._is_closed.wait(rounds_s):
            for duty, due in self._due.items():
                if time.monotonic() >= due:
                    self._due[duty] = time.monotonic() + self._attend_to(duty)

    def _attend_to(self, duty: Callable[[], float]) -> float:
        try:
            return duty()
        except StoreUnavailable as error:
            logger.warning("%s", error)
            self._reap_from = time.monotonic() + self._grace_s(0)
            return ROUND_S
        except Exception:
            logger.exception("maintenance goes on after an error")
            return ROUND_S

    def _register(self) -> float:
        self._store.register(self._worker(), REGISTERED_FOR_S)
        return REGISTER_EVERY_S

    def _reap(self) -> float:
        if self._reap_from is None:
            self._reap_from = time.monotonic() + self._grace_s(self._store.keyspace.uptime_s())
        lost = self._store.reap() if time.monotonic() >= self._reap_from else ()
        for job in lost:
            logger.warning("job %s: attempt %d was lost; it waits for the next", job.id, job.epoch)
            self._wake(job)
        return 0.0

    def _grace_s(self, uptime_s: float) -> float:
        """After an outage all leases may have run out, and their workers need time to say that they live."""
        return self._lease_s if uptime_s < self._lease_s else 0.0

    def _sweep(self) -> float:
        worker = self._worker()
        # A queue that the worker was told to leave alone is no sign of deafness, and one that it got back is new to it.
        if worker.job is not None or worker.queues != self._queues:
            self._woken_in_vain.clear()
            self._queues = worker.queues
        if worker.job is not None:
            return self._forgotten_after_s / 2
        for job in self._store.forgotten(worker, self._forgotten_after_s):
            logger.info("job %s: nobody was woken for it lately", job.id)
            self._wake(job)
            self._woken_in_vain[job.id] += 1
        if any(times >= DEAF_AFTER for times in self._woken_in_vain.values()):
            logger.critical("this worker is idle, but messages do not reach it; it ends, to be started anew")
            self._resign()
        return self._forgotten_after_s / 2
