"""What must hold of every job afterwards, whatever has happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

from reinmax_core import checkpoint
from tests.acceptance.chaos.calls import Caller
from tests.acceptance.chaos.campaign import Order
from tests.acceptance.chaos.undisturbed import Undisturbed
from worker.jobs import TERMINAL, Artifact, Job, State
from worker.store import Event, JobStore


@dataclass(frozen=True)
class Evidence:
    """What there is of a job when all is over."""

    order: Order
    job: Job
    events: tuple[Event, ...]
    log: str
    files: tuple[Artifact, ...]
    """Those that users are shown."""

    @property
    def states(self) -> list[tuple[float, str]]:
        """The states that it has had, each with the time at which it came into it."""
        return [(time_of(event), json.loads(event.data)["status"]) for event in self.events if event.kind == "state"]


def time_of(event: Event) -> float:
    """By the clock on the wall."""
    return int(event.id.partition("-")[0]) / 1000


def gather(store: JobStore, order: Order, job_id: str) -> Evidence:
    """All that the store has of a job."""
    return Evidence(order, store.get(job_id), _events(store, job_id), store.logs(job_id), store.artifacts(job_id))


def broken_promises(
    evidence: Evidence, undisturbed: Undisturbed, artifacts: Path, caller: Caller, *, may_be_cancelled: bool
) -> Iterator[str]:
    """What does not hold of a job, a sentence each."""
    job = evidence.job
    if job.status not in TERMINAL:
        yield f"every job should end, but it is {job.status}: {job.status_reason}"
        return
    successes = [state for _, state in evidence.states].count("succeeded")
    if may_be_cancelled and job.status is State.CANCELLED:
        if successes or evidence.files:
            yield f"a cancelled job should have no success, but it has {successes} and {len(evidence.files)} files"
        return
    if job.status is not State.SUCCEEDED:
        yield f"every job should succeed, but it has {job.status}: {job.status_reason}"
        return
    if successes != 1:
        yield f"a job should succeed exactly once, but it has {successes} events of success"
    yield from _wrong_files(evidence, undisturbed, artifacts, caller)
    yield from _wrong_figures(evidence, undisturbed, caller)


def _wrong_files(evidence: Evidence, undisturbed: Undisturbed, artifacts: Path, caller: Caller) -> Iterator[str]:
    job, path = evidence.job, f"/v1/jobs/{evidence.job.id}/artifacts"
    if (listed := caller.ask("GET", path).json()["data"]) != [file.model_dump() for file in evidence.files]:
        yield f"the service should list {evidence.files}, but lists {listed}"
    for file in evidence.files:
        on_disk = artifacts / job.id / str(job.epoch) / file.name
        if not on_disk.exists() or sha256(on_disk.read_bytes()).hexdigest() != file.sha256:
            yield f"{file.name} should be that of attempt {job.epoch}, with the digest on record, but it is not"
        answer = caller.ask("GET", f"{path}/{file.name}")
        if answer.status_code != HTTPStatus.OK or sha256(answer.content).hexdigest() != file.sha256:
            yield f"{file.name} should be sent with the digest on record, but is not ({answer.status_code})"
    models = [file.sha256 for file in evidence.files if file.name == checkpoint.MODEL]
    if models != [undisturbed.model_sha256]:
        yield f"the parameters should be those of an undisturbed run, {undisturbed.model_sha256}, but are {models}"


def _wrong_figures(evidence: Evidence, undisturbed: Undisturbed, caller: Caller) -> Iterator[str]:
    job, spec = evidence.job, evidence.job.spec
    found = caller.ask("GET", f"/v1/jobs/{job.id}/metrics").json()["series"]
    steps = list(range(spec.log_every, spec.steps + 1, spec.log_every))
    if (steps if steps[-1] == spec.steps else [*steps, spec.steps]) != found["loss"]["step"]:
        yield f"the series of the loss should have every {spec.log_every}th step once, but has {_gaps(found['loss'])}"
    if found != undisturbed.series:
        different = [name for name in {*found, *undisturbed.series} if found.get(name) != undisturbed.series.get(name)]
        yield f"all series should be those of an undisturbed run, but {', '.join(sorted(different))} differ"
    result = job.result
    if not result or dict(result.metrics) != undisturbed.metrics:
        yield f"the result should be {undisturbed.metrics}, but is {result and dict(result.metrics)}"
    if (result and result.best and result.best.model_dump()) != undisturbed.best:
        yield f"the best value should be {undisturbed.best}, but is {result and result.best}"


def _gaps(series: dict[str, list[Any]]) -> str:
    steps = series["step"]
    jumps = list(pairwise(steps))
    usual = min((after - before for before, after in jumps), default=0)
    return f"{len(steps)} points and jumps {[jump for jump in jumps if jump[1] - jump[0] != usual][:5]}"


def _events(store: JobStore, job_id: str) -> tuple[Event, ...]:
    found: list[Event] = []
    while more := store.events_after(job_id, found[-1].id if found else "0"):
        found += more
    return tuple(found)
