"""A job as users read it back, and the workers that there are."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reinmax_core.run import Result, RunSpec
from worker.submission import Cause, Hardware

NONE = "none"


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Waits for a worker with fitting hardware."""
    STARTING = "starting"
    """Claimed by a worker, which is starting the training process."""
    RUNNING = "running"
    """Trains."""
    PAUSED = "paused"
    """Stopped on request with a checkpoint, until it is resumed."""
    SUCCEEDED = "succeeded"
    """Trained to the end; result and artefacts are there."""
    FAILED = "failed"
    """Ended without a result; `status_reason` says why."""
    CANCELLED = "cancelled"
    """Ended on request."""


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class _Record(BaseModel):
    """Part of a job as it is read back. Clients ignore fields they do not know; so do we, of older versions."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, extra="ignore")


class Reason(_Record):
    """Why a job is in the state that it is in."""

    code: str
    """A word for programs: the cause of a failure, or such as `no_worker`, `worker_lost`, `pause_requested`."""
    message: str
    """A sentence for people, with the remedy where there is one."""


class JobProgress(_Record):
    """How far the training is."""

    step: int = 0
    """Optimiser steps done."""
    steps: int
    """Optimiser steps of the whole run."""
    percent: float = 0.0
    """Share of the steps done, 0 to 100."""
    rate: float | None = None
    """Steps a second, lately."""
    eta_s: float | None = None
    """Seconds left at that rate."""


class Failure(_Record):
    """What went wrong in a failed job."""

    type: str
    """Name of the exception or signal, such as `DataUnavailable` or `SIGKILL`."""
    message: str
    """What happened, with the remedy where there is one."""


class Change(_Record):
    """Something that was otherwise in an earlier attempt, on which the last bits of a result may depend."""

    step: int
    """From this step on it is as it is now."""
    what: str
    """`device`, `threads`, `revision`, or the name of a package or of a data file."""
    before: str
    """What it was."""
    now: str
    """What it is."""

    def __str__(self) -> str:
        return f"{self.what} was {self.before} before step {self.step}, and is {self.now}"


class Environment(_Record):
    """What is needed to repeat a run."""

    versions: dict[str, str]
    """Versions of Python, torch, numpy and this package."""
    device: str
    """The device it trained on, with its name."""
    threads: int
    """CPU threads that torch used; the last bit of a result may depend on it. Later attempts use as many as the first,
    whatever cores they have."""
    revision: str | None
    """Git revision of the code, where it ran from a checkout."""
    data: dict[str, str]
    """SHA-256 of every data file that was read."""
    deterministic: bool
    """Whether the same spec gives the same result to the last bit in this environment. Not where `changes` says that
    the run has known another one."""
    changes: tuple[Change, ...] = ()
    """What was otherwise while earlier attempts trained the first steps."""

    def continuing(self, earlier: Environment, step: int) -> Environment:
        """This environment, of an attempt that goes on at `step` of what one in an earlier environment has begun."""
        still = tuple(change for change in earlier.changes if change.step < step)
        undone = {change.what: change.before for change in reversed(earlier.changes[len(still) :])}
        before, now = earlier._facts() | undone, self._facts()
        changes = still + tuple(
            Change(step=step, what=what, before=before.get(what, NONE), now=now.get(what, NONE))
            for what in sorted(before.keys() | now.keys())
            if before.get(what, NONE) != now.get(what, NONE)
        )
        return self.model_copy(update={"changes": changes, "deterministic": self.deterministic and not changes})

    def _facts(self) -> dict[str, str]:
        """All that may change the last bits of a result."""
        named = {"device": self.device, "threads": str(self.threads), "revision": self.revision or NONE}
        return named | self.versions | self.data


class Artifact(_Record):
    """A file that a job left."""

    name: str
    """Its name, unique among the files of the job."""
    bytes: int
    """Its size."""
    sha256: str
    """Its checksum, in hexadecimal."""


class Job(_Record):
    """A job as the service shows it."""

    id: str
    """`job_` and a UUID of version 7, so that ids sort by time of submission."""
    status: State
    """Where the job stands."""
    status_reason: Reason | None = None
    """Why the job is in this state, where the state alone does not say."""
    spec: RunSpec
    """The run, every default filled in."""
    name: str | None = None
    """The name that its submitter gave it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Key-value pairs to find it by."""
    sweep: str | None = None
    """The sweep that it is part of."""
    cell: int | None = None
    """Number of its cell in the sweep, from 0; the jobs of a cell differ in their seeds."""
    priority: int = 0
    """Jobs of higher priority start first on the same queue."""
    hardware: Hardware
    """What it needs of the machine it runs on."""
    queue: str
    """The queue that it waits on or was taken from, by its hardware: `any`, `cpu` or `cuda`."""
    queue_position: int | None = None
    """1 for the next job of its queue to start; null if it is not queued."""
    attempt: int = 0
    """Attempts begun since the job was submitted or retried, not counting those that a worker handed back unharmed."""
    max_attempts: int
    """Attempts before it fails for good."""
    max_attempts_by_cause: dict[Cause, int] = Field(default_factory=dict)
    """Attempts that each cause may end before it fails for good."""
    timeout_s: float | None = None
    """Seconds an attempt may run; null for any time."""
    packing: bool = True
    """Whether it may be trained side by side with others."""
    worker: str | None = None
    """The worker that has it, or had it last."""
    progress: JobProgress
    """How far it is."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Latest value of every series."""
    result: Result | None = None
    """What it came to, once it has succeeded."""
    error: Failure | None = None
    """What went wrong, if it has failed."""
    environment: Environment | None = None
    """What is needed to repeat it, once it has started."""
    created_at: datetime
    """Time of submission."""
    started_at: datetime | None = None
    """Start of the first attempt."""
    finished_at: datetime | None = None
    """When it succeeded, failed or was cancelled."""
    epoch: int = Field(default=0, exclude=True)
    version: int = Field(default=0, exclude=True)

    @property
    def etag(self) -> str:
        """Changes whenever what is shown of the job does."""
        if self.queue_position is None:
            return f'"{self.epoch}-{self.version}"'
        return f'"{self.epoch}-{self.version}-{self.queue_position}-{self.status_reason and self.status_reason.code}"'


class WorkerRecord(_Record):
    """A live worker and the machine it is on."""

    name: str
    """Its name, unique among the workers that are alive."""
    device: Literal["cpu", "cuda"]
    """What it trains on."""
    queues: tuple[str, ...]
    """The queues it takes jobs from."""
    hardware: str
    """Model name of the processor or GPU."""
    cores: int
    """Processor cores it may use."""
    memory_gb: float
    """Memory of the machine in GB."""
    gpu_memory_gb: float | None = None
    """Memory of its GPU in GB."""
    load: float
    """Load average of the machine over the last minute."""
    memory_used_gb: float
    """Memory of the machine in use, by whatever program, in GB."""
    job: str | None = None
    """The job that it is running; the first of them, if they are several."""
    jobs: tuple[str, ...] = ()
    """All jobs that it is running: several where it trains them side by side."""
    started_at: datetime
    """When it came to life."""
    heartbeat_age_s: float = 0.0
    """Seconds since it was last heard of."""
    version: str
    """Version of this package it runs."""

    @property
    def job_memory_gb(self) -> float:
        """Memory that a job can have here: the GPU's where there is one."""
        return self.memory_gb if self.gpu_memory_gb is None else self.gpu_memory_gb

    @property
    def offer(self) -> str:
        """What it has, in words."""
        return f"{self.device} with {self.job_memory_gb:.1f} GB of memory ({self.hardware})"

    def fits(self, needed: Hardware) -> bool:
        """Whether a job with these needs can run here."""
        return needed.queue in self.queues and needed.memory_gb <= self.job_memory_gb
