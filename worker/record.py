"""How a job is written down in the store, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from pydantic import ValidationError

from reinmax_core import forms
from reinmax_core.run import RunSpec
from worker.jobs import Job, JobProgress, Reason, State, WorkerRecord
from worker.refusal import RecordUnreadable
from worker.submission import Hardware, Submission

FORMAT: Final = 2
"""The format in which records are written; `worker/scripts/keys.lua` has it, too.

1: the records of the first version, which had no such number. Each field is one of the hash, and files are objects.
2: a job that has ended is folded, as the scripts undo, and files are rows, as they are read either way.
"""
FORM_DIGITS: Final = 16


def indexes(spec: RunSpec, labels: Mapping[str, str], sweep: str | None = None) -> list[str]:
    """The names under which a job can be found as long as it exists, besides its status."""
    by_label = [f"label:{key}={value}" for key, value in labels.items()]
    by_sweep = [f"sweep:{sweep}"] if sweep else []
    return [f"task:{spec.task.name}", f"estimator:{spec.estimator.name}", *by_label, *by_sweep]


def fields_of(submission: Submission) -> dict[str, str]:
    """What the scripts need to know of a job, by the names that it has in the record."""
    return {
        "queue": submission.hardware.queue,
        "priority": str(submission.priority),
        "memory_gb": str(submission.hardware.memory_gb),
        "max_attempts": str(submission.max_attempts),
        "max_attempts_by_cause": json.dumps(submission.limits_by_cause()),
        "form": _form(submission),
    }


def _form(submission: Submission) -> str:
    """A word that jobs have in common which a worker may train side by side; empty for one that trains alone."""
    if not submission.packing or not forms.packable(submission):
        return ""
    run = forms.form(submission).model_dump_json(include=set(RunSpec.model_fields))
    needs = (submission.hardware.model_dump_json(), submission.timeout_s, submission.priority)
    return sha256(repr((run, *needs)).encode()).hexdigest()[:FORM_DIGITS]


def job_of(job_id: str, fields: Mapping[str, str], position: int | None) -> Job:
    """The job of a record; `position` counts from 0 in its queue.

    Raises:
        RecordUnreadable: a version wrote it that is too new, or something in it is missing or does not fit.
    """
    with readable(job_id, fields):
        return _job_of(job_id, fields, position)


@contextmanager
def readable(job_id: str, fields: Mapping[str, str]) -> Iterator[None]:
    """Within this, what cannot be read of a record raises `RecordUnreadable`."""
    found = fields.get("format", "1")
    if not found.isdecimal() or not 1 <= int(found) <= FORMAT:
        raise RecordUnreadable(
            job_id,
            f"it has format {found}, but this version of the service reads formats 1 to {FORMAT}. "
            "Update API and workers to the version that wrote it",
        )
    try:
        yield
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        finding = (
            f"its format is {found}, but what this version of the service expects there is missing or does not fit"
        )
        raise RecordUnreadable(job_id, f"{finding}: {_summary(error)}. Submit the job anew") from error


def _summary(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _job_of(job_id: str, fields: Mapping[str, str], position: int | None) -> Job:
    submission, spec = _request(fields["request"])
    result = _parsed(fields, "result")
    return Job(
        id=job_id,
        status=State(fields["status"]),
        status_reason=_parsed(fields, "reason"),
        spec=spec,
        name=submission.name,
        labels=submission.labels,
        sweep=fields.get("sweep"),
        cell=int(fields["cell"]) if "cell" in fields else None,
        priority=submission.priority,
        hardware=submission.hardware,
        queue=submission.hardware.queue,
        queue_position=None if position is None else position + 1,
        attempt=int(fields["attempt"]),
        max_attempts=submission.max_attempts,
        max_attempts_by_cause=submission.limits_by_cause(),
        timeout_s=submission.timeout_s,
        packing=submission.packing,
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
