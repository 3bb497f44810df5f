"""Attempts at jobs, one training process at a time: claim, keep the leases, watch the process, end."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial

from worker.artifacts import ArtifactStore
from worker.assignment import AssignedJob, Assignment, Failed, Places, Spoilt, Stopped
from worker.attempt import Claim
from worker.call import Waiting
from worker.conclusion import REPEAT_AFTER_S, Conclusion
from worker.dispatch import TOKEN_BYTES
from worker.hardware import Machine
from worker.heartbeat import Heartbeat
from worker.jobs import Failure, Reason, State, WorkerRecord
from worker.keyspace import StoreUnavailable
from worker.member import Member
from worker.settings import Settings
from worker.standby import Standby
from worker.store import JobNotFound, JobStore, RecordUnreadable
from worker.submission import Cause
from worker.watch import Watch

EXIT_TAKES_S = 2.0
"""From the end of its output to the end of a process: giving back gigabytes of memory takes a while."""
STILLBORN_IN_A_ROW = 3
"""So many training processes that died before they could read an assignment mean that this worker is of no use."""

OTHER_THREADS = Reason(
    code="other_threads",
    message="it has begun with another number of threads than the jobs beside which it was to go on; it waits again",
)
CRASHES = frozenset({signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV})
"""Signals that tell of an error of the process, not of its surroundings."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Carries out the jobs that are next when a message comes, one or several side by side in a process of their own.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job that waits.
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
        wake: Callable[[Waiting], None],
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
        self._members: Sequence[Member] = ()

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The jobs that are being carried out, side by side if they are several."""
        return tuple(member.job_id for member in self._members if not member.is_concluded)

    def shut_down(self) -> None:
        """Hands the running jobs back with checkpoints and claims no more. Returns at once, as signal handlers must."""
        self._is_stopping.set()

    def run(self, job_id: str, queue: str | None = None) -> None:
        """Makes one attempt at the job that is next, and maybe at others beside it, if any is to be had.

        That a message is about a job means no more than that there may be work. One at a time: a pool of threads
        that was made larger waits here, for there is but one device.

        Args:
            job_id: what the message was about.
            queue: where it lay.
        """
        with self._device:
            try:
                claims = self._take(job_id, queue)
            except StoreUnavailable as error:
                logger.warning("job %s was not claimed and is left to the next sweep: %s", job_id, error)
                return
            if claims:
                self._call_another(queue)
                self._carry_out([Member(claim) for claim in self._alike(claims)])

    def _take(self, job_id: str, queue: str | None) -> Sequence[Claim]:
        """Claims jobs; as long as a claim whose answer was lost could hold them, they are asked for again."""
        if self._is_stopping.is_set():
            self._pass_on(job_id, queue)
            return ()
        token, give_up_at = secrets.token_hex(TOKEN_BYTES), time.monotonic() + self._settings.lease_s
        lease_s, replicas = self._settings.lease_s, self._settings.replicas
        while True:
            try:
                return self._store.take(self._worker(), lease_s, replicas=replicas, token=token)
            except StoreUnavailable:
                if time.monotonic() > give_up_at or self._is_stopping.wait(REPEAT_AFTER_S):
                    raise

    def _call_another(self, queue: str | None) -> None:
        """Wakes a worker for the jobs behind, if no message lies there that will.

        There may be fewer messages than jobs: of a large sweep, not every job has one. Messages in one queue may stand
        for each other's jobs, so one is enough; those in another may not reach the same workers, so the queue of the
        one that has come is looked at first. Each message leads to one at most, and to none where others lie.
        """
        with suppress(StoreUnavailable):
            if call := self._store.uncalled(self._worker(), queue):
                self._wake(call)

    def _pass_on(self, job_id: str, queue: str | None) -> None:
        """Leaves a message to another worker, for its own job, or else for those behind."""
        with suppress(JobNotFound, RecordUnreadable):
            named = self._store.get(job_id)
            if named.status is State.QUEUED:
                self._wake(named)
                return
        self._call_another(queue)

    def _alike(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Those that can go on with one number of threads, on which last bits depend; the others are handed back."""
        begun = [claim for claim in claims if _threads(claim) and self._machine.device == "cpu"]
        others = [claim for claim in begun if _threads(claim) != _threads(begun[0])]
        for claim in others:
            self._conclusion.hand_back(claim, OTHER_THREADS)
        return [claim for claim in claims if claim not in others]

    def _carry_out(self, members: Sequence[Member]) -> None:
        self._members = members
        try:
            self._attempt(members)
        finally:
            self._members = ()
            if not self._is_stopping.is_set():
                self._standby.replenish()

    def _attempt(self, members: Sequence[Member]) -> None:
        kills = self._machine.out_of_memory_kills()
        for number, member in enumerate(members):
            beside = f" beside that of {members[0].job_id}" if number else ""
            logger.info("job %s: attempt %d begins%s", member.job_id, member.attempt.epoch, beside)
        conclude = partial(self._conclude, replicas=len(members))
        child = self._standby.take()
        with Heartbeat(members, self._settings.lease_s) as heartbeat:
            with closing(child):
                child.assign(self._assignment(members))
                watch = Watch(members, heartbeat, child, self._settings, self._is_stopping, self._standby, conclude)
                left = watch.until_the_end()
                exit_code = child.wait(EXIT_TAKES_S)
            if watch.has_begun:
                _explain(left, exit_code, self._machine.out_of_memory_kills() > kills)
            watch.conclude()
        self._count(is_stillborn=not watch.has_begun and not any(member.ending for member in members))

    def _conclude(self, member: Member, replicas: int) -> None:
        self._conclusion.conclude(member.claim, member.ending, member.outcome or Stopped(), replicas)
        member.is_concluded = True

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

    def _assignment(self, members: Sequence[Member]) -> Assignment:
        claims = [member.claim for member in members]
        return Assignment(
            jobs=tuple(
                AssignedJob(
                    job_id=claim.job.id,
                    epoch=claim.attempt.epoch,
                    spec=claim.job.spec,
                    checkpoints=claim.checkpoints,
                    before=claim.job.environment,
                )
                for claim in claims
            ),
            device=self._machine.device,
            device_name=self._machine.name,
            checkpoint_interval_s=self._settings.checkpoint_interval_s,
            places=self._places,
        )


def _threads(claim: Claim) -> int | None:
    """How many a job has begun with; None if it begins anew."""
    environment = claim.job.environment
    return environment.threads if environment and claim.checkpoints else None


def _explain(members: Sequence[Member], exit_code: int | None, out_of_memory: bool) -> None:
    """Gives an outcome to those whose process left none: what it died of."""
    silent = [member for member in members if member.outcome is None]
    for member in silent:
        # A process that is asked to end before there is anything to save just does so.
        is_obedient = exit_code == 0 and member.ending
        member.outcome = Stopped() if is_obedient else _crash(exit_code, out_of_memory, len(silent))


def _crash(exit_code: int | None, out_of_memory: bool, replicas: int) -> Failed | Spoilt:
    """What a process died of that left no outcome for so many of its jobs."""
    if exit_code is None or exit_code >= 0:
        message = f"the training process ended with exit code {exit_code}; its log says more"
        return _fault(Cause.ERROR, "ProcessEnded", message, replicas)
    number = signal.Signals(-exit_code)
    if out_of_memory and number == signal.SIGKILL:
        message = "the training process was killed because memory ran out; ask for more with hardware.memory_gb"
        return _fault(Cause.OOM, number.name, message, replicas)
    message = f"the training process was ended by {number.name}"
    return _fault(Cause.LOST, number.name, message, replicas if number in CRASHES else 1)


def _fault(cause: Cause, kind: str, message: str, replicas: int) -> Failed | Spoilt:
    """One of several jobs may be at fault or not."""
    failure = Failure(type=kind, message=message)
    if replicas > 1:
        return Spoilt(cause=cause, failure=failure, replicas=replicas)
    return Failed(cause=cause, failure=failure)
