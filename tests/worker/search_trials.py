"""Searches as tests put them into a store, and trials as workers carry them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import JsonValue

from reinmax_core.run import Result
from tests.worker.samples import ENVIRONMENT, progress, worker
from worker.attempt import Attempt
from worker.jobs import TERMINAL, Failure, State
from worker.searches import Searches
from worker.series import Series
from worker.store import JobStore
from worker.submission import Cause
from worker.sweep import Sweep
from worker.sweep_outcome import Outcome
from worker.sweep_request import SweepRequest
from worker.sweeps import SweepStore

METRIC: Final = "expected_loss"
LR: Final = "optimizer.lr"
BASE: Final = {"task": "polynomial", "estimator": "reinmax", "steps": 100}
LOSS_IS_NAN: Final = Failure(type="Diverged", message="the loss is nan")

Objective = Callable[[Mapping[str, JsonValue]], float]


def request(**search: Any) -> SweepRequest:
    """For a learning rate, unless other fields are given; with one seed, unless there are `seeds`."""
    seeds = search.pop("seeds", 1)
    fields = {LR: {"low": 1e-4, "high": 1.0, "scale": "log"}}
    known = {"trials": 6, "parallel": 1, "early_stopping": False, "fields": fields}
    return SweepRequest.model_validate({"base": BASE, "seeds": seeds, "search": known | search})


def submitted(store: JobStore, **search: Any) -> str:
    return SweepStore(store).submit(request(**search).plan()).sweep.id


def look(store: JobStore, worker_name: str = "worker-1") -> list[str]:
    """Looks after all searches once, as a worker does. Returns the jobs for which it woke others."""
    woken: list[str] = []
    Searches(store, lambda call: woken.append(call.id), worker_name).attend()
    return woken


def waiting(store: JobStore, sweep_id: str) -> list[Outcome]:
    return [outcome for outcome in SweepStore(store).outcomes(sweep_id) if outcome.status is State.QUEUED]


def begin(store: JobStore, outcome: Outcome, curve: Mapping[int, float] | None = None) -> Attempt:
    """Starts a job, which tells of the metric at some steps."""
    claim = store.claim(outcome.job_id, worker(), 60)
    assert claim is not None
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    if curve:
        go_on(claim.attempt, curve)
    return claim.attempt


def go_on(attempt: Attempt, curve: Mapping[int, float]) -> None:
    last = max(curve)
    attempt.report({METRIC: Series(list(curve), list(curve.values()))}, progress(last), {METRIC: curve[last]})


def end(attempt: Attempt, value: float, metric: str = METRIC) -> None:
    attempt.succeed(Result(metrics={metric: value}, best=None, wall_time_s=1.0), (), progress(100))


def carry_out(store: JobStore, outcomes: Iterable[Outcome], objective: Objective) -> None:
    """Brings jobs to their end, with a value that depends on their coordinates; they diverge where it is not finite."""
    for outcome in outcomes:
        value = objective(outcome.coordinates)
        attempt = begin(store, outcome)
        if value == float("inf"):
            attempt.fail(Cause.DIVERGED, LOSS_IS_NAN)
        else:
            end(attempt, value)


def search_through(store: JobStore, sweep_id: str, objective: Objective) -> Sweep:
    """Carries out one trial after the other until the search is over."""
    for _ in range(200):
        look(store)
        if SweepStore(store).get(sweep_id).status.value in TERMINAL:
            return SweepStore(store).get(sweep_id)
        carry_out(store, waiting(store, sweep_id), objective)
    raise AssertionError("the search does not end")


def tried(store: JobStore, sweep_id: str) -> list[dict[str, JsonValue]]:
    """The coordinates of its cells, in order."""
    cells = {outcome.cell: dict(outcome.coordinates) for outcome in SweepStore(store).outcomes(sweep_id)}
    return [cells[cell] for cell in sorted(cells)]
