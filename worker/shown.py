"""Records as the scripts show them: jobs, with the living workers where one of them waits for such."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from worker import record
from worker.jobs import Job, WorkerRecord
from worker.keyspace import Keyspace
from worker.refusal import RecordUnreadable

logger = logging.getLogger(__name__)


def jobs_of(shown: Sequence[Any]) -> tuple[Job, ...]:
    """The jobs that a script shows.

    Raises:
        RecordUnreadable: one of them cannot be read.
    """
    found, living = shown
    workers = workers_of(living)
    jobs = (record.job_of(job_id, _by_name(flat), place) for job_id, flat, place in found)
    return tuple(record.with_reason(job, workers) for job in jobs)


def readable_jobs_of(shown: Sequence[Any]) -> Iterator[Job]:
    """The jobs that a script shows, without those that cannot be read."""
    found, living = shown
    for one in found:
        try:
            yield from jobs_of([[one], living])
        except RecordUnreadable as unreadable:
            logger.warning("%s", unreadable)


def workers_of(living: Sequence[Any]) -> tuple[WorkerRecord, ...]:
    """The living workers that a script shows, by name."""
    answer = iter(living)
    known = ((WorkerRecord.model_validate_json(text), age_ms) for text, age_ms in zip(answer, answer, strict=True))
    workers = (worker.model_copy(update={"heartbeat_age_s": age_ms / 1000}) for worker, age_ms in known)
    return tuple(sorted(workers, key=lambda worker: worker.name))


def fields(keyspace: Keyspace, job_id: str) -> dict[str, str]:
    """All fields of the record of a job, whether it is folded or not; none if there is no such job."""
    found, _ = keyspace.run("read", job_id)
    return _by_name(found[0][1]) if found else {}


def _by_name(flat: Sequence[str]) -> dict[str, str]:
    """The mapping that Lua sees as names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
