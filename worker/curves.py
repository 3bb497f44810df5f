"""One metric of the jobs of a search, over their steps, read as it grows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, TypeAlias, final

from worker.jobs import TERMINAL
from worker.store import EVENTS_A_READ, Event, JobStore
from worker.sweep_outcome import Outcome

Curve: TypeAlias = Mapping[int, float]
"""Values by the number of steps that were done."""
LAST_EPOCH: Final = "train_"
"""Begins the names of means over the last epoch, which a run has at its end only."""


@final
class Curves:
    """The curves of one metric; of a mean over the last epoch, that of what the mean is taken of.

    Every event of a job is read once, however often its curve is asked for.

    Args:
        store: where jobs are kept.
        metric: which metric.
    """

    def __init__(self, store: JobStore, metric: str) -> None:
        self._store = store
        self._names = (metric.removeprefix(LAST_EPOCH), metric)
        self._known: dict[str, _Growing] = {}

    def read_on(self, outcomes: Iterable[Outcome], until: float) -> bool:
        """Reads what is new, up to a time by `time.monotonic`. Returns whether that was all.

        Raises:
            StoreUnavailable: the job store does not serve.
        """
        for outcome in outcomes:
            curve, has_ended = self._known.setdefault(outcome.job_id, _Growing()), outcome.status in TERMINAL
            if curve.is_whole and has_ended:
                continue
            if time.monotonic() > until:
                return False
            self._read(outcome.job_id, curve)
            curve.is_whole = has_ended
        return True

    def mean(self, outcomes: Iterable[Outcome]) -> Curve:
        """The mean of what has been read of some jobs, at the steps that all of them have that have begun."""
        known = (self._known[outcome.job_id].points for outcome in outcomes)
        begun = [points for points in known if points]
        common = sorted(set(begun[0]).intersection(*begun[1:])) if begun else ()
        return {step: fmean(points[step] for points in begun) for step in common}

    def has_begun(self, outcome: Outcome) -> bool:
        """Whether a point of the job has been read."""
        return bool(self._known[outcome.job_id].points)

    def _read(self, job_id: str, curve: _Growing) -> None:
        while True:
            events = self._store.events_after(job_id, curve.position)
            for event in events:
                curve.take(event, self._names)
            if len(events) < EVENTS_A_READ:
                return


@dataclass(slots=True)
class _Growing:
    points: dict[int, float] = field(default_factory=dict)
    position: str = "0"
    is_whole: bool = False

    def take(self, event: Event, names: Sequence[str]) -> None:
        self.position = event.id
        if event.kind == "rewind":
            self.points = {step: value for step, value in self.points.items() if step <= int(event.data)}
        elif event.kind == "metrics":
            series = json.loads(event.data)
            for columns in (series[name] for name in names if name in series):
                points = zip(columns["step"], columns["value"], strict=True)
                self.points |= {step: value for step, value in points if math.isfinite(value)}
