"""What the store's errors mean to a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from service.protocol.problems import Kind, Problem, unavailable
from service.sweep_mistakes import mistakes_in_data, mistakes_in_sweep
from worker.artifacts import ArtifactStoreUnavailable
from worker.keyspace import StoreUnavailable
from worker.listing import BadCursor
from worker.refusal import SweepNotAllowed, SweepNotFound, SweepUnreadable
from worker.store import ArtifactNotFound, IdempotencyMismatch, JobNotFound, NotAllowed, RecordUnreadable
from worker.sweep_grid import InvalidSweep
from worker.sweep_preset import DataMissing

PROBLEMS: Final[dict[type[Exception], Callable[[Any], Problem]]] = {
    JobNotFound: lambda error: Problem(Kind.JOB_NOT_FOUND, _sentence(error)),
    ArtifactNotFound: lambda error: Problem(Kind.ARTIFACT_NOT_FOUND, _sentence(error)),
    FileNotFoundError: lambda error: Problem(
        Kind.ARTIFACT_NOT_FOUND, "The file is listed but no longer where artefacts are kept; run the job again."
    ),
    NotAllowed: lambda error: Problem(Kind.INVALID_STATE, _sentence(error), job_status=error.job.status.value),
    RecordUnreadable: lambda error: Problem(Kind.RECORD_UNREADABLE, _sentence(error)),
    IdempotencyMismatch: lambda error: Problem(
        Kind.IDEMPOTENCY_MISMATCH,
        "This Idempotency-Key was sent with another body in the last 24 hours; use a new key for a new one.",
    ),
    SweepNotFound: lambda error: Problem(Kind.SWEEP_NOT_FOUND, _sentence(error)),
    SweepNotAllowed: lambda error: Problem(Kind.INVALID_STATE, _sentence(error), job_status=error.sweep.status.value),
    SweepUnreadable: lambda error: Problem(Kind.RECORD_UNREADABLE, _sentence(error)),
    InvalidSweep: lambda error: _invalid_sweep(error),
    DataMissing: lambda error: Problem(Kind.DATA_MISSING, _sentence(error), mistakes=mistakes_in_data(error)),
    BadCursor: lambda error: Problem(Kind.INVALID_CURSOR, _sentence(error)),
    StoreUnavailable: lambda error: unavailable(_sentence(error)),
    ArtifactStoreUnavailable: lambda error: unavailable(_sentence(error)),
}


async def answer_refusal(request: Request, error: Exception) -> Response:
    """Exception handler for the errors of `PROBLEMS`."""
    problem_of = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    return problem_of(error).response(request.scope)


def _invalid_sweep(error: InvalidSweep) -> Problem:
    mistakes, others = mistakes_in_sweep(error)
    if not mistakes[1:]:
        return Problem(Kind.INVALID_REQUEST, mistakes[0].message, mistakes=mistakes)
    listed = f"`errors` lists them, but for {others}" if others else "`errors` lists them"
    detail = f"There are {len(mistakes) + others} mistakes; {listed}."
    return Problem(Kind.INVALID_REQUEST, detail, mistakes=mistakes)


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
