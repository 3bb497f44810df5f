"""Where sweeps are kept, beside their jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from reinmax_core.value import Value
from worker.call import Call
from worker.keyspace import Argument
from worker.listing import cursor_behind, position_in
from worker.reasons import CANCEL_REQUESTED, CANCELLED
from worker.refusal import IdempotencyMismatch, SweepNotAllowed, SweepNotFound
from worker.store import IDEMPOTENCY_LIFETIME_S, JobStore, random_part_of_id
from worker.sweep import Axis, Sweep
from worker.sweep_grid import Cell, Flaw, InvalidSweep
from worker.sweep_outcome import Outcome
from worker.sweep_plan import Plan
from worker.sweep_record import axes_text, fields_of, outcome_of, readable_sweeps_of, sweeps_of, texts_of

DELETED: Final = "changed while it is being deleted"
AT_A_TIME: Final = 250
"""So many jobs are changed or read in one go, for a server that does so does nothing else meanwhile."""
MOST_CALLS: Final = 256
"""More messages than there may be workers are of no use."""
ATTEMPTS: Final = 8
"""So often a change is tried again that another one forestalled."""


class AllSweeps(Value):
    """What a cursor of sweeps stands for; one of jobs, which are filtered, is another."""

    kind: Literal["sweeps"] = "sweeps"


ALL: Final = AllSweeps()


@dataclass(frozen=True, slots=True)
class Changed:
    """A sweep some jobs of which wait for a worker now."""

    sweep: Sweep
    calls: tuple[Call, ...] = ()
    """For whom to wake workers: not all of the jobs, for workers go on to those behind."""
    replayed: bool = False
    """Whether nothing was changed, because it was there already by the idempotency key."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """Some jobs of a sweep that are about to be removed."""

    started: tuple[str, ...]
    """Those that may have left files."""
    idle: tuple[str, ...]
    """Those that were never started."""


@dataclass(frozen=True, slots=True)
class SweepPage:
    """Some sweeps, newest first."""

    sweeps: tuple[Sweep, ...]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


class SweepStore:
    """All sweeps, on the server of the jobs, in whose store each of their jobs is one like any other.

    Safe to share between threads. Every method may raise `StoreUnavailable`, and where it reads a sweep
    `SweepUnreadable`.

    Args:
        store: of the jobs.
    """

    def __init__(self, store: JobStore) -> None:
        self._keyspace = store.keyspace

    def submit(self, plan: Plan, *, idempotency_key: str | None = None, fingerprint: str = "") -> Changed:
        """Accepts a sweep, which is on the server's disk then with all of its jobs: all of them, or nothing.

        Args:
            plan: the sweep.
            idempotency_key: for 24 h, a submission with the same key and fingerprint gives the same sweep.
            fingerprint: tells apart requests with the same key.

        Raises:
            IdempotencyMismatch: the key was used with another fingerprint.
        """
        outcome, shown, calls = self._keyspace.run_to_disk(
            "sweep_submit",
            random_part_of_id(),
            f"sweep:{idempotency_key}" if idempotency_key else "",
            fingerprint,
            IDEMPOTENCY_LIFETIME_S * 1000,
            json.dumps(fields_of(plan)),
            json.dumps(plan.seeds),
            *texts_of(plan.cells),
        )
        if outcome == "mismatch":
            raise IdempotencyMismatch(idempotency_key or "")
        return Changed(sweeps_of(shown)[0], _calls_in(calls), replayed=outcome == "replayed")

    def get(self, sweep_id: str) -> Sweep:
        """The sweep as it stands.

        Raises:
            SweepNotFound: there is none.
        """
        sweeps = sweeps_of(self._keyspace.run("sweep_read", sweep_id))
        if not sweeps:
            raise SweepNotFound(sweep_id)
        return sweeps[0]

    def list(self, limit: int, cursor: str | None = None) -> SweepPage:
        """A page of the sweeps, newest first.

        Raises:
            BadCursor: the cursor is not from a page of sweeps.
        """
        position = position_in(ALL, cursor) if cursor is not None else ""
        # One more than fits tells whether there is another page.
        now, found = self._keyspace.run("sweep_list", limit + 1, position)
        next_cursor = cursor_behind(ALL, found[limit - 1][0]) if len(found) > limit else None
        return SweepPage(readable_sweeps_of((now, found[:limit])), next_cursor)

    def cancel(self, sweep_id: str) -> Sweep:
        """Cancels the jobs that have not ended: at once those that wait, by their workers the others.

        Raises:
            SweepNotFound: there is none.
        """
        reasons = (CANCELLED.model_dump_json(), CANCEL_REQUESTED.model_dump_json())
        for exists, _ in self._in_turn("sweep_cancel", sweep_id, *reasons):
            if not exists:
                raise SweepNotFound(sweep_id)
        return self.get(sweep_id)

    def retry(self, sweep_id: str) -> Changed:
        """Has the jobs that failed or were cancelled wait again, with all their attempts; the others stay as they are.

        Raises:
            SweepNotFound: there is none.
            SweepNotAllowed: it is being deleted.
        """
        calls: list[Call] = []
        for allowed, _, called in self._in_turn("sweep_retry", sweep_id):
            if not allowed:
                raise SweepNotAllowed(self.get(sweep_id), DELETED)
            calls += _calls_in(called)
        return Changed(self.get(sweep_id), tuple(calls[:MOST_CALLS]))

    def extend(self, sweep_id: str, seeds: Sequence[int], most_jobs: int) -> Changed:
        """Gives each cell a job for each of some seeds, unless it has one already; those that were deleted it has not.

        Raises:
            SweepNotFound: there is none.
            SweepNotAllowed: it is being deleted.
            InvalidSweep: it would have more than `most_jobs`.
        """
        for _ in range(ATTEMPTS):
            sweep = self.get(sweep_id)
            further = [seed for seed in dict.fromkeys(seeds) if seed not in set(sweep.seeds)]
            (made,) = self._keyspace.ask(("HGET", self._keyspace.key(f"sweep:{sweep_id}"), "made"))
            deleted = self._deleted(sweep, set(seeds) & set(sweep.seeds))
            if not further and not deleted:
                return Changed(sweep)
            _check_size(sweep, len(further), sum(map(len, deleted.values())), most_jobs)
            texts = (json.dumps([*sweep.seeds, *further]), json.dumps(further), json.dumps(deleted))
            fence = (random_part_of_id(), json.dumps(sweep.seeds), made or "")
            allowed, calls = self._keyspace.run_to_disk("sweep_extend", sweep_id, *fence, *texts)
            if allowed:
                return Changed(self.get(sweep_id), _calls_in(calls))
        raise SweepNotAllowed(sweep, DELETED)

    def add_cells(
        self, sweep_id: str, expected_cells: int, cells: Sequence[Cell], axes: Sequence[Axis] | None = None
    ) -> Changed | None:
        """Adds cells with all seeds to a sweep that is open; None if it has ended, or has other cells than expected.

        Args:
            sweep_id: the sweep.
            expected_cells: how many it has; of those who add at the same time, one does.
            cells: the further ones.
            axes: those of all cells from then on, where they have values that there were not before.
        """
        fence = (random_part_of_id(), expected_cells)
        known = "" if axes is None else axes_text(axes)
        allowed, calls = self._keyspace.run_to_disk("sweep_add", sweep_id, *fence, known, *texts_of(cells))
        return Changed(self.get(sweep_id), _calls_in(calls)) if allowed else None

    def close(self, sweep_id: str) -> None:
        """Adds no further cells to an open sweep: it has ended when all of its jobs have."""
        self._keyspace.run("sweep_close", sweep_id)

    def condemn(self, sweep_id: str) -> None:
        """Has a sweep whose jobs have all ended stay so, as it must once they are being removed.

        Raises:
            SweepNotFound: there is none.
            SweepNotAllowed: one of its jobs has not ended.
        """
        allowed, shown = self._keyspace.run("sweep_condemn", sweep_id)
        if not shown[1]:
            raise SweepNotFound(sweep_id)
        if not allowed:
            raise SweepNotAllowed(sweeps_of(shown)[0], "deleted before all of its jobs have ended; cancel it first")

    def doomed(self, sweep_id: str) -> Iterator[Doomed]:
        """Its jobs that have ended, a few at a time; nobody can bring them back from there on."""
        for (started, idle), _ in self._in_turn("sweep_doomed", sweep_id):
            yield Doomed(tuple(started), tuple(idle))

    def forget(self, sweep_id: str, jobs: Sequence[str]) -> None:
        """Removes all that the store knows of some of its jobs, which have ended; it goes with the last of them."""
        if jobs:
            self._keyspace.run("sweep_forget", sweep_id, *jobs)

    def jobs(self, sweep_id: str) -> Iterator[str]:
        """The ids of its jobs, cell by cell; none if there is no such sweep."""
        for ids, _ in self._in_turn("sweep_jobs", sweep_id):
            yield from ids

    def outcomes(self, sweep_id: str) -> tuple[Outcome, ...]:
        """What its jobs have come to, cell by cell.

        Raises:
            SweepNotFound: there is none.
        """
        found = [one for page, _ in self._in_turn("sweep_outcomes", sweep_id) for one in page]
        # Only then, for cells that are added meanwhile have jobs.
        (texts,) = self._keyspace.ask(("LRANGE", self._keyspace.key(f"sweep:{sweep_id}:coordinates"), 0, -1))
        if not texts:
            self.get(sweep_id)  # a search has no cells at first
            return ()
        coordinates = [json.loads(text) for text in texts]
        return tuple(outcome_of(coordinates, *one) for one in found)

    def _deleted(self, sweep: Sweep, seeds: Collection[int]) -> Mapping[int, Sequence[int]]:
        """Those of some seeds of a sweep whose job is gone, by the number of the cell."""
        if sweep.jobs >= sweep.cells * len(sweep.seeds):
            return {}
        there = {(outcome.cell, outcome.seed) for outcome in self.outcomes(sweep.id)}
        lacking = {cell: [seed for seed in sorted(seeds) if (cell, seed) not in there] for cell in range(sweep.cells)}
        return {cell: missing for cell, missing in lacking.items() if missing}

    def _in_turn(self, script: str, sweep_id: str, *arguments: Argument) -> Iterator[Any]:
        """The answers of a script that goes through the jobs of a sweep, whose second part says how far it is."""
        position: str | None = ""
        while position is not None:
            answer = self._keyspace.run(script, sweep_id, position, AT_A_TIME, *arguments)
            yield answer
            position = answer[1] or None


def _check_size(sweep: Sweep, further: int, deleted: int, most_jobs: int) -> None:
    jobs = sweep.jobs + sweep.cells * further + deleted
    if jobs > most_jobs:
        again = f" and {deleted} that were deleted" if deleted else ""
        message = (
            f"the sweep would have {jobs} jobs, {further} seeds more for each of {sweep.cells} cells{again}, but a "
            f"sweep may have {most_jobs}; name fewer seeds, or raise REINMAX_SWEEP_LIMIT of the API"
        )
        raise InvalidSweep([Flaw(("seeds",), message)])


def _calls_in(flat: Sequence[str]) -> tuple[Call, ...]:
    return tuple(Call(job, queue, int(priority)) for job, queue, priority in zip(*[iter(flat)] * 3, strict=True))
