"""One job in a training process, which may have several: its trainer, its reports and checkpoints, and its end."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import final

from reinmax_core import checkpoint
from reinmax_core.pictures import png
from reinmax_core.run import Progress
from reinmax_core.trainer import Diverged, Trainer
from worker.artifacts import ArtifactStoreUnavailable
from worker.assignment import AssignedJob, Failed, FencedOff, Left, Outcome, Spoilt, Stopped, Succeeded
from worker.attempt import Fenced
from worker.jobs import Environment, Failure
from worker.keyspace import StoreUnavailable
from worker.memory import ran_out
from worker.reporter import INTERVAL_S, Reporter
from worker.saver import Saver
from worker.series import SeriesByName, encode
from worker.store import JobStore
from worker.submission import Cause


@final
class Trainee:
    """An attempt, from the making of its trainer to its outcome.

    It ends in a thread of its own, for what it has come to may take long to write, and others train on.

    Args:
        job: what to do.
        store: where it is told.
        saver: of its checkpoints and artefacts.
        say: adds a line to the log of the job.
        tell: takes word that it is trained no more, and then the outcome.
        patience_s: for how long the store is waited for with the last points of a run that failed.
        replicas: how many are trained side by side, this one among them.
        device: where they are.
    """

    def __init__(
        self,
        job: AssignedJob,
        store: JobStore,
        saver: Saver,
        say: Callable[[str], None],
        tell: Callable[[Outcome | Left], None],
        patience_s: float,
        replicas: int,
        device: str,
    ) -> None:
        self.job = job
        self.is_under_way = True
        """Whether it is to be trained on."""
        self._store, self._saver, self._say, self._tell = store, saver, say, tell
        self._patience_s, self._replicas, self._device = patience_s, replicas, device
        self._resources = ExitStack()
        self._resources.enter_context(closing(saver))
        self._reporter: Reporter | None = None
        self._end: threading.Thread | None = None

    def begin(self, trainer: Trainer, environment: Environment) -> None:
        """Brings a new trainer to the step at which to continue, and tells the store that the job is running."""
        self._trainer = trainer
        try:
            self._saver.restore(trainer, self.job.checkpoints)
            reporter = Reporter(self._store.attempt(self.job.job_id, self.job.epoch), trainer)
            self._reporter = self._resources.enter_context(reporter)
            self._start(reporter, self._continued(environment))
            if trainer.step == trainer.spec.steps:
                self._end_with(partial(self._succeeded, reporter))
        except Exception as error:  # noqa: BLE001  (the job has to be told, whatever went wrong)
            self.fail(error)

    def take(self, progress: Progress, *, is_wanted: bool) -> None:
        """Takes up a step, and saves a checkpoint if it is time to; ends with the last step or if it is not wanted."""
        try:
            self._take(progress, is_wanted)
        except Exception as error:  # noqa: BLE001  (the job has to be told, whatever went wrong)
            self.fail(error)

    def fail(self, error: Exception, replicas: int = 1) -> None:
        """Ends with an error, unless it has ended; with one of what `replicas` did in common, each may be at fault."""
        if self.is_under_way:
            traceback.clear_frames(error.__traceback__)  # they hold tensors, of memory that may be short
            self._end_with(partial(self._failed, error, replicas))

    def wait(self) -> None:
        """Returns once the outcome is told."""
        if self._end:
            self._end.join()

    def _continued(self, environment: Environment) -> Environment:
        """The environment, saying what was otherwise before the step at which this attempt goes on."""
        before, step = self.job.before, self._trainer.step
        if before is None or not step:
            return environment
        continued = environment.continuing(before, step)
        for change in continued.changes:
            if change.step == step:
                self._say(f"{change}: the last bits of the result may be others than those of an undisturbed run")
        return continued

    def _start(self, reporter: Reporter, environment: Environment) -> None:
        attempt = self._store.attempt(self.job.job_id, self.job.epoch)
        while True:
            try:
                return attempt.start(reporter.progress(), self._trainer.final, environment)
            except StoreUnavailable:
                time.sleep(INTERVAL_S)

    def _take(self, progress: Progress, is_wanted: bool) -> None:
        assert self._reporter is not None
        self._reporter.note(progress)
        if progress.step == progress.steps:
            self._end_with(partial(self._succeeded, self._reporter))
        elif not is_wanted:
            self._end_with(partial(self._stopped, self._reporter))
        elif self._saver.is_due:
            self._save_in_passing(self._reporter)

    def _save_in_passing(self, reporter: Reporter) -> None:
        """Saves if the store has all points up to this step, so that a resumed run tells none twice; never waits."""
        with self._saver.budget.spending():
            if reporter.try_to_flush():
                self._saver.begin(self._trainer)
            else:
                self._say(f"no checkpoint at step {self._trainer.step}: the job store does not serve")
                self._saver.budget.plan()

    def _end_with(self, come_to_an_end: Callable[[], Outcome]) -> None:
        if not self.is_under_way:
            return
        self.is_under_way = False
        end = threading.Thread(target=self._come_to_an_end, args=(come_to_an_end,), name="end")
        try:
            end.start()
        except RuntimeError:  # where memory is short, there is none for another thread
            self._come_to_an_end(come_to_an_end)
        else:
            self._end = end
            self._tell(Left())

    def _come_to_an_end(self, come_to_an_end: Callable[[], Outcome]) -> None:
        with self._resources:
            outcome = self._outcome(come_to_an_end)
        self._tell(outcome)

    def _outcome(self, come_to_an_end: Callable[[], Outcome]) -> Outcome:
        try:
            return come_to_an_end()
        except Fenced as error:
            self._say(str(error))
            return FencedOff()
        except Exception as error:  # noqa: BLE001  (the job has to be told, whatever went wrong)
            return self._failure(error)

    def _succeeded(self, reporter: Reporter) -> Succeeded:
        trainer = self._trainer
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
        self._say(f"done in {trainer.wall_time_s:.1f} s of training")
        return Succeeded(result=result, artifacts=artifacts, progress=reporter.progress())

    def _series(self) -> SeriesByName:
        while True:
            try:
                return self._store.metrics(self.job.job_id)
            except StoreUnavailable:
                time.sleep(INTERVAL_S)

    def _stopped(self, reporter: Reporter) -> Stopped:
        reporter.flush()
        try:
            self._saver.save(self._trainer)
        except (StoreUnavailable, ArtifactStoreUnavailable) as error:
            self._say(f"no checkpoint at step {self._trainer.step}: {error}")
        self._say(f"stopped at step {self._trainer.step}")
        return Stopped()

    def _failed(self, error: Exception, replicas: int) -> Outcome:
        if isinstance(error, Fenced):
            raise error
        if self._reporter:
            # The points before a failure explain it, and they end with this process.
            self._reporter.flush(self._patience_s)
        return self._failure(error, replicas)

    def _failure(self, error: Exception, replicas: int = 1) -> Failed | Spoilt:
        self._say("".join(traceback.format_exception(error)).rstrip())
        cause = _cause(error)
        failure = Failure(type=type(error).__name__, message=str(error) or repr(error))
        if cause is Cause.OOM or self._may_be_of_another(error):
            replicas = self._replicas
        return (
            Failed(cause=cause, failure=failure)
            if replicas == 1
            else Spoilt(cause=cause, failure=failure, replicas=replicas)
        )

    def _may_be_of_another(self, error: Exception) -> bool:
        """Whether it may have been done for another run: a GPU tells of an error whenever it is next waited for."""
        return self._device == "cuda" and isinstance(error, RuntimeError)


def _cause(error: Exception) -> Cause:
    if isinstance(error, Diverged):
        return Cause.DIVERGED
    return Cause.OOM if ran_out(error) else Cause.ERROR


def _json_of(series: SeriesByName) -> bytes:
    return f'{{"series":{encode(series)}}}'.encode()
