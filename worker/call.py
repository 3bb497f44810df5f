"""What it takes to wake a worker for a job."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from worker.submission import HIGHEST_PRIORITY


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


KEY_PREFIX: Final = "reinmax:celery:"
"""What the keys of messages begin with."""


class Call(NamedTuple):
    """A waiting job of which no more is known than messages need."""

    id: str
    queue: str
    priority: int


def message_keys(queue: str) -> tuple[str, ...]:
    """The keys of the lists in which messages of a queue lie, one for each priority, as Celery names them."""
    lower = (f"{KEY_PREFIX}{queue}\x06\x16{number}" for number in range(1, HIGHEST_PRIORITY + 1))
    return (f"{KEY_PREFIX}{queue}", *lower)
