"""How often a run can afford a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

SHARE = 0.05
"""Of the time of a run, it stands still for checkpoints no longer than this part."""
FIRST_GAP = 1 / 8
"""The first checkpoint comes after this part of the interval, and each gap is twice the last up to the interval."""


@final
class Budget:
    """Says when the next checkpoint is due: not too soon, and only if the run stays within the time it may take.

    Args:
        interval_s: seconds from the end of one checkpoint to the next; more if they take long.
        runs: how many stand still for each other's checkpoints, and share the time for them.
    """

    def __init__(self, interval_s: float, runs: int = 1) -> None:
        self._interval_s = interval_s
        self._share = SHARE / runs
        self._gap_s = interval_s * FIRST_GAP
        self._began = time.monotonic()
        self._due = self._began + self._gap_s
        self._cost_s = 0.0
        self.spent_s = 0.0
        """For so long the run has stood still until now."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint that takes as long as the last one did."""
        now = time.monotonic()
        return now >= self._due and self.spent_s + self._cost_s <= self._share * (now - self._began)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Counts the time of its block, in which the run stands still; the next checkpoint should take as long."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._cost_s = time.monotonic() - began
            self.spent_s += self._cost_s

    def plan(self, written_for_s: float = 0.0) -> None:
        """Plans the next checkpoint, after one that was written for so long; it was written half the time at most."""
        self._gap_s = min(2 * self._gap_s, self._interval_s)
        self._due = time.monotonic() + max(self._gap_s, written_for_s)
