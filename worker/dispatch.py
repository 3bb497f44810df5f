"""How jobs come to workers: claims, lost and forgotten jobs, and the workers that are alive."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from json import dumps

from worker.attempt import Attempt, Claim
from worker.call import Call, message_keys
from worker.jobs import Failure, Job, WorkerRecord
from worker.keyspace import Keyspace
from worker.reasons import CANCELLED, LOST, LOST_FOR_GOOD, LOST_ONCE, PAUSED
from worker.refusal import RecordUnreadable
from worker.shown import readable_jobs_of, workers_of
from worker.submission import Cause

FORGOTTEN_A_TIME = 16
TOKEN_BYTES = 8
FAILING_TAKES_S = 60.0


class Dispatch(ABC):
    """The part of the job store that workers take jobs from.

    Args:
        keyspace: where jobs are kept.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace

    @abstractmethod
    def get(self, job_id: str) -> Job:
        """The job as it stands."""

    def workers(self) -> tuple[WorkerRecord, ...]:
        """The workers that are alive, by name."""
        return workers_of(self.keyspace.run("workers"))

    def claim(self, job_id: str, worker: WorkerRecord, lease_s: float, *, token: str | None = None) -> Claim | None:
        """Takes a job for a worker, until the lease runs out without a beat; None if it is not to be had.

        A job is to be had while it is queued, and fits into the memory of the worker.

        Args:
            job_id: the job.
            worker: who takes it.
            lease_s: seconds.
            token: random; a claim whose answer got lost gives the same attempt when it is repeated with its token.
        """
        token = token or secrets.token_hex(TOKEN_BYTES)
        needs = (milliseconds(lease_s), worker.job_memory_gb, token)
        epoch = self.keyspace.run("claim", job_id, worker.name, *needs)
        return None if epoch is None else self._claimed(job_id, epoch)

    def take(
        self, worker: WorkerRecord, lease_s: float, *, replicas: int = 1, token: str | None = None
    ) -> tuple[Claim, ...]:
        """Claims the job that a worker should start next; none if there is none for it.

        That is the first in the order of priority and submission of all its queues' jobs that fit. Others of the
        same form are claimed with it, which may wait further back: as many as fit into the memory too, unless other
        workers would be left without a job.

        Args:
            worker: who takes them.
            lease_s: seconds until they are lost without a beat.
            replicas: how many there may be in all.
            token: random; a claim whose answer got lost gives the same attempts when it is repeated with its token.
        """
        token = token or secrets.token_hex(TOKEN_BYTES)
        needs = (worker.name, milliseconds(lease_s), worker.job_memory_gb, token, replicas)
        while taken := self.keyspace.run("take", *needs, *worker.queues):
            claims = [self._claimed(job_id, epoch) for job_id, epoch in taken]
            if any(claims):  # the others cannot be read, and have failed
                return tuple(claim for claim in claims if claim)
        return ()

    def attempt(self, job_id: str, epoch: int) -> Attempt:
        """The attempt of that number, for the process that carries it out."""
        return Attempt(self.keyspace, job_id, epoch)

    def reap(self) -> tuple[Job, ...]:
        """Ends the attempts whose lease has run out. Returns the jobs that wait again, for which to wake a worker."""
        reasons = (LOST_ONCE, LOST_FOR_GOOD, LOST, CANCELLED, PAUSED)
        return self._read(self.keyspace.run("reap", "", *(reason.model_dump_json() for reason in reasons)))

    def forgotten(self, worker: WorkerRecord, older_than_s: float) -> tuple[Job, ...]:
        """The first jobs in the worker's queues that fit it and for which nobody was woken for so long.

        They count as woken from now on: of the workers that ask, one gets each. One that cannot be read fails.
        """
        limits = (worker.job_memory_gb, milliseconds(older_than_s), FORGOTTEN_A_TIME)
        ids = self.keyspace.run("forgotten", *limits, *worker.queues)
        jobs = self._read(ids)
        for unreadable in set(ids) - {job.id for job in jobs}:
            self.claim(unreadable, worker, FAILING_TAKES_S)
        return jobs

    def uncalled(self, worker: WorkerRecord, first_queue: str | None = None) -> Call | None:
        """For whom to wake a worker, though nobody asked for it: the first job of a queue in which no message lies.

        None if a message lies in each of the worker's queues in which a job waits that fits it. The job counts as
        woken for from now on.

        Args:
            worker: whose queues they are.
            first_queue: which of them to look at first.
        """
        names = sorted(worker.queues, key=lambda name: name != first_queue)
        queues = (dumps((name, message_keys(name))) for name in names)
        found = self.keyspace.run("uncalled", worker.job_memory_gb, *queues)
        return Call(found[0], found[1], int(found[2])) if found else None

    def register(self, worker: WorkerRecord, lifetime_s: float) -> None:
        """Keeps a worker among the living for `lifetime_s`."""
        about = (worker.model_dump_json(), milliseconds(lifetime_s), " ".join(worker.queues))
        self.keyspace.run("register", worker.name, *about)

    def unregister(self, worker_name: str) -> None:
        """Takes a worker off the living."""
        self.keyspace.run("unregister", worker_name)

    def _claimed(self, job_id: str, epoch: int) -> Claim | None:
        attempt = self.attempt(job_id, epoch)
        try:
            return Claim(self.get(job_id), attempt, attempt.checkpoints())
        except RecordUnreadable as unreadable:
            attempt.fail(Cause.ERROR, Failure(type=type(unreadable).__name__, message=str(unreadable)))
            return None

    def _read(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Those of some jobs that can be read."""
        return tuple(readable_jobs_of(self.keyspace.run("read", *job_ids))) if job_ids else ()


def milliseconds(seconds: float) -> int:
    """As the scripts count time."""
    return round(seconds * 1000)
