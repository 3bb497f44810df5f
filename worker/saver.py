"""Checkpoints and artefacts of an attempt: written under its own folder, then made visible by a fenced script."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from hashlib import sha256
from typing import TypeVar, final

from reinmax_core import checkpoint
from reinmax_core.checkpoint import CheckpointCorrupt
from reinmax_core.trainer import Trainer
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, location
from worker.attempt import Attempt, Checkpoint, Fenced
from worker.budget import Budget
from worker.jobs import Artifact
from worker.keyspace import StoreUnavailable

PATIENCE_S = 60.0
"""For so long what a run cannot do without is tried again while the artefact store is away."""
FIRST_PAUSE_S = 0.5

Answer = TypeVar("Answer")


@final
class Saver:
    """Saves a trainer from time to time, and brings it back.

    A run stands still only while its state is taken; the files are written beside it, so that a slow
    place costs it no time.

    Args:
        attempt: whose folder is written to.
        artifacts: where the files go.
        interval_s: seconds between two checkpoints; more if they take long.
        patience_s: for how long `restore` and `deliver` try again while the artefact store is away.
        runs: how many are trained side by side, this one among them.
        say: adds a line to the log of the job.
    """

    def __init__(
        self,
        attempt: Attempt,
        artifacts: ArtifactStore,
        interval_s: float,
        patience_s: float = PATIENCE_S,
        *,
        runs: int = 1,
        say: Callable[[str], None] = print,
    ) -> None:
        self._attempt = attempt
        self._artifacts = artifacts
        self._patience_s = patience_s
        self._say = say
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] = Future()
        self._writing.set_result(None)
        self.budget = Budget(interval_s, runs)
        """What the run has spent on checkpoints, and when the next is due."""

    def close(self) -> None:
        """Returns once the checkpoint that is being written is, or after `patience_s`."""
        self._threads.shutdown(wait=False)
        wait([self._writing], self._patience_s)

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint: the one before is written, and the run can afford another."""
        return self._writing.done() and self.budget.is_due

    def begin(self, trainer: Trainer) -> None:
        """Takes the state of a trainer and begins to save it; the log tells if that fails, and the next is planned."""
        self._writing.result()
        write = partial(self._write_beside, trainer.step, checkpoint.encode(trainer))
        self._writing = self._threads.submit(write)

    def save(self, trainer: Trainer) -> None:
        """Saves a checkpoint and removes those that nobody needs any more.

        Raises:
            ArtifactStoreUnavailable: the files cannot be written; what was written of them is removed.
            Fenced: the job is another attempt's.
            StoreUnavailable: the checkpoint cannot be made visible.
        """
        self._writing.result()
        self._write(trainer.step, checkpoint.encode(trainer))

    def deliver(self, files: Mapping[str, bytes]) -> tuple[Artifact, ...]:
        """Writes files as `put` does, and tries again for a while if it must.

        Raises:
            ArtifactStoreUnavailable: they cannot be written, nor could they for `patience_s`.
        """
        return self._patiently(partial(self.put, files))

    def put(self, files: Mapping[str, bytes]) -> tuple[Artifact, ...]:
        """Writes files into the folder of the attempt, where nobody looks before they are named to the store.

        Raises:
            ArtifactStoreUnavailable: they cannot be written; none of them is left.
        """
        tried: list[str] = []
        try:
            for name, content in files.items():
                tried.append(name)
                self._artifacts.put(self._attempt.job_id, self._attempt.epoch, name, content)
        except ArtifactStoreUnavailable:
            self._delete(self._attempt.epoch, tried)
            raise
        return tuple(
            Artifact(name=name, bytes=len(content), sha256=sha256(content).hexdigest())
            for name, content in files.items()
        )

    def restore(self, trainer: Trainer, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Brings a trainer to the newest checkpoint that it can go on from; leaves it as it is if there is none.

        One that is damaged, of another format or of another run is passed over: training the steps anew
        comes to the same end. Also takes the first measure of what a checkpoint costs.

        Raises:
            ArtifactStoreUnavailable: they cannot be read, nor could they for `patience_s`.
        """
        with self.budget.spending():
            beginning = checkpoint.encode(trainer)
        for saved in checkpoints:
            try:
                checkpoint.restore(trainer, self._patiently(partial(self._read, saved)))
            except (ValueError, FileNotFoundError) as error:
                self._say(f"the checkpoint at step {saved.step} is not used: {error}")
            else:
                self._say(f"continuing at step {saved.step}")
                return
        if checkpoints:
            self._say("starting anew: none of the checkpoints can be used")
            checkpoint.restore(trainer, beginning)

    def _write_beside(self, step: int, files: Mapping[str, bytes]) -> None:
        began = time.monotonic()
        try:
            self._write(step, files)
        except (ArtifactStoreUnavailable, Fenced, StoreUnavailable) as error:
            self._say(f"no checkpoint at step {step}: {error}")
        finally:
            self.budget.plan(time.monotonic() - began)

    def _write(self, step: int, files: Mapping[str, bytes]) -> None:
        named = {_prefix(step) + name: content for name, content in files.items()}
        written = Checkpoint(epoch=self._attempt.epoch, step=step, files=self.put(named))
        try:
            dropped = self._attempt.save(written)
        except Fenced:
            self._delete(self._attempt.epoch, named)
            raise
        for older in dropped:
            self._delete(older.epoch, (file.name for file in older.files))

    def _patiently(self, action: Callable[[], Answer]) -> Answer:
        """What the action gives, once the artefact store serves; the pauses between attempts grow."""
        deadline, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            try:
                return action()
            except ArtifactStoreUnavailable as error:
                if time.monotonic() + pause_s > deadline:
                    raise type(error)(f"{error} (tried again for {self._patience_s:g} s)") from error
                self._say(f"trying again in {pause_s:g} s: {error}")
            time.sleep(pause_s)
            pause_s *= 2

    def _read(self, saved: Checkpoint) -> dict[str, bytes]:
        job_id = self._attempt.job_id
        contents = {file: self._artifacts.read(location(job_id, saved.epoch, file.name)) for file in saved.files}
        for file, content in contents.items():
            if sha256(content).hexdigest() != file.sha256:
                raise CheckpointCorrupt(f"{file.name} of attempt {saved.epoch} is not what was written")
        return {file.name.removeprefix(_prefix(saved.step)): content for file, content in contents.items()}

    def _delete(self, epoch: int, names: Iterable[str]) -> None:
        """Removes files that nobody needs; where that fails, they are left to the end of the job."""
        try:
            for name in names:
                self._artifacts.delete(location(self._attempt.job_id, epoch, name))
        except ArtifactStoreUnavailable as error:
            self._say(f"files may be left over: {error}")


def _prefix(step: int) -> str:
    return f"checkpoint-{step}-"
