"""Checkpoints and artefacts of an attempt: written under its own folder, then made visible by a fenced script."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256

from reinmax_core import checkpoint
from reinmax_core.checkpoint import CheckpointCorrupt
from reinmax_core.trainer import Trainer
from worker.artifacts import ArtifactStore, location
from worker.attempt import Attempt, Checkpoint
from worker.jobs import Artifact

FIRST_GAP = 1 / 8
"""The first checkpoint comes after this part of the interval, and each gap is twice the last up to the interval."""
LARGEST_SHARE = 0.05
"""Share of the time that saving may take."""


class Saver:
    """Saves a trainer from time to time, and brings it back.

    Args:
        attempt: whose folder is written to.
        artifacts: where the files go.
        interval_s: seconds between two checkpoints; more if saving takes long.
    """

    def __init__(self, attempt: Attempt, artifacts: ArtifactStore, interval_s: float) -> None:
        self._attempt = attempt
        self._artifacts = artifacts
        self._interval_s = interval_s
        self._gap_s = interval_s * FIRST_GAP
        self._due = time.monotonic() + self._gap_s

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() >= self._due

    def save(self, trainer: Trainer) -> None:
        """Saves a checkpoint and removes those that nobody needs any more.

        Raises:
            ArtifactStoreUnavailable: the files cannot be written.
            Fenced: the job is another attempt's.
            StoreUnavailable: the checkpoint cannot be made visible.
        """
        started = time.monotonic()
        prefix = _prefix(trainer.step)
        files = self.put({prefix + name: content for name, content in checkpoint.encode(trainer).items()})
        for dropped in self._attempt.save(Checkpoint(epoch=self._attempt.epoch, step=trainer.step, files=files)):
            self._delete(dropped)
        self._plan(time.monotonic() - started)

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
        """Brings a trainer to the newest checkpoint that is whole; leaves it as it is if there is none."""
        for saved in checkpoints:
            try:
                checkpoint.restore(trainer, self._read(saved))
            except (CheckpointCorrupt, FileNotFoundError) as error:
                print(f"the checkpoint at step {saved.step} is not used: {error}")
            else:
                print(f"continuing at step {saved.step}")
                return

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
