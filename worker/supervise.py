"""Attempts at jobs, one at a time: claim, keep the lease, watch the training process, end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import TypeAlias, TypeVar

from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, location
from worker.assignment import Assignment, Failed, FencedOff, Outcome, Places, Stopped, Succeeded
from worker.attempt import Attempt, Checkpoint, Claim, Fenced
from worker.hardware import Machine
from worker.jobs import Cause, Failure, Job, Reason, State, WorkerRecord
from worker.keyspace import StoreUnavailable
from worker.settings import Settings
from worker.standby import Standby
from worker.store import JobNotFound, JobStore
from worker.watch import Ending, Watch

REPEAT_AFTER_S = 0.5
EXIT_TAKES_S = 2.0
"""From the end of its output to the end of a process: giving back gigabytes of memory takes a while."""
STILLBORN_IN_A_ROW = 3
"""So many training processes that died before they could read an assignment mean that this worker is of no use."""
HANDED_BACK = Reason(code="worker_stopped", message="its worker was stopped; the next worker continues")
NOT_BEGUN = Reason(code="not_begun", message="its training process died while it was starting; a worker tries again")

Wake: TypeAlias = Callable[[Job], None]
Answer = TypeVar("Answer")

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
        self._artifacts = ArtifactStore(places.artifacts_url)
        self._is_stopping = threading.Event()
        self._stillborn = 0
        self.job_id: str | None = None
        """The job that is being carried out."""

    def shut_down(self) -> None:
        """Hands the running job back with a checkpoint and claims no more. Returns at once, as signal handlers must."""
        self._is_stopping.set()

    def run(self, job_id: str) -> None:
        """Makes one attempt at a job, if it is to be had. A message about it means no more than that it might be."""
        try:
            claim = self._claim(job_id)
        except StoreUnavailable as error:
            logger.warning("job %s was not claimed and is left to the next sweep: %s", job_id, error)
            return
        if claim is None:
            return
        self.job_id = job_id
        try:
            self._attempt(claim)
        finally:
            self.job_id = None
            if not self._is_stopping.is_set():
                self._standby.replenish()

    def _claim(self, job_id: str) -> Claim | None:
        if self._is_stopping.is_set():
            with suppress(JobNotFound):
                self._wake(self._store.get(job_id))
            return None
        return self._store.claim(job_id, self._worker(), self._settings.lease_s)

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
        self._conclude(claim, watch.ending, outcome or Stopped())
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

    def _conclude(self, claim: Claim, ending: Ending | None, outcome: Outcome) -> None:
        attempt = claim.attempt
        logger.info("job %s: attempt %d ends: %s", attempt.job_id, attempt.epoch, _summary(ending, outcome))
        # Read beforehand: success takes them off the job, also where its answer is lost and it is written again.
        checkpoints = self._insist(attempt, attempt.checkpoints) if isinstance(outcome, Succeeded) else None
        self._insist(attempt, partial(self._write, claim, ending, outcome))
        if checkpoints:
            self._clear(attempt, checkpoints)

    def _insist(self, attempt: Attempt, action: Callable[[], Answer]) -> Answer | None:
        """What an action on the store gives, however long the store takes; None if the attempt has lost the job."""
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                return action()
            except StoreUnavailable as error:
                logger.warning("the end of job %s cannot be written yet: %s", attempt.job_id, error)
                if self._is_stopping.is_set() and time.monotonic() > deadline:
                    # A worker that is to end does not outlive its server: the lease that has run out says it all.
                    return None
                time.sleep(REPEAT_AFTER_S)
            except Fenced as error:
                logger.info("%s", error)
                return None

    def _write(self, claim: Claim, ending: Ending | None, outcome: Outcome) -> None:
        """Ends the attempt as it has turned out: a run that came to its end did so, whatever was asked meanwhile."""
        attempt = claim.attempt
        match outcome, ending:
            case (FencedOff(), _) | (_, Ending.FENCED):
                return
            case Succeeded(), _:
                attempt.succeed(outcome.result, outcome.artifacts, outcome.progress)
            case Failed(), None:
                self._fail(attempt, outcome)
            case Failed(cause=Cause.ERROR | Cause.DIVERGED), _:
                self._fail(attempt, outcome)
            case _, Ending.CANCEL:
                attempt.stop()
            case _, Ending.TIMEOUT:
                self._fail(attempt, _timeout(claim.job))
            case _:
                attempt.release(HANDED_BACK if ending else NOT_BEGUN)
                self._wake(self._store.get(attempt.job_id))

    def _clear(self, attempt: Attempt, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Removes the checkpoints of a job if this attempt has brought it to its end; otherwise they are needed."""
        try:
            job = self._store.get(attempt.job_id)
            if (job.status, job.epoch) == (State.SUCCEEDED, attempt.epoch):
                for checkpoint in checkpoints:
                    for file in checkpoint.files:
                        self._artifacts.delete(location(attempt.job_id, checkpoint.epoch, file.name))
        except (ArtifactStoreUnavailable, JobNotFound, StoreUnavailable) as error:
            logger.warning("checkpoints of job %s may be left over: %s", attempt.job_id, error)

    def _fail(self, attempt: Attempt, outcome: Failed) -> None:
        if attempt.fail(outcome.cause, outcome.failure) is State.QUEUED:
            self._wake(self._store.get(attempt.job_id))


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


def _timeout(job: Job) -> Failed:
    message = f"the attempt ran longer than timeout_s, {job.timeout_s:g} s; submit it with more, or with fewer steps"
    return Failed(cause=Cause.TIMEOUT, failure=Failure(type="Timeout", message=message))


def _summary(ending: Ending | None, outcome: Outcome) -> str:
    what = f"{outcome.cause}: {outcome.failure.message}" if isinstance(outcome, Failed) else outcome.kind
    return what if ending is None else f"{what} ({ending})"
