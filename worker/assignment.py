"""What passes between a worker and its training process: what to do, and what came of it. As lines of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reinmax_core.run import Result, RunSpec
from worker.attempt import Checkpoint
from worker.jobs import Artifact, Environment, Failure, JobProgress
from worker.keyspace import PATIENCE_S
from worker.submission import Cause


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Places(_Message):
    """Where a training process reads and writes."""

    redis_url: str
    """With its password, which is why an assignment goes through a pipe."""
    patience_s: float = PATIENCE_S
    """For so long the server may take to answer."""
    artifacts_url: str
    data_dir: Path
    data_mirror: tuple[str, ...]


class AssignedJob(_Message):
    """One attempt at one job."""

    job_id: str
    epoch: int
    spec: RunSpec
    checkpoints: tuple[Checkpoint, ...]
    """Where to continue, newest first; an older one if the newest is damaged."""
    before: Environment | None = None
    """That of the attempt before this one."""


class Assignment(_Message):
    """What a training process is to do."""

    jobs: tuple[AssignedJob, ...]
    """One, or several of one form, to be trained side by side."""
    device: Literal["cpu", "cuda"]
    device_name: str
    """Model of the processor or GPU."""
    checkpoint_interval_s: float
    places: Places


class Succeeded(_Message):
    """The run is complete and its artefacts are written."""

    kind: Literal["succeeded"] = "succeeded"
    result: Result
    artifacts: tuple[Artifact, ...]
    progress: JobProgress


class Failed(_Message):
    """The run raised."""

    kind: Literal["failed"] = "failed"
    cause: Cause
    failure: Failure


class Spoilt(_Message):
    """What was done for several runs in common has failed, and nobody knows whether this one is at fault."""

    kind: Literal["spoilt"] = "spoilt"
    cause: Cause
    failure: Failure
    replicas: int
    """How many there were."""


class Stopped(_Message):
    """The run was asked to end, and did, with a checkpoint if it had made a step."""

    kind: Literal["stopped"] = "stopped"


class FencedOff(_Message):
    """The run has ended because the job is another attempt's."""

    kind: Literal["fenced"] = "fenced"


class Left(_Message):
    """The run is trained no more, and costs those beside it nothing; what has become of it is still being written."""

    kind: Literal["left"] = "left"


class Said(_Message):
    """Something for the log of one job among several, which all share the process's standard output."""

    kind: Literal["said"] = "said"
    text: str


Outcome: TypeAlias = Succeeded | Failed | Spoilt | Stopped | FencedOff


class News(_Message):
    """What a training process has to say of one of its jobs."""

    job_id: str
    content: Annotated[Outcome | Left | Said, Field(discriminator="kind")]


BEGUN = b"\n"
"""A training process writes this before its news, of which each is a line, once it has its assignment: what goes wrong
earlier is no job's fault."""
