"""How a job is written down in the store, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from reinmax_core.run import RunSpec
from worker.jobs import (
    Hardware,
    Job,
    JobProgress,
    Reason,
    State,
    Submission,
    WorkerRecord,
)


def indexes(spec: RunSpec, labels: Mapping[str, str]) -> list[str]:
    """The names under which a job can be found as long as it exists, besides its status."""
    by_label = (f"label:{key}={value}" for key, value in labels.items())
    return [f"task:{spec.task.name}", f"estimator:{spec.estimator.name}", *by_label]


def job_of(job_id: str, fields: Mapping[str, str], position: int | None) -> Job:
    """The job of a record; `position` counts from 0 in its queue."""
    submission, spec = _request(fields["request"])
    result = _parsed(fields, "result")
    return Job(
        id=job_id,
        status=State(fields["status"]),
        status_reason=_parsed(fields, "reason"),
        spec=spec,
        name=submission.name,
        labels=submission.labels,
        priority=submission.priority,
        hardware=submission.hardware,
        queue=fields["queue"],
        queue_position=None if position is None else position + 1,
        attempt=int(fields["attempt"]),
        max_attempts=submission.max_attempts,
        max_attempts_by_cause=submission.limits_by_cause(),
        timeout_s=submission.timeout_s,
        worker=fields.get("worker"),
        progress=_parsed(fields, "progress") or JobProgress(steps=spec.steps),
        metrics=result["metrics"] if result else _parsed(fields, "metrics") or {},
        result=result,
        error=_parsed(fields, "error"),
        environment=_parsed(fields, "environment"),
        created_at=_time(fields["created"]),
        started_at=_time(fields.get("started")),
        finished_at=_time(fields.get("finished")),
        epoch=int(fields["epoch"]),
        version=int(fields["version"]),
    )


def with_reason(job: Job, workers: Iterable[WorkerRecord]) -> Job:
    """The job, saying so if it waits for hardware that no living worker has."""
    if job.status is not State.QUEUED or any(worker.fits(job.hardware) for worker in workers):
        return job
    return job.model_copy(update={"status_reason": _no_worker(job.hardware, workers)})


def _no_worker(needed: Hardware, workers: Iterable[WorkerRecord]) -> Reason:
    offers = "; ".join(sorted({worker.offer for worker in workers}))
    finding = f"the workers that are alive have {offers}" if offers else "no worker is alive"
    return Reason(
        code="no_worker",
        message=f"the job waits for {needed.sentence}, but {finding}. Start a worker on a machine that fits, "
        f"with `python -m worker`, and the job will run; or cancel it and ask for other hardware",
    )


@lru_cache(maxsize=256)
def _request(text: str) -> tuple[Submission, RunSpec]:
    submission = Submission.model_validate_json(text)
    return submission, submission.run_spec()


def _parsed(fields: Mapping[str, str], name: str) -> Any:
    text = fields.get(name)
    return json.loads(text) if text else None


def _time(milliseconds: str | None) -> Any:
    return None if milliseconds is None else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
