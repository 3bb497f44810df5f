"""The end of an attempt: written down however long the server takes, and cleared up after."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar, final

from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable
from worker.assignment import Failed, FencedOff, Outcome, Spoilt, Succeeded
from worker.attempt import Attempt, Claim, Fenced
from worker.jobs import Failure, Job, Reason, State
from worker.keyspace import StoreUnavailable
from worker.member import Ending
from worker.store import JobNotFound, JobStore, RecordUnreadable
from worker.submission import Cause

REPEAT_AFTER_S = 0.5
HANDED_BACK = Reason(code="worker_stopped", message="its worker was stopped; the next worker continues")
NEIGHBOUR = Reason(
    code="neighbour",
    message="a job that was trained beside it was to end, and did not in time; the next worker continues",
)
NOT_BEGUN = Reason(code="not_begun", message="its training process died while it was starting; a worker tries again")
RELEASED: Final = {Ending.HAND_BACK: HANDED_BACK, Ending.NEIGHBOUR: NEIGHBOUR, None: NOT_BEGUN}

Wake: TypeAlias = Callable[[Job], None]
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


@final
class Conclusion:
    """Ends attempts in the store as they have turned out, and removes the files that nobody needs from then on.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job that waits again.
        artifacts: where their files are.
        lease_s: for so long a worker that is to end tries to reach the store.
        is_stopping: set when the worker is to end.
    """

    def __init__(
        self, store: JobStore, wake: Wake, artifacts: ArtifactStore, lease_s: float, is_stopping: threading.Event
    ) -> None:
        self._store, self._wake, self._artifacts = store, wake, artifacts
        self._lease_s, self._is_stopping = lease_s, is_stopping

    def conclude(self, claim: Claim, ending: Ending | None, outcome: Outcome, replicas: int = 1) -> None:
        """Ends an attempt that its training process has ended; does nothing to a job that is another attempt's.

        Args:
            claim: the attempt.
            ending: why it was asked to end; None if it was not.
            outcome: what came of it.
            replicas: how many jobs the process trained side by side.
        """
        attempt = claim.attempt
        logger.info("job %s: attempt %d ends: %s", attempt.job_id, attempt.epoch, _summary(ending, outcome))
        if self._insist(attempt, partial(_end, claim, ending, outcome, replicas)) is State.QUEUED:
            self._call_a_worker(attempt)
        self._clear(attempt)

    def hand_back(self, claim: Claim, reason: Reason) -> None:
        """Ends an attempt that has not begun; it is not counted."""
        if self._insist(claim.attempt, partial(claim.attempt.release, reason)) is State.QUEUED:
            self._call_a_worker(claim.attempt)

    def _insist(self, attempt: Attempt, action: Callable[[], Answer]) -> Answer | None:
        """What an action on the store gives, however long the store takes; None if the attempt has lost the job."""
        deadline = time.monotonic() + self._lease_s
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

    def _call_a_worker(self, attempt: Attempt) -> None:
        try:
            self._wake(self._store.get(attempt.job_id))
        except (JobNotFound, RecordUnreadable, StoreUnavailable) as error:
            logger.warning("no worker was woken for job %s; a sweep will find it: %s", attempt.job_id, error)

    def _clear(self, attempt: Attempt) -> None:
        """Removes files of this attempt and those before it, but for those that the record of the job names.

        That is safe at any time, whoever has the job: of attempts that have ended, a record names ever fewer files.
        """
        try:
            named = self._store.files(attempt.job_id)
            self._artifacts.keep_only(attempt.job_id, named, up_to_epoch=attempt.epoch)
        except (ArtifactStoreUnavailable, RecordUnreadable, StoreUnavailable) as error:
            logger.warning("files of job %s that nobody needs may be left over: %s", attempt.job_id, error)


def _end(claim: Claim, ending: Ending | None, outcome: Outcome, replicas: int) -> State | None:
    """Ends the attempt as it has turned out: a run that came to its end did so, whatever was asked meanwhile.

    What may be due to the others beside it is not counted: it is tried again beside fewer of them, at last alone.

    Returns:
        The state that the job has come to; None if it is another attempt's.
    """
    attempt = claim.attempt
    match outcome, ending:
        case (FencedOff(), _) | (_, Ending.FENCED):
            return None
        case Succeeded(), _:
            attempt.succeed(outcome.result, outcome.artifacts, outcome.progress)
            return State.SUCCEEDED
        case Spoilt(), _:
            fewer = outcome.replicas // 2 if outcome.cause is Cause.OOM else 1
            return attempt.release(_beside_fewer(outcome.failure.message), fewer)
        case Failed(), None:
            return attempt.fail(outcome.cause, outcome.failure)
        case Failed(cause=Cause.ERROR | Cause.DIVERGED), _:
            return attempt.fail(outcome.cause, outcome.failure)
        case _, Ending.CANCEL:
            attempt.stop()
            return State.CANCELLED
        case _, Ending.PAUSE:
            return attempt.pause()
        case _, Ending.TIMEOUT if replicas > 1:
            return attempt.release(_beside_fewer("side by side, it ran longer than timeout_s"), replicas // 2)
        case _, Ending.TIMEOUT:
            return attempt.fail(Cause.TIMEOUT, _timeout(claim.job))
        case _:
            return attempt.release(RELEASED[ending])


def _beside_fewer(finding: str) -> Reason:
    return Reason(code="beside_fewer", message=f"{finding}; it is tried again with fewer jobs, or none, beside it")


def _timeout(job: Job) -> Failure:
    message = f"the attempt ran longer than timeout_s, {job.timeout_s:g} s; submit it with more, or with fewer steps"
    return Failure(type="Timeout", message=message)


def _summary(ending: Ending | None, outcome: Outcome) -> str:
    what = f"{outcome.cause}: {outcome.failure.message}" if isinstance(outcome, Failed | Spoilt) else outcome.kind
    return what if ending is None else f"{what} ({ending})"
