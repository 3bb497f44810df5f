"""What the job store refuses."""

from __future__ import annotations

from worker.jobs import Job
from worker.reasons import CANCEL_REQUESTED, PRUNE_REQUESTED
from worker.sweep import Sweep

TO_BE_CANCELLED = frozenset({CANCEL_REQUESTED.code, PRUNE_REQUESTED.code})


class JobNotFound(LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; it may have been deleted")
        self.job_id = job_id


class ArtifactNotFound(LookupError):
    """A job has no artefact of this name."""

    def __init__(self, job_id: str, name: str) -> None:
        super().__init__(f"job {job_id} has no artefact {name!r}; its artefacts are listed once it has succeeded")
        self.job_id, self.name = job_id, name


class NotAllowed(Exception):
    """A job is in a state that does not allow an action.

    Args:
        job: as it stands.
        action: what was asked, as the end of "the job cannot be ...".
    """

    def __init__(self, job: Job, action: str) -> None:
        reason = job.status_reason
        asked = " (to be cancelled)" if reason and reason.code in TO_BE_CANCELLED else ""
        super().__init__(f"job {job.id} is {job.status.value}{asked} and cannot be {action}")
        self.job, self.action = job, action


class RecordUnreadable(Exception):
    """What the store holds of a job cannot be read: another version wrote it, or it is damaged.

    Args:
        job_id: the job.
        finding: what was found and what to do, as the end of "the record of the job cannot be read: ...".
        done: what was asked for and has been done all the same, such as "cancel".
    """

    def __init__(self, job_id: str, finding: str, done: str = "") -> None:
        remark = f" (the request to {done} it has been carried out all the same)" if done else ""
        super().__init__(f"the record of job {job_id} cannot be read: {finding}, or cancel and delete it{remark}")
        self.job_id, self.finding = job_id, finding


class IdempotencyMismatch(Exception):
    """An idempotency key was used before, for another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was used for another request in the last 24 h; use a new key")
        self.key = key


class SweepNotFound(LookupError):
    """No sweep has this id."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"there is no sweep {sweep_id!r}; it goes with the last of its jobs that is deleted")
        self.sweep_id = sweep_id


class SweepNotAllowed(Exception):
    """A sweep is in a state that does not allow an action.

    Args:
        sweep: as it stands.
        action: what was asked, as the end of "the sweep cannot be ...".
    """

    def __init__(self, sweep: Sweep, action: str) -> None:
        super().__init__(f"sweep {sweep.id} is {sweep.status.value} and cannot be {action}")
        self.sweep, self.action = sweep, action


class SweepUnreadable(Exception):
    """What the store holds of a sweep cannot be read: another version wrote it, or it is damaged."""

    def __init__(self, sweep_id: str, error: Exception) -> None:
        super().__init__(
            f"the record of sweep {sweep_id} cannot be read: {error}. Update API and workers to the version that wrote "
            f"it, or delete its jobs"
        )
        self.sweep_id = sweep_id
