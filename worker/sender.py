"""What a training process tells the store, on its way there: beside the training, in order, and never twice."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from worker.attempt import Attempt
from worker.jobs import JobProgress
from worker.keyspace import StoreUnavailable
from worker.series import SeriesByName, extend

REPEAT_AFTER_S = 0.25


@dataclass(frozen=True, slots=True)
class Report:
    """Points that a run has gained, and how far it is."""

    series: SeriesByName
    progress: JobProgress
    latest: Mapping[str, float]


@final
class Sender:
    """Sends reports in a thread of its own, so that no step of a training waits for the server.

    A report is repeated as it was until the store has answered it, so that the store can tell a
    repetition. Those behind it are joined into one meanwhile: an outage costs no more memory than its
    points. Works inside a `with` block.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._change = threading.Condition()
        self._under_way: Report | None = None
        self._waiting: Report | None = None
        self._is_served = True
        self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread, after the answer that it waits for; what the store has not taken by then is dropped."""
        with self._change:
            self._is_closed = True
            self._change.notify_all()
        self._thread.join()

    def put(self, report: Report) -> None:
        """Has a report sent, after all before it. Returns at once."""
        with self._change:
            self._waiting = report if self._waiting is None else _joined(self._waiting, report)
            self._change.notify_all()

    def check(self) -> None:
        """Raises what has ended the sending, if something has.

        Raises:
            Fenced: the job is another attempt's.
        """
        if self._error is not None:
            raise self._error

    @property
    def is_served(self) -> bool:
        """Whether the store served when it was asked last."""
        return self._is_served

    def is_done_within(self, patience_s: float | None) -> bool:
        """Whether the store takes all reports in that time; None is for ever.

        Raises:
            Fenced: the job is another attempt's.
        """
        with self._change:
            self._is_served = self._change.wait_for(lambda: self._is_idle, patience_s)
            self.check()
            return self._is_served

    @property
    def _is_idle(self) -> bool:
        return self._error is not None or (self._under_way is None and self._waiting is None)

    def _run(self) -> None:
        try:
            while (report := self._next()) is not None:
                self._note(is_served=self._is_taken(report))
        except Exception as error:  # noqa: BLE001  (raised where the training is, by `check`)
            with self._change:
                self._error = error
                self._change.notify_all()

    def _next(self) -> Report | None:
        """The report to send now, once there is one; None after the end of the block."""
        with self._change:
            self._change.wait_for(lambda: self._is_closed or self._under_way or self._waiting)
            if self._under_way is None:
                self._under_way, self._waiting = self._waiting, None
            return None if self._is_closed else self._under_way

    def _is_taken(self, report: Report) -> bool:
        try:
            self._attempt.report(report.series, report.progress, report.latest)
        except StoreUnavailable:
            return False
        return True

    def _note(self, *, is_served: bool) -> None:
        with self._change:
            self._is_served = is_served
            if is_served:
                self._under_way = None
            self._change.notify_all()
            if not is_served:
                self._change.wait_for(lambda: self._is_closed, REPEAT_AFTER_S)


def _joined(first: Report, second: Report) -> Report:
    """The report in place of two; it takes over the points of the first."""
    extend(first.series, second.series)
    return Report(first.series, second.progress, second.latest)
