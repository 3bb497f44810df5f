"""One attempt at a job, as the worker and the training process change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from json import dumps, loads
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from reinmax_core.run import Result
from worker import shown
from worker.jobs import Artifact, Environment, Failure, Job, JobProgress, Reason, State
from worker.keyspace import Keyspace
from worker.reasons import CANCELLED, PAUSE_WITHDRAWN, PAUSED
from worker.series import Series, encode
from worker.submission import Cause

CHECKPOINTS_KEPT = 2
LOG_LIMIT_BYTES = 2**20


class Fenced(Exception):
    """The job is no longer this attempt's: it has ended, or another worker has it. Nothing was written."""


class Order(StrEnum):
    """What the supervisor of an attempt is to do."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    """Have the training process save a checkpoint and end, then `stop`."""
    PAUSE = "pause"
    """Have the training process save a checkpoint and end, then `pause`."""
    FENCED = "fenced"
    """Kill the training process: the job is no longer this attempt's."""


def _row(artifact: Artifact) -> tuple[str, int, str]:
    return artifact.name, artifact.bytes, artifact.sha256


def _artifact(row: object) -> object:
    # Records of format 1 have objects in place of rows.
    return dict(zip(Artifact.model_fields, row, strict=True)) if isinstance(row, list | tuple) else row


class _Files(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    epoch: int
    """The attempt in whose folder the files lie."""
    files: tuple[Annotated[Artifact, BeforeValidator(_artifact), PlainSerializer(_row)], ...]


class Legacy(_Files):
    """The artefacts of a job that succeeded."""


class Checkpoint(_Files):
    """A state from which an attempt can continue; the files bear the step in their names."""

    step: int


def checkpoints_in(text: str | None) -> tuple[Checkpoint, ...]:
    """The checkpoints in the field of that name of a record, newest first."""
    return tuple(Checkpoint.model_validate_json(checkpoint) for checkpoint in loads(text or "[]"))


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker has taken."""

    job: Job
    attempt: Attempt
    checkpoints: tuple[Checkpoint, ...]
    """Where to continue, newest first; empty to start anew."""


class Attempt:
    """The right to change a job, held as long as no other attempt has begun and the job has not ended.

    Every change checks that in the same Lua script that makes it. Every method may raise
    `StoreUnavailable`; where it says `Fenced`, nothing was written.
    """

    def __init__(self, keyspace: Keyspace, job_id: str, epoch: int) -> None:
        self.job_id, self.epoch = job_id, epoch
        self.keyspace = keyspace

    def beat(self, lease_s: float) -> Order:
        """Extends the lease by a sign of life. Returns what is to be done."""
        return beat_for((self,), lease_s)[0]

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints of all attempts that are kept, newest first."""
        return checkpoints_in(shown.fields(self.keyspace, self.job_id).get("checkpoints"))

    def start(
        self,
        progress: JobProgress,
        latest: Mapping[str, float],
        environment: Environment,
    ) -> None:
        """The training process is ready to go on from `progress.step`: the job is running.

        Points of metrics beyond that step, of an attempt that was lost, are taken back. May be repeated if the
        answer got lost.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        texts = (
            progress.model_dump_json(),
            dumps(dict(latest)),
            environment.model_dump_json(),
        )
        self._must(self._run("start", progress.step, *texts))

    def report(
        self,
        series: Mapping[str, Series],
        progress: JobProgress,
        latest: Mapping[str, float],
    ) -> None:
        """New points of metrics, up to `progress.step`, with the latest value of every series.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        texts = (
            encode(series) if series else "",
            progress.model_dump_json(),
            dumps(dict(latest)),
        )
        self._must(self._run("report", progress.step, *texts))

    def log(self, text: str, piece: int | None = None) -> bool:
        """Adds to the job's log, also just after the end of the attempt. Returns whether there is room for more.

        Args:
            text: what is added.
            piece: its number among the pieces of this attempt, ascending from 1; a piece that has one may be
                repeated if its answer got lost, and is taken once.

        Raises:
            Fenced: another attempt has begun.
        """
        notice = f"\n[the log is cut here: it reached {LOG_LIMIT_BYTES} bytes]\n"
        room: int = self._run("log", "" if piece is None else piece, text, LOG_LIMIT_BYTES, notice)
        self._must(room >= 0)
        return room == 1

    def save(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        """Makes a checkpoint visible whose files are written. Returns older ones that nobody needs any more.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        dropped = self._run("checkpoint", checkpoint.model_dump_json(), CHECKPOINTS_KEPT)
        self._must(dropped is not None)
        return tuple(Checkpoint.model_validate_json(text) for text in dropped)

    def succeed(self, result: Result, artifacts: tuple[Artifact, ...], progress: JobProgress) -> None:
        """Ends the job with its result and makes the artefacts visible.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        legacy = Legacy(epoch=self.epoch, files=artifacts)
        texts = (result.model_dump_json(), legacy.model_dump_json(), progress.model_dump_json())
        self._must(self._run("succeed", *texts))

    def fail(self, cause: Cause, failure: Failure) -> State:
        """Ends the attempt; the job fails, or waits again where that may help and an attempt is left.

        Returns:
            `failed`, `queued` or, if it was to be cancelled or paused meanwhile, `cancelled` or `paused`.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        reason = Reason(code=cause.value, message=failure.message)
        texts = (reason.model_dump_json(), failure.model_dump_json(), *_asked_for())
        return self._state(self._run("fail", cause.value, *texts))

    def stop(self) -> None:
        """Ends the job as cancelled.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        self._must(self._run("stop", CANCELLED.model_dump_json()))

    def pause(self) -> State:
        """Ends the attempt on the request to pause the job; it does not count.

        Returns:
            `paused`; `queued` if the request was withdrawn meanwhile; `cancelled` if the job was to be cancelled.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        return self.release(PAUSE_WITHDRAWN)

    def release(self, reason: Reason, replicas: int | None = None) -> State:
        """Hands the job back to its queue; the attempt does not count.

        Args:
            reason: what the job says meanwhile.
            replicas: how many jobs, itself included, it may be trained beside from now on; as before if None.

        Returns:
            `queued` or, if it was to be cancelled or paused meanwhile, `cancelled` or `paused`.

        Raises:
            Fenced: the job is no longer this attempt's.
        """
        limit = "" if replicas is None else replicas
        return self._state(self._run("release", reason.model_dump_json(), *_asked_for(), limit))

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self.keyspace.run(script, self.job_id, self.epoch, *arguments)

    def _state(self, state: Any) -> State:
        self._must(state is not None)
        return State(state)

    def _must(self, written: object) -> None:
        if not written:
            raise Fenced(
                f"attempt {self.epoch} no longer has job {self.job_id}: it has ended or another worker has it; "
                f"the training process of this attempt has to end"
            )


def beat_for(attempts: Sequence[Attempt], lease_s: float) -> tuple[Order, ...]:
    """Extends the leases of attempts, on one server, in one round trip. Returns what is to be done with each."""
    named = (part for attempt in attempts for part in (attempt.job_id, attempt.epoch))
    return tuple(map(Order, attempts[0].keyspace.run("beat", round(lease_s * 1000), *named)))


def _asked_for() -> tuple[str, str]:
    """What a job says that was to be cancelled, and one that was to be paused."""
    return CANCELLED.model_dump_json(), PAUSED.model_dump_json()
