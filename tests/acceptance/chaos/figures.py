"""What a campaign comes to in numbers: restarts, repeated work, second starts that were prevented."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.acceptance.chaos.faults import Fault, Kind
from tests.acceptance.chaos.intervals import Interval, common, length, union
from tests.acceptance.chaos.members import free_time
from tests.acceptance.chaos.promises import Evidence, time_of
from tests.acceptance.chaos.stack import Stack

KILLS: Final = (Kind.KILL_WORKER, Kind.KILL_CHILD)
SERVER_SETTLES_S: Final = 1.0


@dataclass(frozen=True)
class Restart:
    """How long a job whose worker or training process was killed waited for its next attempt."""

    fault: Fault
    waited_s: float
    """In all."""
    queued_s: float
    """Until the job was known to be lost, and waited in its queue."""
    counted_s: float
    """Without the time in its queue in which no worker was free."""
    is_alone: bool
    """Whether meanwhile nothing was done to the server, no worker was frozen, and the job was not paused."""


@dataclass(frozen=True)
class Repeated:
    """Work that was lost with a process."""

    fault: Fault
    steps: int
    seconds: float | None
    """By the rate of the attempt that was lost; None where that is not known."""
    is_alone: bool
    """Whether the server was there since the checkpoint before."""


def restarts(faults: Sequence[Fault], found: Mapping[str, Evidence], stack: Stack) -> Iterator[Restart]:
    """Those after a kill of a worker or of a training process."""
    free = union(free_time(stack.workers))
    for fault in faults:
        if fault.kind not in KILLS or fault.job is None or fault.job not in found:
            continue
        later = [(at, state) for at, state in found[fault.job].states if at >= fault.at]
        queued = next((at for at, state in later if state == "queued"), None)
        starting = next((at for at, state in later if state == "starting"), None)
        if queued is not None and starting is not None and queued <= starting:
            counted = queued - fault.at + length(common([(queued, starting)], free))
            window = (fault.at, starting)
            states = {state for at, state in later if at <= starting}
            is_alone = not _overlaps(window, _disturbances(faults, stack)) and "paused" not in states
            yield Restart(fault, starting - fault.at, queued - fault.at, counted, is_alone)


def repeated_work(faults: Sequence[Fault], found: Mapping[str, Evidence], stack: Stack) -> Iterator[Repeated]:
    """Steps between the checkpoint from which a killed job went on and those that it had done."""
    for fault in faults:
        if fault.kind not in KILLS or fault.job is None or fault.job not in found:
            continue
        evidence = found[fault.job]
        restart = next((at for at, state in evidence.states if at >= fault.at and state == "starting"), None)
        if restart is None:
            continue
        at, step = _checkpoint_before(evidence, restart)
        steps = max(0, fault.step - step)
        outages = [(begin - SERVER_SETTLES_S, end + SERVER_SETTLES_S) for begin, end in stack.outages]
        is_alone = not _overlaps((at, fault.at), outages)
        yield Repeated(fault, steps, steps / fault.rate if fault.rate else None, is_alone)


def summary(values: Iterable[float]) -> dict[str, float | int | None]:
    """How many there are, their median and the largest."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, "p50": None, "max": None}
    return {"count": len(ordered), "p50": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


def _checkpoint_before(evidence: Evidence, moment: float) -> tuple[float, int]:
    """When the newest checkpoint was saved, and its step; the begin of the job if there is none."""
    saved = [event for event in evidence.events if event.kind == "checkpoint" and time_of(event) <= moment]
    if saved:
        return time_of(saved[-1]), int(json.loads(saved[-1].data)["step"])
    return time_of(evidence.events[0]), 0


def _disturbances(faults: Sequence[Fault], stack: Stack) -> list[Interval]:
    """When the server was gone, and for as long afterwards as leases are let off; when a worker was frozen."""
    lease_s = stack.settings.lease_s
    gone = [(begin, end + lease_s + SERVER_SETTLES_S) for begin, end in stack.outages]
    return gone + [(fault.at, fault.at + fault.lasted_s) for fault in faults if fault.kind is Kind.FREEZE_WORKER]


def _overlaps(window: Interval, others: Iterable[Interval]) -> bool:
    return bool(common([window], others))
