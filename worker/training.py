"""One attempt inside the training process: drive the trainer, report, save, and write the artefacts."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Protocol

import torch

from reinmax_core import checkpoint
from reinmax_core.data.base import DataSource
from reinmax_core.pictures import png
from reinmax_core.run import RunSpec
from reinmax_core.trainer import Trainer
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable
from worker.assignment import Assignment, Outcome, Stopped, Succeeded
from worker.attempt import Fenced
from worker.jobs import Environment
from worker.keyspace import StoreUnavailable
from worker.reporter import INTERVAL_S, Reporter
from worker.saver import PATIENCE_S, Saver
from worker.series import SeriesByName, encode
from worker.store import JobStore


class Stop(Protocol):
    """What the worker wants."""

    requested: bool
    """Whether the run is to end with a checkpoint."""
    is_training: bool
    """Set once there is something to save."""


def get_ready() -> None:
    """Runs the slow first time of everything that does not depend on the job."""
    _revision()
    spec = RunSpec.model_validate({"task": {"name": "polynomial", "latents": 2}, "estimator": "reinmax", "steps": 2})
    trainer = Trainer(spec)
    for _ in trainer:
        checkpoint.restore(trainer, checkpoint.encode(trainer))


class Training:
    """An attempt, from its assignment to its outcome.

    Args:
        assignment: what to do.
        patience_s: for how long what cannot be done without is tried again while the artefact store is away.
    """

    def __init__(self, assignment: Assignment, patience_s: float = PATIENCE_S) -> None:
        places = assignment.places
        self._assignment = assignment
        self._store = JobStore.connect(places.redis_url, patience_s=places.patience_s)
        self._attempt = self._store.attempt(assignment.job_id, assignment.epoch)
        artifacts = ArtifactStore(places.artifacts_url)
        self._saver = Saver(self._attempt, artifacts, assignment.checkpoint_interval_s, patience_s)
        self._source = DataSource(directory=places.data_dir, mirrors=places.data_mirror)

    def run(self, stop: Stop) -> Outcome:
        """Trains to the end, or to the step at which the worker wants it to stop.

        Raises:
            Fenced: the job is another attempt's.
            Diverged: a loss is not finite.
            DataUnavailable: a data set is not to be had.
            ArtifactStoreUnavailable: the checkpoint to go on from cannot be read, or the artefacts cannot be written.
            NoSpace: there is no room for the artefacts.
        """
        with closing(self._store.keyspace), closing(self._saver):
            return self._run(stop)

    def _run(self, stop: Stop) -> Outcome:
        trainer = self._trainer()
        with Reporter(self._attempt, trainer) as reporter:
            self._start(trainer, reporter)
            stop.is_training = True
            try:
                return self._train(trainer, reporter, stop)
            except Fenced:
                raise
            except Exception:
                # The points before a failure explain it, and they end with this process.
                reporter.flush(self._assignment.places.patience_s)
                raise

    def _train(self, trainer: Trainer, reporter: Reporter, stop: Stop) -> Outcome:
        for progress in trainer:
            reporter.note(progress)
            if stop.requested and trainer.step < trainer.spec.steps:
                return self._stopped(trainer, reporter)
            if self._saver.is_due:
                self._save_in_passing(trainer, reporter)
        return self._succeeded(trainer, reporter)

    def _trainer(self) -> Trainer:
        assignment, spec = self._assignment, self._assignment.spec
        print(f"{spec.task.name} with {spec.estimator.name} on {assignment.device_name}: {spec.steps} steps")
        trainer = Trainer(spec, device=assignment.device, source=self._source)
        self._saver.restore(trainer, assignment.checkpoints)
        return trainer

    def _start(self, trainer: Trainer, reporter: Reporter) -> None:
        environment = self._environment(trainer.spec)
        while True:
            try:
                return self._attempt.start(reporter.progress(), trainer.final, environment)
            except StoreUnavailable:
                time.sleep(INTERVAL_S)

    def _save_in_passing(self, trainer: Trainer, reporter: Reporter) -> None:
        """Saves if the store has all points up to this step, so that a resumed run tells none twice; never waits."""
        with self._saver.budget.spending():
            if reporter.try_to_flush():
                self._saver.begin(trainer)
            else:
                print(f"no checkpoint at step {trainer.step}: the job store does not serve")
                self._saver.budget.plan()

    def _stopped(self, trainer: Trainer, reporter: Reporter) -> Stopped:
        reporter.flush()
        try:
            self._saver.save(trainer)
        except (StoreUnavailable, ArtifactStoreUnavailable) as error:
            print(f"no checkpoint at step {trainer.step}: {error}")
        print(f"stopped at step {trainer.step}")
        return Stopped()

    def _succeeded(self, trainer: Trainer, reporter: Reporter) -> Succeeded:
        reporter.flush()
        result = trainer.result()
        files = {
            checkpoint.MODEL: checkpoint.encode(trainer)[checkpoint.MODEL],
            "result.json": result.model_dump_json(indent=2).encode(),
            "metrics.json": _json_of(self._series()),
            "spec.json": trainer.spec.model_dump_json(indent=2).encode(),
        }
        artifacts = self._saver.deliver(
            files | {f"{name}.png": png(levels) for name, levels in trainer.pictures().items()}
        )
        print(f"done in {trainer.wall_time_s:.1f} s of training")
        return Succeeded(result=result, artifacts=artifacts, progress=reporter.progress())

    def _series(self) -> SeriesByName:
        while True:
            try:
                return self._store.metrics(self._assignment.job_id)
            except StoreUnavailable:
                time.sleep(INTERVAL_S)

    def _environment(self, spec: RunSpec) -> Environment:
        digests = (data_set.digests(self._source) for data_set in spec.task.datasets())
        return Environment(
            versions=_versions(),
            device=f"{self._assignment.device} ({self._assignment.device_name})",
            threads=torch.get_num_threads(),
            revision=_revision(),
            data={name: digest for known in digests for name, digest in known.items()},
            deterministic=self._assignment.device == "cpu",
        )


def _json_of(series: SeriesByName) -> bytes:
    return f'{{"series":{encode(series)}}}'.encode()


def _versions() -> dict[str, str]:
    return {"python": python_version()} | {name: version(name) for name in ("torch", "numpy", "reinmax-service")}


@cache
def _revision() -> str | None:
    """The git revision of the code, where it runs from a checkout."""
    checkout = Path(__file__).parents[1]
    command = ("git", "-C", str(checkout), "rev-parse", "HEAD")
    if not (checkout / ".git").exists():
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
