"""What can be done to processes and jobs, and in which order it is to be done."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is done."""

    KILL_CHILD = "SIGKILL of a training process"
    KILL_WORKER = "SIGKILL of a worker"
    KILL_API = "SIGKILL of an API"
    KILL_SERVER = "SIGKILL of the server"
    FREEZE_CHILD = "SIGSTOP of a training process for longer than the lease"
    FREEZE_WORKER = "SIGSTOP of a worker for longer than the lease"
    DRAIN_WORKER = "SIGTERM of a worker"
    TEAR_CHECKPOINT = "newest checkpoint damaged, training process killed"
    DOUBLE_MESSAGE = "five more messages about a job"
    PAUSE = "pause and resume of a job"
    CANCEL = "cancel of a job"


SHARES: Final = {
    Kind.KILL_CHILD: 18, Kind.KILL_WORKER: 20, Kind.KILL_API: 8, Kind.KILL_SERVER: 8, Kind.FREEZE_CHILD: 6,
    Kind.FREEZE_WORKER: 12, Kind.DRAIN_WORKER: 8, Kind.TEAR_CHECKPOINT: 6, Kind.DOUBLE_MESSAGE: 4, Kind.PAUSE: 6,
    Kind.CANCEL: 4,
}  # fmt: skip


ACTIONS: Final = {Kind.PAUSE: "pause", Kind.CANCEL: "cancel"}


@dataclass
class Fault:
    """One thing that was done."""

    kind: Kind
    at: float
    """By the clock on the wall."""
    victim: str
    job: str | None = None
    """The job that it hit."""
    step: int = 0
    """Steps that the job had done, as last reported."""
    rate: float | None = None
    """Its steps a second, lately."""
    lasted_s: float = 0.0


def schedule(count: int, actions: Collection[str], chance: random.Random) -> list[Kind]:
    """Kinds in the order in which they are to happen: each once if that many are wanted, the rest by their shares.

    Args:
        count: how many.
        actions: what the service can be asked to do with a job; what it cannot is left out.
        chance: of the draw.
    """
    shares = {kind: share for kind, share in SHARES.items() if ACTIONS.get(kind, "cancel") in actions}
    certain = chance.sample(list(shares), min(count, len(shares)))
    drawn = chance.choices(list(shares), list(shares.values()), k=count - len(certain))
    return chance.sample(certain + drawn, count)


def as_json(faults: Sequence[Fault]) -> str:
    """One fault a line."""
    return "".join(json.dumps(fault.__dict__) + "\n" for fault in faults)
