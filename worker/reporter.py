"""Tells the store how a run goes, a few times a second and never twice."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from reinmax_core.run import Progress
from worker.attempt import Attempt
from worker.jobs import JobProgress
from worker.sender import Report, Sender
from worker.series import SeriesByName, add_points

if TYPE_CHECKING:
    from reinmax_core.trainer import Trainer

INTERVAL_S = 0.25
SMOOTHING = 0.3
IN_PASSING_S = 0.5
"""For so long a run may stand still to have the store take its points."""


@final
class Reporter:
    """Collects the points of a trainer and reports them in batches.

    No step waits for the store: while that does not serve, or does not answer, reports wait here and
    training goes on. Works inside a `with` block.
    """

    def __init__(self, attempt: Attempt, trainer: Trainer) -> None:
        self._trainer = trainer
        self._sender = Sender(attempt)
        self._series: SeriesByName = {}
        self._last_step, self._last_time = trainer.step, time.monotonic()
        self._due = 0.0  # the first step is told at once
        self._rate: float | None = None

    def __enter__(self) -> Self:
        self._sender.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sender.__exit__(kind, error, traceback)

    def note(self, progress: Progress) -> None:
        """Takes up a step; has it reported if it is time to. Returns at once.

        Raises:
            Fenced: the job is another attempt's, as the store has answered to an earlier report.
        """
        self._sender.check()
        if progress.metrics:
            add_points(self._series, progress.step, progress.metrics)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL_S
            self._collect()

    def try_to_flush(self) -> bool:
        """Reports all that is left if the store takes it now. Returns whether it did, half a second later at most.

        Raises:
            Fenced: the job is another attempt's.
        """
        self._collect()
        return self._sender.is_done_within(IN_PASSING_S if self._sender.is_served else 0)

    def flush(self, patience_s: float | None = None) -> bool:
        """Reports all that is left, however long the store takes, or for so long at most. Returns whether it did.

        Raises:
            Fenced: the job is another attempt's.
        """
        self._collect()
        return self._sender.is_done_within(patience_s)

    def progress(self) -> JobProgress:
        """How far the training is."""
        step, steps = self._trainer.step, self._trainer.spec.steps
        eta_s = None if self._rate is None else round((steps - step) / self._rate, 1)
        return JobProgress(step=step, steps=steps, percent=round(100 * step / steps, 2), rate=self._rate, eta_s=eta_s)

    def _collect(self) -> None:
        self._measure()
        self._sender.put(Report(self._series, self.progress(), dict(self._trainer.final)))
        self._series = {}

    def _measure(self) -> None:
        now, step = time.monotonic(), self._trainer.step
        if step > self._last_step and now - self._last_time >= INTERVAL_S:
            rate = (step - self._last_step) / (now - self._last_time)
            self._rate = rate if self._rate is None else self._rate + SMOOTHING * (rate - self._rate)
            self._last_step, self._last_time = step, now
