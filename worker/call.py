"""What it takes to wake a worker for a job."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Waiting(Protocol):
    """A job that waits for a worker, as far as messages about it go."""

    @property
    def id(self) -> str:
        """The job."""

    @property
    def queue(self) -> str:
        """The queue that it waits on."""

    @property
    def priority(self) -> int:
        """0 to 9; higher ones start first."""


class Call(NamedTuple):
    """A waiting job of which no more is known than messages need."""

    id: str
    queue: str
    priority: int
