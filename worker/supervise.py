"""Attempts at jobs, one at a time: claim, keep the lease, watch the training process, end."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

from worker.artifacts import ArtifactStore
from worker.assignment import Assignment, Failed, Places, Stopped
from worker.attempt import Claim
from worker.conclusion import REPEAT_AFTER_S, Conclusion, Wake
from worker.hardware import Machine
from worker.jobs import Cause, Failure, WorkerRecord
from worker.keyspace import StoreUnavailable
from worker.settings import Settings
from worker.standby import Standby
from worker.store import TOKEN_BYTES, JobNotFound, JobStore
from worker.watch import Watch

EXIT_TAKES_S = 2.0
"""From the end of its output to the end of a process: giving back gigabytes of memory takes a while."""
STILLBORN_IN_A_ROW = 3
"""So many training processes that died before they could read an assignment mean that this worker is of no use."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Carries out the jobs that messages name, each attempt in a training process of its own.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job that waits again.
        resign: ends a worker whose training processes do not start.
        worker: describes this worker as it is now.
        standby: where training processes come from.
        machine: what they run on.
        settings: lease, grace and intervals.
        places: where they read and write.

    Raises:
        ArtifactStoreUnusable: nothing here can reach the place of the artefacts.
    """

    def __init__(
        self,
        store: JobStore,
        wake: Wake,
        resign: Callable[[], None],
        worker: Callable[[], WorkerRecord],
        standby: Standby,
        machine: Machine,
        settings: Settings,
        places: Places,
    ) -> None:
        self._store, self._wake, self._resign, self._worker = store, wake, resign, worker
        self._standby, self._machine = standby, machine
        self._settings, self._places = settings, places
        self._is_stopping = threading.Event()
        self._conclusion = Conclusion(
            store, wake, ArtifactStore(places.artifacts_url), settings.lease_s, self._is_stopping
        )
        self._device = threading.Lock()
        self._stillborn = 0
        self.job_id: str | None = None
        """The job that is being carried out."""

    def shut_down(self) -> None:
        """Hands the running job back with a checkpoint and claims no more. Returns at once, as signal handlers must."""
        self._is_stopping.set()

    def run(self, job_id: str) -> None:
        """Makes one attempt at a job, if it is to be had. A message about it means no more than that it might be.

        One at a time: a pool of threads that was made larger waits here, for there is but one device.
        """
        with self._device:
            try:
                claim = self._claim(job_id)
            except StoreUnavailable as error:
                logger.warning("job %s was not claimed and is left to the next sweep: %s", job_id, error)
                return
            if claim is not None:
                self._carry_out(claim)

    def _claim(self, job_id: str) -> Claim | None:
        """Claims a job; as long as a claim whose answer was lost could hold it, that is asked for again."""
        if self._is_stopping.is_set():
            with suppress(JobNotFound):
                self._wake(self._store.get(job_id))
            return None
        token, give_up_at = secrets.token_hex(TOKEN_BYTES), time.monotonic() + self._settings.lease_s
        while True:
            try:
                return self._store.claim(job_id, self._worker(), self._settings.lease_s, token=token)
            except StoreUnavailable:
                if time.monotonic() > give_up_at or self._is_stopping.wait(REPEAT_AFTER_S):
                    raise

    def _carry_out(self, claim: Claim) -> None:
        self.job_id = claim.job.id
        try:
            self._attempt(claim)
        finally:
            self.job_id = None
            if not self._is_stopping.is_set():
                self._standby.replenish()

    def _attempt(self, claim: Claim) -> None:
        attempt, kills = claim.attempt, self._machine.out_of_memory_kills()
        logger.info("job %s: attempt %d begins", attempt.job_id, attempt.epoch)
        with closing(self._standby.take()) as child:
            child.assign(self._assignment(claim))
            watch = Watch(attempt, child, claim.job.timeout_s, self._settings, self._is_stopping, self._standby)
            outcome = watch.until_the_end()
            exit_code = child.wait(EXIT_TAKES_S)
        if outcome is None and watch.has_begun:
            outcome = _crash(exit_code, self._machine.out_of_memory_kills() > kills)
        self._conclusion.conclude(claim, watch.ending, outcome or Stopped())
        self._count(is_stillborn=watch.ending is None and not watch.has_begun)

    def _count(self, *, is_stillborn: bool) -> None:
        self._stillborn = self._stillborn + 1 if is_stillborn else 0
        if is_stillborn:
            logger.error("the training process died while it was starting; the log of the job says more")
        if self._stillborn >= STILLBORN_IN_A_ROW:
            logger.critical(
                "%d training processes in a row died while they were starting; this worker ends. See that "
                "`python -c 'import worker.training'` works here",
                self._stillborn,
            )
            self._resign()

    def _assignment(self, claim: Claim) -> Assignment:
        return Assignment(
            job_id=claim.job.id,
            epoch=claim.attempt.epoch,
            spec=claim.job.spec,
            device=self._machine.device,
            device_name=self._machine.name,
            checkpoints=claim.checkpoints,
            checkpoint_interval_s=self._settings.checkpoint_interval_s,
            places=self._places,
        )


def _crash(exit_code: int | None, out_of_memory: bool) -> Failed:
    """What a process that left no outcome died of."""
    if exit_code is None or exit_code >= 0:
        message = f"the training process ended with exit code {exit_code}; its log says more"
        return Failed(cause=Cause.ERROR, failure=Failure(type="ProcessEnded", message=message))
    name = signal.Signals(-exit_code).name
    if out_of_memory and -exit_code == signal.SIGKILL:
        message = "the training process was killed because memory ran out; ask for more with hardware.memory_gb"
        return Failed(cause=Cause.OOM, failure=Failure(type=name, message=message))
    return Failed(cause=Cause.LOST, failure=Failure(type=name, message=f"the training process was ended by {name}"))
