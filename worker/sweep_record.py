"""How a sweep is written down in the store, and read back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from worker import record
from worker.jobs import TERMINAL, State
from worker.refusal import SweepUnreadable
from worker.search import SearchProgress
from worker.sweep import ENDED, Axis, Sweep, SweepState
from worker.sweep_grid import Cell
from worker.sweep_outcome import Outcome
from worker.sweep_plan import Plan

FORMAT: Final = 1
"""The format in which sweeps are written; `worker/scripts/sweep.lua` has it, too."""
WAITING: Final = frozenset({State.QUEUED, State.PAUSED})
CANCELLED: Final = "cancelled"
"""What a record has as `closed` where somebody cancelled the sweep."""

logger = logging.getLogger(__name__)


def fields_of(plan: Plan) -> dict[str, str]:
    """What the record has of a sweep from the beginning."""
    request = plan.request
    given = {"name": request.name, "preset": request.preset, "closed": None if plan.is_open else "1"}
    return {name: text for name, text in given.items() if text is not None} | {
        "labels": json.dumps(request.labels),
        "request": json.dumps(request.written),
        "axes": axes_text(plan.axes),
        "select": plan.select.model_dump_json() if plan.select else "",
        **({"search": plan.search.model_dump_json()} if plan.search else {}),
        "seeds": json.dumps(plan.seeds),
    }


def axes_text(axes: Sequence[Axis]) -> str:
    """What the record has of the axes of a sweep."""
    return json.dumps([axis.model_dump(mode="json") for axis in axes])


def texts_of(cells: Sequence[Cell]) -> Iterator[str]:
    """Coordinates and what the scripts need to know of the jobs, of one cell after the other."""
    for cell in cells:
        submission = cell.submission
        yield json.dumps(cell.coordinates)
        yield json.dumps(
            {
                "request": cell.request,
                "fields": json.dumps(record.fields_of(submission)),
                "indexes": record.indexes(submission, submission.labels),
            }
        )


def sweeps_of(shown: Sequence[Any]) -> tuple[Sweep, ...]:
    """The sweeps that a script shows.

    Raises:
        SweepUnreadable: a version wrote one that is too new, or something in it is missing or does not fit.
    """
    now, found = shown
    return tuple(sweep_of(now, *one) for one in found)


def readable_sweeps_of(shown: Sequence[Any]) -> tuple[Sweep, ...]:
    """The sweeps that a script shows, without those that cannot be read."""
    now, found = shown
    sweeps = []
    for one in found:
        try:
            sweeps.append(sweep_of(now, *one))
        except SweepUnreadable as unreadable:
            logger.warning("%s", unreadable)
    return tuple(sweeps)


def outcome_of(
    coordinates: Sequence[Mapping[str, JsonValue]],
    job_id: str,
    cell: str,
    seed: str,
    status: str,
    result: str,
    metrics: str,
    progress: str,
    reason: str,
) -> Outcome:
    """What a job has come to, by the texts of its record, empty where there is nothing yet."""
    state = State(status)
    return Outcome(
        job_id=job_id,
        cell=int(cell),
        coordinates=coordinates[int(cell)],
        seed=int(seed),
        status=state,
        values=_values_of(result) if result else _numbers(json.loads(metrics or "{}")),
        progress=100.0 if state is State.SUCCEEDED else float(json.loads(progress or "{}").get("percent", 0.0)),
        reason=json.loads(reason)["code"] if reason else None,
    )


def _values_of(result: str) -> dict[str, float]:
    """The metrics of a result, and its other numbers."""
    parts = json.loads(result)
    spent = {name: value for name, value in parts.items() if isinstance(value, int | float)}
    return _numbers(parts["metrics"]) | spent


def _numbers(values: Mapping[str, float | str]) -> dict[str, float]:
    # What is not finite is written as a word.
    return {name: float(value) for name, value in values.items()}


def sweep_of(now: int, sweep_id: str, fields: Sequence[str], cells: int, counts: Sequence[str], part: str) -> Sweep:
    """The sweep of a record.

    Args:
        now: milliseconds by the server's clock.
        sweep_id: the sweep.
        fields: names and texts of the record, in turn.
        cells: how many there are.
        counts: states and how many jobs are in each, in turn.
        part: percent done of the jobs that run, summed up.

    Raises:
        SweepUnreadable: as for `sweeps_of`.
    """
    try:
        return _sweep_of(now, sweep_id, _by_name(fields), cells, _by_name(counts), float(part))
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        raise SweepUnreadable(sweep_id, error) from error


def _sweep_of(
    now: int, sweep_id: str, fields: Mapping[str, str], cells: int, counts: Mapping[str, str], part: float
) -> Sweep:
    if not 1 <= int(fields["format"]) <= FORMAT:
        found = fields["format"]
        raise ValueError(f"it has format {found}, but this version of the service reads formats up to {FORMAT}")
    by_state = {State(state): int(count) for state, count in counts.items() if int(count) > 0}
    jobs, ended = sum(by_state.values()), sum(by_state.get(state, 0) for state in TERMINAL)
    search = SearchProgress.model_validate_json(fields["search"]) if "search" in fields else None
    closed = fields.get("closed")
    status = status_of_search(by_state, closed, search) if search else status_of(by_state, is_open=closed is None)
    done, expected = ended + part / 100, _expected(jobs, json.loads(fields["seeds"]), search)
    return Sweep(
        id=sweep_id,
        name=fields.get("name"),
        labels=json.loads(fields["labels"]),
        preset=fields.get("preset"),
        status=status,
        cells=cells,
        seeds=json.loads(fields["seeds"]),
        jobs=jobs,
        counts=by_state,
        percent=round(100 * done / expected, 2) if expected else 0.0,
        eta_s=None if status in ENDED else _seconds_left(now, fields, done, expected),
        axes=json.loads(fields["axes"]),
        select=json.loads(fields["select"]) if fields["select"] else None,
        search=search,
        request=json.loads(fields["request"]),
        created_at=_time(fields["created"]),
        finished_at=_time(fields["finished"]) if status in ENDED else None,
        version=int(fields["version"]),
    )


def status_of(counts: Mapping[State, int], *, is_open: bool) -> SweepState:
    """Where a sweep stands whose jobs are in these states; an open one may still get further cells."""
    present = {state for state, count in counts.items() if count}
    if present <= WAITING:
        return SweepState.QUEUED
    if is_open or not present <= TERMINAL:
        return SweepState.RUNNING
    worst = (State.FAILED, State.CANCELLED, State.SUCCEEDED)
    return SweepState(next(state for state in worst if state in present).value)


def status_of_search(counts: Mapping[State, int], closed: str | None, search: SearchProgress) -> SweepState:
    """Where a search stands; that trials fail, or are hopeless, is part of it. `closed`: as its record has it."""
    status = status_of(counts, is_open=closed is None)
    if closed is None or (status not in ENDED and counts):
        return status
    if closed == CANCELLED:
        return SweepState.CANCELLED
    return SweepState.SUCCEEDED if search.complete else SweepState.FAILED


def _expected(jobs: int, seeds: Sequence[int], search: SearchProgress | None) -> int:
    """How many jobs there will be, as far as is known."""
    return max(jobs, search.trials * len(seeds)) if search else jobs


def _seconds_left(now: int, fields: Mapping[str, str], done: float, jobs: int) -> float | None:
    """At the pace since the first of the jobs was started, or since further ones were added or retried."""
    since_then = done - int(fields["ended_before"])
    if "began" not in fields or since_then <= 0:
        return None
    return round((now - int(fields["began"])) / 1000 / since_then * (jobs - done), 1)


def _by_name(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
