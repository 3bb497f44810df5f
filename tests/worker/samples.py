"""Jobs, workers and progress as tests put them into a store."""

from datetime import UTC, datetime
from typing import Any

from worker.jobs import Environment, JobProgress, WorkerRecord
from worker.submission import Submission

ENVIRONMENT = Environment(versions={}, device="cpu", threads=1, revision=None, data={}, deterministic=True)


def submission(**settings: Any) -> Submission:
    return Submission.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": 100} | settings)


def worker(name: str = "worker-1", **facts: Any) -> WorkerRecord:
    known: dict[str, Any] = {
        "name": name,
        "device": "cpu",
        "queues": ("cpu", "any"),
        "hardware": "a processor",
        "cores": 2,
        "memory_gb": 16.0,
        "load": 0.0,
        "memory_used_gb": 1.0,
        "started_at": datetime.now(UTC),
        "version": "0.1.0",
    }
    return WorkerRecord.model_validate(known | facts)


def progress(step: int) -> JobProgress:
    return JobProgress(step=step, steps=100, percent=step)
