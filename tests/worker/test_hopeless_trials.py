"""Trials of a search that are given up as hopeless, on the real server: by which curves, and which go on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.worker.samples import ENVIRONMENT, progress
from tests.worker.search_trials import (
    METRIC,
    begin,
    end,
    go_on,
    look,
    search_through,
    submitted,
    waiting,
)
from tests.worker.states import claimed
from worker.attempt import Order
from worker.curves import Curves
from worker.jobs import State
from worker.refusal import NotAllowed
from worker.searches import Searches
from worker.store import JobStore
from worker.sweep import SweepState
from worker.sweeps import SweepStore


def finished(store: JobStore, sweep_id: str, curve: Mapping[int, float]) -> None:
    """Looks, and carries out what is added then."""
    look(store)
    for outcome in waiting(store, sweep_id):
        end(begin(store, outcome, curve), curve[max(curve)])


GOOD, BAD = {30: 0.5, 60: 0.4, 100: 0.3}, {30: 0.9}


def test_a_hopeless_trial_is_cancelled_and_says_so(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=7, seeds=2, early_stopping=True)
    for _ in range(5):
        finished(store, sweep_id, GOOD)
    look(store)
    running, queued = waiting(store, sweep_id)
    attempt = begin(store, running, {10: 0.95})
    look(store)
    assert attempt.beat(60) is Order.CONTINUE  # before a fifth of its steps it is not judged
    go_on(attempt, BAD)
    look(store)
    assert attempt.beat(60) is Order.CANCEL
    with pytest.raises(NotAllowed, match=r"running \(to be cancelled\) and cannot be paused"):
        store.pause(running.job_id)
    job = store.get(queued.job_id)
    assert job.status is State.CANCELLED and job.status_reason and job.status_reason.code == "pruned"
    attempt.stop()
    job = store.get(running.job_id)
    assert job.status is State.CANCELLED and job.status_reason and job.status_reason.code == "pruned"
    sweep = search_through(store, sweep_id, lambda _: 0.35)
    assert sweep.search and (sweep.search.complete, sweep.search.pruned, sweep.search.failed) == (6, 1, 0)
    assert sweep.status is SweepState.SUCCEEDED and sweep.search.best and sweep.search.best.value == 0.3
    sweeps.retry(sweep_id)
    assert store.get(running.job_id).status is State.CANCELLED
    assert sweeps.get(sweep_id).status is SweepState.SUCCEEDED


def test_seeds_are_compared_with_the_same_seeds(store: JobStore) -> None:
    """Seed 1 is harder than seed 0: a trial of which only that one has begun is not worse for it."""
    sweep_id = submitted(store, trials=7, seeds=2, early_stopping=True)
    for _ in range(5):
        look(store)
        easy, hard = waiting(store, sweep_id)
        end(begin(store, easy, {30: 0.1, 100: 0.1}), 0.1)
        end(begin(store, hard, {30: 0.7, 100: 0.7}), 0.7)
    look(store)
    easy, hard = waiting(store, sweep_id)
    attempt = begin(store, hard, {30: 0.65})
    look(store)
    assert attempt.beat(60) is Order.CONTINUE
    attempt = begin(store, easy, {30: 0.5})
    look(store)
    assert attempt.beat(60) is Order.CANCEL


@pytest.mark.parametrize(
    ("early_stopping", "trials_before", "curve"),
    [
        (False, 5, BAD),
        (True, 4, BAD),
        (True, 5, {30: 0.45}),
        (True, 5, {30: 0.5}),
        ({"warm_up": 0.4}, 5, BAD),
        ({"percentile": 99, "finished": 2}, 5, {30: 0.5}),
        (True, 5, {35: 0.9}),
    ],
)
def test_a_trial_goes_on_that_is_as_good_as_most_or_cannot_be_judged_yet(
    store: JobStore, early_stopping: bool | dict[str, float], trials_before: int, curve: dict[int, float]
) -> None:
    sweep_id = submitted(store, trials=7, early_stopping=early_stopping)
    for _ in range(trials_before):
        finished(store, sweep_id, GOOD)
    look(store)
    (running,) = waiting(store, sweep_id)
    attempt = begin(store, running, curve)
    look(store)
    assert attempt.beat(60) is Order.CONTINUE


def test_the_curve_of_a_trial_whose_worker_was_lost_is_that_of_what_counts(store: JobStore) -> None:
    """Points that were taken back are not judged."""
    sweep_id = submitted(store, trials=7, early_stopping=True)
    for _ in range(5):
        finished(store, sweep_id, GOOD)
    duty = Searches(store, lambda call: None, "worker-1")
    duty.attend()
    (running,) = waiting(store, sweep_id)
    attempt = begin(store, running, {10: 0.5, 20: 0.45})
    duty.attend()
    store.keyspace.client.zadd("reinmax:leases", {running.job_id: 0})
    store.reap()
    claimed(store, running.job_id).start(*_beginning())
    second = store.attempt(running.job_id, 2)
    go_on(second, {30: 0.6})
    duty.attend()
    assert second.beat(60) is Order.CANCEL  # the best so far is 0.6, not 0.45
    assert attempt.beat(60) is Order.FENCED


def test_curves_are_read_for_a_while_and_then_further(store: JobStore) -> None:
    sweep_id = submitted(store, trials=1)
    look(store)
    (outcome,) = waiting(store, sweep_id)
    begin(store, outcome, GOOD)
    curves = Curves(store, f"train_{METRIC}")
    assert not curves.read_on([outcome], until=time.monotonic() - 1)
    assert not curves.has_begun(outcome)
    assert curves.read_on([outcome], until=time.monotonic() + 60)
    assert curves.mean([outcome]) == GOOD  # the mean over the last epoch has no curve of its own before the end


def _beginning() -> tuple[Any, ...]:
    return progress(0), {}, ENVIRONMENT
