"""Tells the store how a run goes, a few times a second and never twice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinmax_core.run import Progress
from worker.attempt import Attempt
from worker.jobs import JobProgress
from worker.keyspace import StoreUnavailable
from worker.series import SeriesByName, add_points

if TYPE_CHECKING:
    from reinmax_core.trainer import Trainer

INTERVAL_S = 0.25
SMOOTHING = 0.3


@dataclass(frozen=True, slots=True)
class _Report:
    series: SeriesByName
    progress: JobProgress
    latest: Mapping[str, float]


class Reporter:
    """Collects the points of a trainer and reports them in batches.

    While the store does not serve, reports wait here and training goes on.
    """

    def __init__(self, attempt: Attempt, trainer: Trainer) -> None:
        self._attempt = attempt
        self._trainer = trainer
        self._series: SeriesByName = {}
        self._unsent: deque[_Report] = deque()
        self._last_step, self._last_time = trainer.step, time.monotonic()
        self._due = 0.0  # the first step is told at once
        self._rate: float | None = None

    def note(self, progress: Progress) -> None:
        """Takes up a step; reports if it is time to.

        Raises:
            Fenced: the job is another attempt's.
        """
        if progress.metrics:
            add_points(self._series, progress.step, progress.metrics)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL_S
            self._collect()
            self._send()

    def try_to_flush(self) -> bool:
        """Reports all that is left if the store takes it now. Returns whether it did.

        Raises:
            Fenced: the job is another attempt's.
        """
        self._collect()
        return self._send()

    def flush(self) -> None:
        """Reports all that is left, however long the store takes.

        Raises:
            Fenced: the job is another attempt's.
        """
        self._collect()
        while not self._send():
            time.sleep(INTERVAL_S)

    def progress(self) -> JobProgress:
        """How far the training is."""
        step, steps = self._trainer.step, self._trainer.spec.steps
        eta_s = None if self._rate is None else round((steps - step) / self._rate, 1)
        return JobProgress(step=step, steps=steps, percent=round(100 * step / steps, 2), rate=self._rate, eta_s=eta_s)

    def _collect(self) -> None:
        self._measure()
        self._unsent.append(_Report(self._series, self.progress(), dict(self._trainer.final)))
        self._series = {}

    def _measure(self) -> None:
        now, step = time.monotonic(), self._trainer.step
        if step > self._last_step and now - self._last_time >= INTERVAL_S:
            rate = (step - self._last_step) / (now - self._last_time)
            self._rate = rate if self._rate is None else self._rate + SMOOTHING * (rate - self._rate)
            self._last_step, self._last_time = step, now

    def _send(self) -> bool:
        """Whether nothing is left to send. A report is repeated as it was, so that the store can tell."""
        try:
            while self._unsent:
                report = self._unsent[0]
                self._attempt.report(report.series, report.progress, report.latest)
                self._unsent.popleft()
        except StoreUnavailable:
            return False
        return True
