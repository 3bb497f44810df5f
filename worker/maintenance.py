"""What a worker does beside its job: show that it lives, and look after jobs that others have lost or forgotten."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

from worker.jobs import Job, WorkerRecord
from worker.keyspace import StoreUnavailable
from worker.store import JobStore

ROUND_S = 1.0
REGISTER_EVERY_S = 5.0
REGISTERED_FOR_S = 15.0
SWEEP_EVERY_S = 5.0
FORGOTTEN_AFTER_S = 10.0
"""A worker that is idle so long after a job was queued was not woken for it."""

logger = logging.getLogger(__name__)


class Maintenance:
    """A thread that registers the worker, ends attempts whose lease has run out, and wakes for forgotten jobs.

    It goes on through outages of the server. Any number of workers may do the same at once.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job.
        worker: describes this worker as it is now; while it names no job, the worker is idle.
        lease_s: for how long attempts hold a job without a sign of life.
    """

    def __init__(
        self, store: JobStore, wake: Callable[[Job], None], worker: Callable[[], WorkerRecord], lease_s: float
    ) -> None:
        self._store, self._wake, self._worker, self._lease_s = store, wake, worker, lease_s
        self._is_closed = threading.Event()
        self._due = {self._register: 0.0, self._reap: 0.0, self._sweep: 0.0}
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
        while not self._is_closed.wait(self._round()):
            continue

    def _round(self) -> float:
        """Does what is due. Returns the seconds until the next round."""
        for duty, due in self._due.items():
            if time.monotonic() >= due:
                self._due[duty] = time.monotonic() + self._attend_to(duty)
        return min(ROUND_S, self._lease_s / 4)

    def _attend_to(self, duty: Callable[[], float]) -> float:
        try:
            return duty()
        except StoreUnavailable as error:
            logger.warning("%s", error)
            # After an outage all leases may have run out, and their workers need time to say that they live.
            self._due[self._reap] = time.monotonic() + self._lease_s
            return ROUND_S
        except Exception:
            logger.exception("maintenance goes on after an error")
            return ROUND_S

    def _register(self) -> float:
        self._store.register(self._worker(), REGISTERED_FOR_S)
        return REGISTER_EVERY_S

    def _reap(self) -> float:
        for job in self._store.reap():
            logger.warning("job %s: attempt %d was lost; it waits for the next", job.id, job.epoch)
            self._wake(job)
        return 0.0

    def _sweep(self) -> float:
        worker = self._worker()
        if worker.job is None:
            for job in self._store.forgotten(worker, FORGOTTEN_AFTER_S):
                logger.info("job %s: nobody was woken for it lately", job.id)
                self._wake(job)
        return SWEEP_EVERY_S
