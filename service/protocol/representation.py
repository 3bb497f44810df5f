"""A job as an HTTP answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from fastapi.responses import Response

from service.protocol.conditional import matches
from worker import record
from worker.jobs import TERMINAL, Job, JobProgress, State, WorkerRecord
from worker.submission import Submission

JSON: Final = "application/json"
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "What `If-None-Match` names is still current."}
}
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1, 30


def job_answer(job: Job, *, status: int = 200, known: str | None = None) -> Response:
    """The job with its entity tag, and while it is under way the time after which to ask again.

    Args:
        job: what is answered.
        status: the HTTP status.
        known: the `If-None-Match` header; a job that it names is not sent again.
    """
    headers = {"ETag": job.etag, "Cache-Control": "no-cache"}
    if job.status not in TERMINAL:
        headers["Retry-After"] = str(_pause_s(job))
    if matches(known, job.etag):
        return Response(status_code=304, headers=headers)
    return Response(job.model_dump_json(), status, headers, JSON)


def as_it_would_be(submission: Submission, workers: Iterable[WorkerRecord]) -> Job:
    """The job that the submission would make, under an id that no job has."""
    job = Job(
        id="job_dry_run",
        status=State.QUEUED,
        spec=submission.run_spec(),
        name=submission.name,
        labels=submission.labels,
        priority=submission.priority,
        hardware=submission.hardware,
        queue=submission.hardware.queue,
        max_attempts=submission.max_attempts,
        max_attempts_by_cause=submission.limits_by_cause(),
        timeout_s=submission.timeout_s,
        packing=submission.packing,
        progress=JobProgress(steps=submission.steps),
        created_at=datetime.now(UTC),
    )
    return record.with_reason(job, workers)


def _pause_s(job: Job) -> int:
    """A tenth of the job's age: short for new jobs, not too often for long ones."""
    age_s = (datetime.now(UTC) - job.created_at).total_seconds()
    return min(max(int(age_s / 10), SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
