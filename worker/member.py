"""A job in a training process, which may have several, as the worker sees it."""

from __future__ import annotations

from enum import StrEnum
from typing import final

from worker.assignment import Outcome
from worker.attempt import Claim
from worker.output import Output


class Ending(StrEnum):
    """Why an attempt is ended before its time."""

    CANCEL = "cancel"
    PAUSE = "pause"
    TIMEOUT = "timeout"
    HAND_BACK = "hand back"
    FENCED = "fenced"
    NEIGHBOUR = "neighbour"
    """Another job of the same training process was to end, and did not."""


@final
class Member:
    """One attempt, from its assignment to its end.

    Args:
        claim: what it is about.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim, self.attempt, self.job_id = claim, claim.attempt, claim.job.id
        self.output = Output(claim.attempt)
        self.ending: Ending | None = None
        """Why it was asked to end; None if it was not."""
        self.end_by = float("inf")
        """When it should have ended, by the monotonic clock."""
        self.has_left = False
        """Whether it is trained no more, though its outcome may be still to come."""
        self.outcome: Outcome | None = None
        """What the training process says has come of it; None as long as it trains, or if the process could not say."""
        self.is_concluded = False
        """Whether the store knows of its end."""
