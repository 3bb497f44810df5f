"""Checkpoints and artefacts of an attempt: written under its own folder, then made visible by a fenced script."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import TypeVar

from reinmax_core import checkpoint
from reinmax_core.checkpoint import CheckpointCorrupt
from reinmax_core.trainer import Trainer
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, location
from worker.attempt import Attempt, Checkpoint
from worker.jobs import Artifact

FIRST_GAP = 1 / 8
"""The first checkpoint comes after this part of the interval, and each gap is twice the last up to the interval."""
LARGEST_SHARE = 0.05
"""Share of the time that saving may take."""
PATIENCE_S = 60.0
"""For so long what a run cannot do without is tried again while the artefact store is away."""
FIRST_PAUSE_S = 0.5

Answer = TypeVar("Answer")


class Saver:
    """Saves a trainer from time to time, and brings it back.

    Args:
        attempt: whose folder is written to.
        artifacts: where the files go.
        interval_s: seconds between two checkpoints; more if saving takes long.
        patience_s: for how long `restore` and `deliver` try again while the artefact store is away.
    """

    def __init__(
        self, attempt: Attempt, artifacts: ArtifactStore, interval_s: float, patience_s: float = PATIENCE_S
    ) -> None:
        self._attempt = attempt
        self._artifacts = artifacts
        self._patience_s = patience_s
        self._interval_s = interval_s
        self._gap_s = interval_s * FIRST_GAP
        self._due = time.monotonic() + self._gap_s

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() >= self._due

    def save(self, trainer: Trainer) -> None:
        """Saves a checkpoint and removes those that nobody needs any more; also if it fails, the next is planned.

        Raises:
            ArtifactStoreUnavailable: the files cannot be written.
            Fenced: the job is another attempt's.
            StoreUnavailable: the checkpoint cannot be made visible.
        """
        started = time.monotonic()
        try:
            self._save(trainer)
        finally:
            self._plan(time.monotonic() - started)

    def postpone(self) -> None:
        """Plans the next checkpoint as if one had been saved now."""
        self._plan(0.0)

    def deliver(self, files: Mapping[str, bytes]) -> tuple[Artifact, ...]:
        """Writes files as `put` does, and tries again for a while if it must.

        Raises:
            ArtifactStoreUnavailable: they cannot be written, nor could they for `patience_s`.
        """
        return self._patiently(partial(self.put, files))

    def put(self, files: Mapping[str, bytes]) -> tuple[Artifact, ...]:
        """Writes files into the folder of the attempt, where nobody looks before they are named to the store.

        Raises:
            ArtifactStoreUnavailable: they cannot be written.
        """
        for name, content in files.items():
            self._artifacts.put(self._attempt.job_id, self._attempt.epoch, name, content)
        return tuple(
            Artifact(name=name, bytes=len(content), sha256=sha256(content).hexdigest())
            for name, content in files.items()
        )

    def restore(self, trainer: Trainer, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Brings a trainer to the newest checkpoint that is whole; leaves it as it is if there is none.

        Raises:
            ArtifactStoreUnavailable: they cannot be read, nor could they for `patience_s`.
        """
        for saved in checkpoints:
            try:
                checkpoint.restore(trainer, self._patiently(partial(self._read, saved)))
            except (CheckpointCorrupt, FileNotFoundError) as error:
                print(f"the checkpoint at step {saved.step} is not used: {error}")
            else:
                print(f"continuing at step {saved.step}")
                return

    def _save(self, trainer: Trainer) -> None:
        prefix = _prefix(trainer.step)
        files = self.put({prefix + name: content for name, content in checkpoint.encode(trainer).items()})
        for dropped in self._attempt.save(Checkpoint(epoch=self._attempt.epoch, step=trainer.step, files=files)):
            self._delete(dropped)

    def _patiently(self, action: Callable[[], Answer]) -> Answer:
        """What the action gives, once the artefact store serves; the pauses between attempts grow."""
        deadline, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            try:
                return action()
            except ArtifactStoreUnavailable as error:
                if time.monotonic() + pause_s > deadline:
                    raise ArtifactStoreUnavailable(f"{error} (tried again for {self._patience_s:g} s)") from error
                print(f"trying again in {pause_s:g} s: {error}")
            time.sleep(pause_s)
            pause_s *= 2

    def _read(self, saved: Checkpoint) -> dict[str, bytes]:
        job_id = self._attempt.job_id
        contents = {file: self._artifacts.read(location(job_id, saved.epoch, file.name)) for file in saved.files}
        for file, content in contents.items():
            if sha256(content).hexdigest() != file.sha256:
                raise CheckpointCorrupt(f"{file.name} of attempt {saved.epoch} is not what was written")
        return {file.name.removeprefix(_prefix(saved.step)): content for file, content in contents.items()}

    def _delete(self, dropped: Checkpoint) -> None:
        for file in dropped.files:
            self._artifacts.delete(location(self._attempt.job_id, dropped.epoch, file.name))

    def _plan(self, took_s: float) -> None:
        self._gap_s = min(2 * self._gap_s, self._interval_s)
        self._due = time.monotonic() + max(self._gap_s, took_s / LARGEST_SHARE)


def _prefix(step: int) -> str:
    return f"checkpoint-{step}-"
