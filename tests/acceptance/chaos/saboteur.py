"""Does to the processes of a stack, and to its jobs, what a schedule of faults says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psutil

from tests.acceptance.chaos.calls import Caller
from tests.acceptance.chaos.faults import Fault, Kind
from tests.acceptance.chaos.members import Life, Member
from tests.acceptance.chaos.stack import Stack
from worker.app import application, wake
from worker.artifacts import location
from worker.attempt import Checkpoint
from worker.jobs import TERMINAL, Job, State
from worker.keyspace import StoreUnavailable
from worker.listing import Filters
from worker.store import JobNotFound, JobStore

BEYOND_LEASE_S: Final = (0.5, 3.0)
SERVER_AWAY_S: Final = (0.0, 5.0)
PAUSED_S: Final = (0.2, 3.0)
RETRIED: Final = 0.5
"""Share of the cancelled jobs that are retried, and then have to succeed."""


class Saboteur:
    """Does what a schedule says, one `strike` a fault, and undoes by `relieve` what has to be undone.

    Args:
        stack: what it is done to.
        caller: for what is done over HTTP.
        actions: what the service can be asked to do with a job.
        chance: of victims and durations.
    """

    def __init__(self, stack: Stack, caller: Caller, actions: Collection[str], chance: random.Random) -> None:
        self.done: list[Fault] = []
        self.cancelled: set[str] = set()
        """Jobs that may end as cancelled."""
        self._stack, self._caller, self._chance = stack, caller, chance
        self._store = stack.store(1.0)
        self._can_retry = "retry" in actions
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._threads = ThreadPoolExecutor(8)
        self._requests: list[Future[None]] = []
        self._ways: dict[Kind, Callable[[], Fault | None]] = {
            Kind.KILL_CHILD: self._kill_child,
            Kind.KILL_WORKER: self._kill_worker,
            Kind.KILL_API: self._kill_api,
            Kind.KILL_SERVER: self._kill_server,
            Kind.FREEZE_CHILD: self._freeze_child,
            Kind.FREEZE_WORKER: self._freeze_worker,
            Kind.DRAIN_WORKER: self._drain_worker,
            Kind.TEAR_CHECKPOINT: self._tear_checkpoint,
            Kind.DOUBLE_MESSAGE: self._double_message,
            Kind.PAUSE: self._pause,
            Kind.CANCEL: self._cancel,
        }

    def strike(self, kind: Kind) -> bool:
        """Whether there was something to do this to, so that it was done."""
        try:
            fault = self._ways[kind]()
        except (StoreUnavailable, JobNotFound, psutil.NoSuchProcess):
            return False
        if fault:
            self.done.append(fault)
        return fault is not None

    def relieve(self) -> None:
        """Lets go on what has been frozen for long enough."""
        due = [action for at, action in self._due if time.monotonic() >= at]
        self._due = [(at, action) for at, action in self._due if time.monotonic() < at]
        for action in due:
            action()

    @property
    def is_through(self) -> bool:
        """Whether all that was begun is over."""
        return not self._due and all(request.done() for request in self._requests)

    def errors(self) -> Iterator[str]:
        """What went wrong in requests about jobs."""
        for request in self._requests:
            if request.done() and (error := request.exception()):
                yield f"a request to pause, resume, cancel or retry a job went wrong: {error!r}"

    def _well(self, members: Sequence[Member]) -> list[Member]:
        found = [member for member in members if member.life.is_well]
        return self._chance.sample(found, len(found))

    def _training(self) -> tuple[Member, Job] | None:
        """A worker that has a job whose training has begun, and the job."""
        jobs = {job.worker: job for job in self._store.list(Filters(status=State.RUNNING), 100).jobs}
        found = ((member, jobs.get(member.life.worker_name)) for member in self._well(self._stack.workers))
        return next(((member, job) for member, job in found if job), None)

    def _fault(self, kind: Kind, victim: str, job: Job | None = None, lasts_s: float = 0.0) -> Fault:
        step, rate = (job.progress.step, job.progress.rate) if job else (0, None)
        return Fault(kind, time.time(), victim, job.id if job else None, step, rate, lasts_s)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, action))

    def _beyond_lease_s(self) -> float:
        return self._stack.settings.lease_s + self._chance.uniform(*BEYOND_LEASE_S)

    def _child(self, life: Life) -> psutil.Process | None:
        return next(iter(life.training_processes()), None)

    def _kill_child(self) -> Fault | None:
        if not (found := self._training()) or not (child := self._child(found[0].life)):
            return None
        fault = self._fault(Kind.KILL_CHILD, found[0].name, found[1])
        child.kill()
        return fault

    def _kill_worker(self) -> Fault | None:
        if not (found := self._training()):
            return None
        fault = self._fault(Kind.KILL_WORKER, found[0].name, found[1])
        found[0].kill()
        return fault

    def _kill_api(self) -> Fault | None:
        for api in self._well(self._stack.apis):
            api.kill()
            return self._fault(Kind.KILL_API, api.name)
        return None

    def _kill_server(self) -> Fault | None:
        away_s = self._chance.uniform(*SERVER_AWAY_S)
        return self._fault(Kind.KILL_SERVER, "server", None, away_s) if self._stack.kill_server(away_s) else None

    def _freeze_child(self) -> Fault | None:
        if not (found := self._training()) or not (child := self._child(found[0].life)):
            return None
        lasts_s = self._beyond_lease_s()
        child.suspend()
        self._later(lasts_s, lambda: _resume(child))
        return self._fault(Kind.FREEZE_CHILD, found[0].name, found[1], lasts_s)

    def _freeze_worker(self) -> Fault | None:
        if not (found := self._training()):
            return None
        member, life, lasts_s = found[0], found[0].life, self._beyond_lease_s()
        member.freeze()
        self._later(lasts_s, lambda: member.thaw(life))
        return self._fault(Kind.FREEZE_WORKER, member.name, found[1], lasts_s)

    def _drain_worker(self) -> Fault | None:
        if not (found := self._training()):
            return None
        found[0].ask_to_end()
        return self._fault(Kind.DRAIN_WORKER, found[0].name, found[1])

    def _tear_checkpoint(self) -> Fault | None:
        if not (found := self._training()) or not (child := self._child(found[0].life)):
            return None
        child.suspend()  # so that no newer one is saved meanwhile
        try:
            saved = self._store.attempt(found[1].id, 0).checkpoints()
            if not saved:
                return None
            self._damage(found[1].id, saved[0])
            child.kill()
        finally:
            child.resume()
        return self._fault(Kind.TEAR_CHECKPOINT, found[0].name, found[1])

    def _damage(self, job_id: str, saved: Checkpoint) -> None:
        name = self._chance.choice(saved.files).name
        path = Path(self._stack.settings.artifacts_url) / location(job_id, saved.epoch, name)
        content = path.read_bytes()
        if self._chance.random() < 0.5:
            path.write_bytes(content[: len(content) // 2])
        else:
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])

    def _double_message(self) -> Fault | None:
        jobs = [job for state in (State.RUNNING, State.QUEUED) for job in self._jobs(self._store, state)]
        if not jobs:
            return None
        job = self._chance.choice(jobs)
        with application(self._stack.redis_url) as celery, suppress(Exception):  # lost ones do no harm either
            for _ in range(5):
                wake(celery, job)
        return self._fault(Kind.DOUBLE_MESSAGE, "queue", job)

    def _pause(self) -> Fault | None:
        if not (job := self._any_job()):
            return None
        lasts_s = self._chance.uniform(*PAUSED_S)
        self._requests.append(self._threads.submit(self._pause_and_resume, job.id, lasts_s))
        return self._fault(Kind.PAUSE, "job", job, lasts_s)

    def _cancel(self) -> Fault | None:
        if not (job := self._any_job()):
            return None
        self.cancelled.add(job.id)
        is_retried = self._can_retry and self._chance.random() < RETRIED
        self._requests.append(self._threads.submit(self._cancel_and_retry, job.id, is_retried))
        return self._fault(Kind.CANCEL, "job", job)

    def _any_job(self) -> Job | None:
        jobs = [
            job for state in (State.RUNNING, State.STARTING, State.QUEUED) for job in self._jobs(self._store, state)
        ]
        jobs = [job for job in jobs if job.id not in self.cancelled]
        return self._chance.choice(jobs) if jobs else None

    def _jobs(self, store: JobStore, state: State) -> Sequence[Job]:
        return store.list(Filters(status=state), 100).jobs

    def _pause_and_resume(self, job_id: str, lasts_s: float) -> None:
        self._act(job_id, "pause")
        time.sleep(lasts_s)
        self._act(job_id, "resume")

    def _cancel_and_retry(self, job_id: str, is_retried: bool) -> None:
        self._act(job_id, "cancel")
        if not is_retried:
            return
        while State(self._caller.ask("GET", f"/v1/jobs/{job_id}").json()["status"]) not in TERMINAL:
            time.sleep(0.1)
        if self._act(job_id, "retry"):
            self.cancelled.discard(job_id)

    def _act(self, job_id: str, action: str) -> bool:
        """Whether the service did it; it may refuse, as the job may have ended by then."""
        answer = self._caller.ask("POST", f"/v1/jobs/{job_id}/{action}")
        assert answer.status_code in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT), answer.text
        return answer.status_code != HTTPStatus.CONFLICT


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.resume()
