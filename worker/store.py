"""Where jobs are kept: what the API and the workers know of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from typing import Any, Self, final

import redis

from worker import record, series, shown
from worker.artifacts import location
from worker.attempt import Checkpoint, Legacy, checkpoints_in
from worker.dispatch import Dispatch, milliseconds
from worker.jobs import Artifact, Job, Reason, State
from worker.keyspace import PATIENCE_S, Keyspace, StoreUnavailable
from worker.listing import BadCursor, Filters, Page, count_by_state, page_of_records
from worker.reasons import CANCEL_REQUESTED, CANCELLED, PAUSE_REQUESTED, PAUSED
from worker.refusal import ArtifactNotFound, IdempotencyMismatch, JobNotFound, NotAllowed, RecordUnreadable
from worker.series import Series
from worker.shown import jobs_of, readable_jobs_of
from worker.submission import Submission

PREFIX = "reinmax:"
IDEMPOTENCY_LIFETIME_S = 24 * 3600
EVENTS_A_READ = 1000


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission."""

    job: Job
    replayed: bool
    """Whether the job was there already, by the idempotency key."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a job."""

    id: str
    """Ascending in time; `events_after` continues behind it."""
    kind: str
    """`state`, `metrics`, `log`, `checkpoint`, or `rewind`: points of metrics beyond a step are void."""
    data: str
    """JSON; the bare text of a `log`, the bare step of a `rewind`."""


@final
class JobStore(Dispatch):
    """All jobs, on one Redis or Valkey server. Every change of state is one Lua script on that server, by its clock.

    Safe to share between threads. Every method may raise `StoreUnavailable`.

    Args:
        client: with `decode_responses=True`.
        prefix: what every key of this store begins with.
    """

    def __init__(self, client: redis.Redis, prefix: str = PREFIX) -> None:
        super().__init__(Keyspace(client, prefix))

    @classmethod
    def connect(cls, url: str, prefix: str = PREFIX, *, patience_s: float = PATIENCE_S) -> Self:
        """The store on the server at `url`, such as redis://:password@host/0, which has `patience_s` to answer."""
        return cls(Keyspace.connect(url, prefix, patience_s).client, prefix)

    def submit(
        self,
        submission: Submission,
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> Submitted:
        """Accepts a job, which is on the server's disk then and waits in its queue; a worker should be woken.

        Args:
            submission: the job.
            idempotency_key: for 24 h, a submission with the same key and fingerprint gives the same job.
            fingerprint: tells apart requests with the same key.

        Raises:
            IdempotencyMismatch: the key was used with another fingerprint.
        """
        outcome, answer = self.keyspace.run_to_disk(
            "submit",
            random_part_of_id(),
            idempotency_key or "",
            fingerprint,
            IDEMPOTENCY_LIFETIME_S * 1000,
            submission.model_dump_json(),
            dumps(record.fields_of(submission)),
            *record.indexes(submission, submission.labels),
        )
        if outcome == "mismatch":
            raise IdempotencyMismatch(idempotency_key or "")
        return Submitted(jobs_of(answer)[0], replayed=outcome == "replayed")

    def get(self, job_id: str) -> Job:
        """The job as it stands.

        Raises:
            JobNotFound: there is none.
            RecordUnreadable: what the store holds of it cannot be read.
        """
        jobs = jobs_of(self.keyspace.run("read", job_id))
        if not jobs:
            raise JobNotFound(job_id)
        return jobs[0]

    def list(self, filters: Filters, limit: int, cursor: str | None = None) -> Page:
        """A page of the jobs that pass the filters, newest first. One that cannot be read is left out.

        Raises:
            BadCursor: the cursor is not from a page with these filters.
        """
        found, next_cursor = page_of_records(self.keyspace, filters, limit, cursor)
        return Page(tuple(readable_jobs_of(found)), next_cursor)

    def cancel(self, job_id: str) -> Job:
        """Cancels a job: at once if it waits, by its worker if it has one, which takes a moment.

        Raises:
            JobNotFound: there is none.
            NotAllowed: it has succeeded or failed.
        """
        return self._bring("cancel", job_id, "cancelled", CANCELLED, CANCEL_REQUESTED)

    def pause(self, job_id: str) -> Job:
        """Has a job start no more until it is resumed. One that runs is ended by its worker, after a checkpoint.

        Raises:
            JobNotFound: there is none.
            NotAllowed: it has ended, or is to be cancelled.
        """
        return self._bring("pause", job_id, "paused", PAUSED, PAUSE_REQUESTED)

    def resume(self, job_id: str) -> Job:
        """Has a paused job wait again, in its old place, to go on from its checkpoint; a worker should be woken.

        One that is still being paused keeps running, or waits again if its training process has to end already.

        Raises:
            JobNotFound: there is none.
            NotAllowed: nobody paused it.
        """
        return self._bring("resume", job_id, "resumed, for only a job that was paused can be")

    def retry(self, job_id: str) -> Job:
        """Has a job that failed or was cancelled wait again, with all its attempts; a worker should be woken.

        It goes on from its latest checkpoint.

        Raises:
            JobNotFound: there is none.
            NotAllowed: it has not ended, or has succeeded.
        """
        return self._bring("retry", job_id, "retried, for only a job that failed or was cancelled can be")

    def condemn(self, job_id: str) -> None:
        """Has a job that has ended stay so, as it must once its files are being removed.

        Raises:
            JobNotFound: there is none.
            NotAllowed: it has not ended.
        """
        allowed, answer = self.keyspace.run("condemn", job_id)
        if not allowed:
            raise self._refusal(job_id, answer, "deleted before it has ended")

    def delete(self, job_id: str) -> None:
        """Removes all that the store knows of a job that has ended, also one that cannot be read; files are left.

        Raises:
            JobNotFound: there is none.
            NotAllowed: it has not ended.
        """
        if not self.keyspace.run("delete", job_id, *self._indexes(job_id)):
            raise NotAllowed(self.get(job_id), "deleted before it has ended")

    def expired(self, keep_s: float | None, keep: int | None, limit: int) -> tuple[str, ...]:
        """Ids of some jobs that have ended and are to be kept no longer, oldest first. They are condemned.

        Args:
            keep_s: seconds for which a job is kept after its end; None: for ever.
            keep: how many are kept; None: all.
            limit: how many are named at most.
        """
        age = "" if keep_s is None else milliseconds(keep_s)
        return tuple(self.keyspace.run("expired", age, "" if keep is None else keep, limit))

    def events_after(self, job_id: str, event_id: str = "0", limit: int = EVENTS_A_READ) -> tuple[Event, ...]:
        """What happened in a job after an event, oldest first; an empty tuple also if there is no such job."""
        events = self.keyspace.key(f"events:{job_id}")
        (entries,) = self.keyspace.ask(("XRANGE", events, f"({event_id}", "+", "COUNT", limit))
        return tuple(Event(entry_id, *next(iter(fields.items()))) for entry_id, fields in entries)

    def metrics(self, job_id: str) -> dict[str, Series]:
        """The series of a job, without gap or repeat, however many attempts it took.

        Raises:
            JobNotFound: there is none.
        """
        return series.join(self._told(job_id, "metrics"))

    def logs(self, job_id: str) -> str:
        """What the training processes of a job wrote, up to a limit.

        Raises:
            JobNotFound: there is none.
        """
        return "".join(self._told(job_id, "log"))

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """The files that a job left; none before it has succeeded.

        Raises:
            JobNotFound: there is none.
        """
        return self._legacy(job_id).files

    def locate(self, job_id: str, name: str) -> str:
        """Path of an artefact in the artefact store.

        Raises:
            JobNotFound: there is no such job.
            ArtifactNotFound: the job has no such artefact.
        """
        legacy = self._legacy(job_id)
        if name not in {file.name for file in legacy.files}:
            raise ArtifactNotFound(job_id, name)
        return location(job_id, legacy.epoch, name)

    def files(self, job_id: str) -> tuple[str, ...]:
        """Paths in the artefact store of all that the record of a job names: its artefacts and checkpoints.

        Empty where there is no such job.

        Raises:
            RecordUnreadable: what the store holds of it cannot be read.
        """
        fields = shown.fields(self.keyspace, job_id)
        with record.readable(job_id, fields):
            named: list[Legacy | Checkpoint] = list(checkpoints_in(fields.get("checkpoints")))
            if fields.get("status") == State.SUCCEEDED:
                named.append(Legacy.model_validate_json(fields["artifacts"]))
        return tuple(location(job_id, part.epoch, file.name) for part in named for file in part.files)

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        return count_by_state(self.keyspace)

    def clock(self) -> datetime:
        """What the clock of the server shows, which all times of jobs and leases go by."""
        ((seconds, microseconds),) = self.keyspace.ask(("TIME",))
        return datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)

    @property
    def changes(self) -> str:
        """Key of the stream that has an entry, with the id of the `job`, for every change of a record."""
        return self.keyspace.key("changes")

    def _bring(self, action: str, job_id: str, participle: str, *reasons: Reason) -> Job:
        """Makes a change of state on request, and reads the job in the same script."""
        allowed, answer = self.keyspace.run(action, job_id, *(reason.model_dump_json() for reason in reasons))
        try:
            jobs = jobs_of(answer)
        except RecordUnreadable as unreadable:
            raise RecordUnreadable(job_id, unreadable.finding, action if allowed else "") from unreadable
        if not jobs or not allowed:
            raise self._refusal(job_id, answer, participle)
        return jobs[0]

    def _refusal(self, job_id: str, answer: Sequence[Any], participle: str) -> JobNotFound | NotAllowed:
        jobs = jobs_of(answer)
        return NotAllowed(jobs[0], participle) if jobs else JobNotFound(job_id)

    def _indexes(self, job_id: str) -> Sequence[str]:
        """The indexes that a job may stand in: all there are, where its record does not tell."""
        try:
            job = self.get(job_id)
        except RecordUnreadable:
            return [name.removeprefix("index:") for name in self.keyspace.names("index:")]
        return record.indexes(job.spec, job.labels, job.sweep)

    def _told(self, job_id: str, kind: str) -> Iterator[str]:
        """All that a job has of one kind of event."""
        self._must_exist(job_id)
        last = "0"
        while events := self.events_after(job_id, last):
            yield from (event.data for event in events if event.kind == kind)
            last = events[-1].id

    def _must_exist(self, job_id: str) -> None:
        if not self.keyspace.ask(("EXISTS", self.keyspace.key(f"job:{job_id}")))[0]:
            raise JobNotFound(job_id)

    def _legacy(self, job_id: str) -> Legacy:
        fields = shown.fields(self.keyspace, job_id)
        if not fields:
            raise JobNotFound(job_id)
        with record.readable(job_id, fields):
            text = fields.get("artifacts")
            return Legacy.model_validate_json(text) if text else Legacy(epoch=0, files=())


def random_part_of_id() -> str:
    """The last 64 bits of a UUID of version 7, its variant in the first two."""
    return f"{secrets.randbits(62) | 1 << 63:016x}"


__all__ = [
    "ArtifactNotFound",
    "BadCursor",
    "Event",
    "Filters",
    "IdempotencyMismatch",
    "JobNotFound",
    "JobStore",
    "NotAllowed",
    "Page",
    "RecordUnreadable",
    "Series",
    "StoreUnavailable",
    "Submitted",
]
