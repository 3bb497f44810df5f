"""What can be asked of the service, each call written once for the blocking and the asyncio client."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypedDict, Unpack
from urllib.parse import quote

import httpx

from service.answers import Curve, Curves, JobPage
from service.catalogue import DataSetEntry, EstimatorEntry, PresetEntry, TaskEntry
from service.client.download import PartialFile, find
from service.client.exchange import Call, Exchange, answered, endpoint
from service.client.sweeps import SweepEndpoints
from service.client.tables import TableEndpoints
from worker.jobs import TERMINAL, Artifact, Job, State, WorkerRecord
from worker.reasons import PAUSE_REQUESTED
from worker.submission import Submission

LONGEST_HOLD_S: Final = 30.0
JSON: Final = {"Content-Type": "application/json"}
Received: TypeAlias = Callable[[int, int], object]
"""Is told the bytes of a download received so far, and those in all."""


class JobFilter(TypedDict, total=False):
    """Which jobs to list; those that fit in every respect."""

    status: str | None
    task: str | None
    estimator: str | None
    sweep: str | None
    labels: Mapping[str, str]


class JobNotFinished(TimeoutError):
    """A job took longer than its caller wanted to wait."""


def _ignore(received: int, total: int) -> None:
    """Stands for nobody who wants to know."""


class Endpoints(SweepEndpoints, TableEndpoints):
    """The calls of the API. Jobs are named by their id."""

    @endpoint
    def submit(
        self,
        spec: Submission | Mapping[str, object],
        *,
        idempotency_key: str | None = None,
    ) -> Exchange[Job]:
        """Queues a training job.

        Args:
            spec: the job, short or in full, such as `{"task": "polynomial", "estimator": "reinmax"}`.
            idempotency_key: submissions with the same key make one job. Without one every call gets a
                key of its own, so that its repetitions after a lost connection make one job too.
        """
        headers = JSON | {"Idempotency-Key": f'"{idempotency_key or uuid.uuid4()}"'}
        response = yield from self._answer("POST", "/v1/jobs", headers=headers, body=_json(spec))
        return Job.model_validate_json(response.content)

    @endpoint
    def dry_run(self, spec: Submission | Mapping[str, object]) -> Exchange[Job]:
        """The job that `submit` would make, every default filled in; nothing is queued."""
        response = yield from self._answer(
            "POST", "/v1/jobs", params={"dry_run": "true"}, headers=JSON, body=_json(spec)
        )
        return Job.model_validate_json(response.content)

    @endpoint
    def get(self, job_id: str) -> Exchange[Job]:
        """The job as it stands."""
        response = yield from self._answer("GET", _path(job_id))
        return Job.model_validate_json(response.content)

    @endpoint
    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Exchange[Job]:
        """The job once it has succeeded, failed or been cancelled.

        Raises:
            JobNotFinished: it takes longer than `timeout_s`.
        """
        deadline = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        response = yield from self._answer("GET", _path(job_id))
        job = Job.model_validate_json(response.content)
        while job.status not in TERMINAL:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise _not_finished(job)
            response = yield from self._changed(job_id, response.headers["ETag"], min(left_s, LONGEST_HOLD_S))
            if response.status_code != httpx.codes.NOT_MODIFIED:
                job = Job.model_validate_json(response.content)
        return job

    @endpoint
    def page(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        **filters: Unpack[JobFilter],
    ) -> Exchange[JobPage]:
        """Some of the jobs that fit, newest first; `cursor` is the `next_cursor` of the page before."""
        params: dict[str, str | int] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        labels = filters.pop("labels", {})
        params |= {f"label.{key}": value for key, value in labels.items()}
        params |= {name: value for name, value in filters.items() if isinstance(value, str)}
        response = yield from self._answer("GET", "/v1/jobs", params=params)
        return JobPage.model_validate_json(response.content)

    @endpoint
    def cancel(self, job_id: str) -> Exchange[Job]:
        """Ends the job: at once if it is queued, after it has saved a checkpoint if it is running.

        Raises:
            Conflict: it has ended otherwise.
        """
        response = yield from self._answer("POST", f"{_path(job_id)}/cancel")
        return Job.model_validate_json(response.content)

    @endpoint
    def pause(self, job_id: str) -> Exchange[Job]:
        """Has the job train no more until it is resumed; one that runs saves a checkpoint and frees its device.

        Raises:
            Conflict: it has ended, or is to be cancelled.
        """
        response = yield from self._answer("POST", f"{_path(job_id)}/pause")
        return Job.model_validate_json(response.content)

    @endpoint
    def resume(self, job_id: str) -> Exchange[Job]:
        """Has a paused job wait again, to go on from its checkpoint.

        Where the answer is lost, it is asked for again only if the job is paused still.

        Raises:
            Conflict: nobody paused it.
        """
        return (yield from self._change_once(job_id, "resume", _is_paused))

    @endpoint
    def retry(self, job_id: str) -> Exchange[Job]:
        """Has a job that failed or was cancelled wait again, with all its attempts, to go on from its checkpoint.

        Where the answer is lost, it is asked for again only if the job has not moved since: one that was set going
        and has failed anew is not retried twice.

        Raises:
            Conflict: it has not ended, or has succeeded.
        """
        response = yield from self._answer("GET", _path(job_id))
        ended_at = Job.model_validate_json(response.content).finished_at
        return (yield from self._change_once(job_id, "retry", lambda job: job.finished_at == ended_at))

    @endpoint
    def delete(self, job_id: str) -> Exchange[None]:
        """Removes a job that has ended, with its metrics, log and artefacts.

        Raises:
            Conflict: it has not ended.
        """
        yield from self._answer("DELETE", _path(job_id))

    @endpoint
    def metrics(
        self, job_id: str, *, series: Sequence[str] = (), max_points: int | None = None
    ) -> Exchange[dict[str, Curve]]:
        """The curves of the job by name: those of `series`, or all, thinned out to `max_points` each."""
        params: dict[str, str | int] = {"series": ",".join(series)} if series else {}
        if max_points is not None:
            params["max_points"] = max_points
        response = yield from self._answer("GET", f"{_path(job_id)}/metrics", params=params)
        return Curves.model_validate_json(response.content).series

    @endpoint
    def logs(self, job_id: str) -> Exchange[str]:
        """What the training process has written."""
        response = yield from self._answer("GET", f"{_path(job_id)}/logs")
        return response.text

    @endpoint
    def artifacts(self, job_id: str) -> Exchange[tuple[Artifact, ...]]:
        """The files that the job has left so far."""
        return (yield from self._data(f"{_path(job_id)}/artifacts", Artifact))

    @endpoint
    def download(
        self,
        job_id: str,
        name: str,
        to: Path | str = ".",
        *,
        received: Received = _ignore,
    ) -> Exchange[Path]:
        """Saves an artefact as a file, which appears whole and verified or not at all; returns its path.

        Args:
            job_id: the job.
            name: the artefact's name.
            to: the file, or a folder to save it in under its own name.
            received: is told the bytes received so far and those in all, after every part.

        Raises:
            ArtifactNotFound: the job has left no such file.
            DownloadCorrupt: what was received is not what the job has left.
        """
        path = f"{_path(job_id)}/artifacts"
        artifact = find((yield from self._data(path, Artifact)), name, job_id)
        with PartialFile(artifact, Path(to)) as file:
            while not file.is_complete:
                response = yield from self._answer("GET", f"{path}/{quote(name, safe='')}", headers=file.next_range)
                file.add(response)
                received(file.received, artifact.bytes)
            return file.finish()

    @endpoint
    def estimators(self) -> Exchange[tuple[EstimatorEntry, ...]]:
        """The estimators that exist, with their settings."""
        return (yield from self._data("/v1/estimators", EstimatorEntry))

    @endpoint
    def tasks(self) -> Exchange[tuple[TaskEntry, ...]]:
        """The tasks that exist, with their settings."""
        return (yield from self._data("/v1/tasks", TaskEntry))

    @endpoint
    def datasets(self) -> Exchange[tuple[DataSetEntry, ...]]:
        """The data sets that exist, and whether they are at hand where the API runs."""
        return (yield from self._data("/v1/datasets", DataSetEntry))

    @endpoint
    def presets(self) -> Exchange[tuple[PresetEntry, ...]]:
        """The published tables and figures that a sweep may name, with their numbers."""
        return (yield from self._data("/v1/presets", PresetEntry))

    @endpoint
    def workers(self) -> Exchange[tuple[WorkerRecord, ...]]:
        """The workers that are alive."""
        return (yield from self._data("/v1/workers", WorkerRecord))

    def _changed(self, job_id: str, etag: str, hold_s: float) -> Exchange[httpx.Response]:
        """The job when it is no longer as it was under that tag, or a 304 after `hold_s` seconds."""
        params = {"wait": f"{hold_s:.3f}"}
        return self._answer(
            "GET",
            _path(job_id),
            params=params,
            headers={"If-None-Match": etag},
            hold_s=hold_s,
        )

    def _change_once(self, job_id: str, action: str, is_as_before: Callable[[Job], bool]) -> Exchange[Job]:
        """Makes a change that is not to be made twice: where no answer came, the job tells whether it was made."""

        def made() -> Exchange[httpx.Response | None]:
            response = yield from self._answer("GET", _path(job_id))
            return None if is_as_before(Job.model_validate_json(response.content)) else response

        response = yield from answered(Call("POST", f"{_path(job_id)}/{action}"), self._patience_s, made)
        return Job.model_validate_json(response.content)


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _is_paused(job: Job) -> bool:
    """Whether it is paused, or its worker is about to."""
    reason = job.status_reason
    return job.status is State.PAUSED or (reason is not None and reason.code == PAUSE_REQUESTED.code)


def _json(spec: Submission | Mapping[str, object]) -> bytes:
    return (spec.model_dump_json() if isinstance(spec, Submission) else json.dumps(spec)).encode()


def _not_finished(job: Job) -> JobNotFinished:
    return JobNotFinished(
        f"{job.id} is {job.status} at step {job.progress.step} of {job.progress.steps}; "
        "wait for it once more, or cancel it"
    )
