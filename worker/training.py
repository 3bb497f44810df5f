"""An assignment inside the training process: train its jobs, alone or side by side, until each has come to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Protocol, final

from reinmax_core import checkpoint
from reinmax_core.data.base import DataSource
from reinmax_core.replicas import Replicas, trainers_of
from reinmax_core.run import RunSpec
from reinmax_core.trainer import Trainer
from worker.artifacts import ArtifactStore
from worker.assignment import AssignedJob, Assignment, Left, News, Outcome, Said
from worker.environment import environment, keep_threads, revision
from worker.saver import PATIENCE_S, Saver
from worker.store import JobStore
from worker.trainee import Trainee


class Wishes(Protocol):
    """What the worker wants."""

    is_training: bool
    """Set once there is something to save."""

    def end(self, job_id: str) -> bool:
        """Whether the run of a job is to end with a checkpoint."""


def get_ready() -> None:
    """Runs the slow first time of everything that does not depend on the job."""
    revision()
    spec = RunSpec.model_validate({"task": {"name": "polynomial", "latents": 2}, "estimator": "reinmax", "steps": 2})
    trainer = Trainer(spec)
    for _ in trainer:
        checkpoint.restore(trainer, checkpoint.encode(trainer))


@final
class Training:
    """Attempts at one job, or at several of one form side by side, from the assignment to the outcome of each.

    Args:
        assignment: what to do.
        tell: takes the outcomes, from any thread.
        patience_s: for how long what cannot be done without is tried again while the artefact store is away.
    """

    def __init__(self, assignment: Assignment, tell: Callable[[News], None], patience_s: float = PATIENCE_S) -> None:
        places = assignment.places
        self._assignment, self._tell, self._patience_s = assignment, tell, patience_s
        self._store = JobStore.connect(places.redis_url, patience_s=places.patience_s)
        self._artifacts = ArtifactStore(places.artifacts_url)
        self._source = DataSource(directory=places.data_dir, mirrors=places.data_mirror)
        self._trainees = [self._trainee(job) for job in assignment.jobs]

    def run(self, wishes: Wishes) -> None:
        """Trains each job to its end, or to the step at which the worker wants it to stop."""
        with closing(self._store.keyspace):
            try:
                self._train(wishes)
            except Exception as error:  # noqa: BLE001  (the jobs have to be told, whatever went wrong)
                self._fail(error)
            for trainee in self._trainees:
                trainee.wait()

    @property
    def _under_way(self) -> list[Trainee]:
        return [trainee for trainee in self._trainees if trainee.is_under_way]

    def _train(self, wishes: Wishes) -> None:
        keep_threads(self._assignment)
        trainees = dict(zip(self._trainers(), self._trainees, strict=True))
        self._begin(trainees)
        wishes.is_training = True
        going = [trainer for trainer, trainee in trainees.items() if trainee.is_under_way]
        if len(going) == 1:
            _alone(going[0], trainees[going[0]], wishes)
        elif going:
            _side_by_side(Replicas(going), trainees, wishes)

    def _begin(self, trainees: dict[Trainer, Trainee]) -> None:
        about = self._assignment
        known = environment(about.jobs[0].spec, about.device, about.device_name, self._source)
        for trainer, trainee in trainees.items():
            trainee.begin(trainer, known)

    def _trainers(self) -> tuple[Trainer, ...]:
        about, beside = self._assignment, len(self._assignment.jobs) - 1
        company = f", side by side with {beside} other jobs" if beside else ""
        for job in about.jobs:
            pair = f"{job.spec.task.name} with {job.spec.estimator.name}"
            self._say(job, f"{pair} on {about.device_name}: {job.spec.steps} steps{company}")
        return trainers_of([job.spec for job in about.jobs], device=about.device, source=self._source)

    def _fail(self, error: Exception) -> None:
        """Ends those that are under way, each of which may have been at fault."""
        under_way = self._under_way
        for trainee in under_way:
            trainee.fail(error, len(under_way))

    def _trainee(self, job: AssignedJob) -> Trainee:
        about, say = self._assignment, partial(self._say, job)
        attempt = self._store.attempt(job.job_id, job.epoch)
        saver = Saver(
            attempt,
            self._artifacts,
            about.checkpoint_interval_s,
            self._patience_s,
            runs=len(about.jobs),
            say=say,
        )
        tell = partial(self._tell_of, job)
        return Trainee(job, self._store, saver, say, tell, about.places.patience_s, len(about.jobs), about.device)

    def _say(self, job: AssignedJob, line: str) -> None:
        """Adds a line to the log of a job, which is standard output for one that is alone."""
        if len(self._assignment.jobs) == 1:
            print(line)
        else:
            self._tell(News(job_id=job.job_id, content=Said(text=f"{line}\n")))

    def _tell_of(self, job: AssignedJob, content: Outcome | Left) -> None:
        self._tell(News(job_id=job.job_id, content=content))


def _alone(trainer: Trainer, trainee: Trainee, wishes: Wishes) -> None:
    for progress in trainer:
        trainee.take(progress, is_wanted=not wishes.end(trainee.job.job_id))
        if not trainee.is_under_way:
            return


def _side_by_side(replicas: Replicas, trainees: dict[Trainer, Trainee], wishes: Wishes) -> None:
    for trainer, progress in replicas:
        trainee = trainees[trainer]
        trainee.take(progress, is_wanted=not wishes.end(trainee.job.job_id))
        if not trainee.is_under_way:
            replicas.drop(trainer)
        _part_with(replicas, trainees)
    _part_with(replicas, trainees)


def _part_with(replicas: Replicas, trainees: dict[Trainer, Trainee]) -> None:
    """Ends those whose loss is no longer finite."""
    for trainer, error in replicas.diverged.items():
        trainees[trainer].fail(error)
