"""Searches: which trials are added, and what is told of them; on the real server."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from tests.worker.search_trials import (
    LR,
    METRIC,
    carry_out,
    look,
    search_through,
    submitted,
    tried,
    waiting,
)
from tests.worker.test_process import wait_for
from worker import pursuit
from worker.pursuit import Pursuit
from worker.search_store import SearchStore
from worker.searches import LEFT_S, LOOK_EVERY_S, Searches
from worker.store import JobStore
from worker.sweep import SweepState
from worker.sweeps import SweepStore

BATCH = "task.batch"


def distance(coordinates: Mapping[str, JsonValue]) -> float:
    """How far the learning rate is from 0.01, in powers of ten."""
    lr = coordinates[LR]
    assert isinstance(lr, float)
    return abs(math.log10(lr) + 2)


def test_so_many_trials_are_under_way_at_a_time_until_all_are_done(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=5, parallel=2, seeds=2)
    assert sweeps.get(sweep_id).status is SweepState.QUEUED
    assert len(look(store)) == 4
    assert look(store) == []
    first, second = waiting(store, sweep_id)[:2], waiting(store, sweep_id)[2:]
    carry_out(store, first[:1], distance)
    assert look(store) == []  # a trial has ended once its last seed has
    carry_out(store, first[1:], distance)
    assert len(look(store)) == 2
    sweep = sweeps.get(sweep_id)
    assert sweep.status is SweepState.RUNNING and sweep.percent == 20
    assert sweep.search and (sweep.search.complete, sweep.search.running) == (1, 2)
    carry_out(store, second, distance)
    sweep = search_through(store, sweep_id, distance)
    assert sweep.status is SweepState.SUCCEEDED and sweep.finished_at
    assert sweep.search and (sweep.search.complete, sweep.search.running, sweep.search.note) == (5, 0, None)
    values = [distance(coordinates) for coordinates in tried(store, sweep_id)]
    best = sweep.search.best
    assert best and (best.cell, best.value) == (values.index(min(values)), pytest.approx(min(values)))
    assert dict(best.coordinates) == tried(store, sweep_id)[best.cell]
    assert sweep.axes[0].values == tuple(sorted(coordinates[LR] for coordinates in tried(store, sweep_id)))
    assert look(store) == [] and store.keyspace.client.exists("reinmax:searches") == 0


def test_trials_that_take_long_to_choose_are_added_a_few_a_look(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pursuit, "LONGEST_S", 0.0)
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=4, parallel=3)
    assert [len(look(store)) for _ in range(4)] == [1, 1, 1, 0]
    search = sweeps.get(sweep_id).search
    assert search and (search.running, search.note) == (3, None)
    assert search_through(store, sweep_id, distance).status is SweepState.SUCCEEDED


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 13), ("random", 4)])
def test_equal_searches_try_the_same(store: JobStore, sampler: str, trials: int) -> None:
    ids = [submitted(store, trials=trials, sampler=sampler, seed=seed) for seed in (1, 1, 2)]
    one, same, other = ([search_through(store, sweep_id, distance), tried(store, sweep_id)][1] for sweep_id in ids)
    assert one == same and len({coordinates[LR] for coordinates in one}) == trials
    assert not any(coordinates in one for coordinates in other)
    assert all(isinstance(lr := coordinates[LR], float) and 1e-4 <= lr <= 1 for coordinates in one)


def test_random_trials_do_not_depend_on_how_many_are_under_way(store: JobStore) -> None:
    ids = [submitted(store, sampler="random", parallel=parallel) for parallel in (1, 6)]
    for sweep_id in ids:
        search_through(store, sweep_id, distance)
    assert tried(store, ids[0]) == tried(store, ids[1])


def test_the_sampler_learns(store: JobStore) -> None:
    """Ten trials are random; of the others most lie nearer to the best value, and away from where runs diverge."""
    sweep_id = submitted(store, trials=30)
    sweep = search_through(store, sweep_id, lambda found: math.inf if distance(found) > 1.5 else distance(found))
    values = [distance(coordinates) for coordinates in tried(store, sweep_id)]
    assert sum(values[10:]) / 20 < 0.8 * sum(values[:10]) / 10
    assert sweep.search and sweep.search.failed == sum(value > 1.5 for value in values) > 0
    assert sweep.status is SweepState.SUCCEEDED


def test_two_workers_that_look_at_once_add_nothing_twice(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=20, parallel=3, seeds=2)
    for _ in range(3):
        sweep = sweeps.get(sweep_id)
        pursuits = [Pursuit(store, SearchStore(store.keyspace, name), sweep) for name in ("one", "two", "three")]
        with ThreadPoolExecutor(3) as workers:
            calls = list(workers.map(lambda pursuit: pursuit.advance(sweep), pursuits))  # noqa: B023
        assert [len(found) for found in sorted(calls, key=len)] == [0, 0, 6]
        carry_out(store, waiting(store, sweep_id), distance)
    assert sweeps.get(sweep_id).cells == 9


def test_a_search_is_looked_after_by_one_worker_until_that_is_gone(store: JobStore) -> None:
    sweep_id = submitted(store)
    look(store, "one")
    carry_out(store, waiting(store, sweep_id), distance)
    assert look(store, "two") == []
    store.keyspace.client.delete(f"reinmax:sweep:{sweep_id}:holder")  # as after its time
    assert len(look(store, "two")) == 1
    assert look(store, "one") == []


class Killed(BaseException):
    """The worker is gone at this point."""


def test_a_worker_that_is_lost_after_it_added_trials_leaves_a_search_that_goes_on(store: JobStore) -> None:
    def die(call: object) -> None:
        raise Killed

    sweep_id = submitted(store, trials=2)
    with pytest.raises(Killed):
        Searches(store, die, "lost").attend()
    store.keyspace.client.delete(f"reinmax:sweep:{sweep_id}:holder")
    assert look(store) == []  # nothing is added twice
    assert len(waiting(store, sweep_id)) == 1  # and the workers' sweep finds the job, as any for which nobody was woken
    assert search_through(store, sweep_id, distance).status is SweepState.SUCCEEDED
    assert len(tried(store, sweep_id)) == 2


def test_a_look_where_there_is_no_search_is_one_cheap_question(store: JobStore) -> None:
    client: Any = store.keyspace.client
    search_through(store, submitted(store, trials=1), distance)
    duty = Searches(store, lambda call: None, "worker-1")
    duty.attend()
    client.config_resetstat()
    assert duty.attend() == LOOK_EVERY_S
    calls = {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in client.info("commandstats").items()}
    assert {name: calls[name] for name in calls if name not in ("config|resetstat", "info", "time")} == {
        "evalsha": 1,
        "smembers": 1,
    }


def test_a_search_that_is_cancelled_adds_no_more_until_it_is_retried(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=3)
    look(store)
    carry_out(store, waiting(store, sweep_id), distance)
    look(store)
    assert sweeps.cancel(sweep_id).status is SweepState.CANCELLED
    assert look(store) == []
    sweep = sweeps.get(sweep_id)
    assert sweep.search and (sweep.search.complete, sweep.search.failed, sweep.search.running) == (1, 1, 0)
    assert len(sweeps.retry(sweep_id).calls) == 1
    sweep = search_through(store, sweep_id, distance)
    assert sweep.status is SweepState.SUCCEEDED and sweep.search and sweep.search.complete == 3


def test_a_search_without_any_trial_yet_can_be_cancelled_and_deleted(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store)
    assert sweeps.outcomes(sweep_id) == ()
    sweep = sweeps.cancel(sweep_id)
    assert sweep.status is SweepState.CANCELLED and sweep.finished_at
    assert look(store) == []
    sweeps.condemn(sweep_id)
    assert sweeps.list(10).sweeps == ()
    assert look(store) == []
    keys = {key.removeprefix("reinmax:") for key in store.keyspace.client.scan_iter()}
    assert keys <= {"changes", "disk"}


def test_a_search_whose_only_job_is_deleted_goes_on(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=3)
    look(store)
    (only,) = waiting(store, sweep_id)
    store.cancel(only.job_id)
    store.delete(only.job_id)
    sweep = sweeps.get(sweep_id)
    assert (sweep.status, sweep.cells, sweep.jobs) == (SweepState.QUEUED, 1, 0)
    sweep = search_through(store, sweep_id, distance)
    assert sweep.search and (sweep.status, sweep.search.complete, sweep.jobs) == (SweepState.SUCCEEDED, 2, 2)
    for job_id in list(sweeps.jobs(sweep_id)):
        store.delete(job_id)
    assert sweeps.list(10).sweeps == ()


def test_a_search_whose_trials_are_all_deleted_before_its_end_can_be_deleted(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=1)
    look(store)
    (only,) = waiting(store, sweep_id)
    store.cancel(only.job_id)
    store.delete(only.job_id)
    look(store)
    sweep = sweeps.get(sweep_id)
    assert sweep.status is SweepState.FAILED and sweep.finished_at
    sweeps.condemn(sweep_id)
    assert sweeps.list(10).sweeps == ()


def test_further_seeds_count_for_the_best(store: JobStore) -> None:
    sweeps, sweep_id = SweepStore(store), submitted(store, trials=2)
    values = iter([0.2, 0.3])
    assert search_through(store, sweep_id, lambda _: next(values)).search.best.cell == 0  # type: ignore[union-attr]
    sweeps.extend(sweep_id, [1], 100)
    assert sweeps.get(sweep_id).status is SweepState.RUNNING
    values = iter([0.9, 0.3])
    sweep = search_through(store, sweep_id, lambda _: next(values))
    assert sweep.status is SweepState.SUCCEEDED
    assert sweep.search and sweep.search.best and (sweep.search.best.cell, sweep.search.best.value) == (1, 0.3)


def test_a_search_for_a_metric_that_runs_do_not_have_ends_with_those_that_they_have(store: JobStore) -> None:
    sweep = search_through(store, submitted(store, metric="expected_los"), distance)
    assert sweep.status is SweepState.FAILED and sweep.cells == 1
    assert sweep.search and sweep.search.note and sweep.search.note.code == "no_such_metric"
    assert (
        f"have no metric 'expected_los'; those that they have are: {METRIC}, wall_time_s" in sweep.search.note.message
    )


def test_a_search_of_which_no_trial_succeeds_has_failed(store: JobStore) -> None:
    sweep = search_through(store, submitted(store, trials=3), lambda _: math.inf)
    assert sweep.status is SweepState.FAILED
    assert sweep.search and (sweep.search.failed, sweep.search.best) == (3, None)


def test_larger_is_better_where_that_is_asked_for(store: JobStore) -> None:
    sweep_id = submitted(store, trials=20, direction="max", sampler="tpe")
    sweep = search_through(store, sweep_id, distance)
    values = [distance(coordinates) for coordinates in tried(store, sweep_id)]
    assert sweep.search and sweep.search.best and sweep.search.best.value == pytest.approx(max(values))
    assert sum(values[10:]) > sum(values[:10])


def test_fields_of_all_kinds(store: JobStore) -> None:
    relaxed = {"name": "gumbel_softmax", "tau": 0.7}
    fields = {
        "estimator": {"choices": ["reinforce", relaxed]},
        "estimator.tau": {"low": 0.25, "high": 0.75},
        BATCH: {"low": 8, "high": 64, "scale": "log"},
        "optimizer.clip_norm": {"choices": [None, 1.0]},
        "steps": {"low": 50, "high": 60},
    }
    sweep_id = submitted(store, trials=16, fields=fields)
    search_through(store, sweep_id, lambda found: float(str(found[BATCH])))
    found = tried(store, sweep_id)
    assert {str(coordinates["estimator"]) for coordinates in found} == {"reinforce", str(relaxed)}
    assert all(
        (coordinates["estimator.tau"] is None) == (coordinates["estimator"] == "reinforce") for coordinates in found
    )
    assert {type(coordinates[name]) for coordinates in found for name in (BATCH, "steps")} == {int}
    assert all(8 <= int(str(coordinates[BATCH])) <= 64 for coordinates in found)
    assert {coordinates["optimizer.clip_norm"] for coordinates in found} == {None, 1.0}
    for outcome in SweepStore(store).outcomes(sweep_id):
        spec = store.get(outcome.job_id).spec
        assert spec.steps == outcome.coordinates["steps"]
        if outcome.coordinates["estimator"] == relaxed:
            assert spec.estimator.model_dump()["tau"] == outcome.coordinates["estimator.tau"]


def test_nothing_is_tried_twice_and_what_makes_no_job_is_passed_over(store: JobStore) -> None:
    """Of three by three values all are tried; batches that are smaller than what an estimator takes make no job."""
    fields = {"task.latents": {"choices": [8, 16, 24]}, BATCH: {"low": 8, "high": 10}}
    sweep_id = submitted(store, trials=9, fields=fields)
    assert search_through(store, sweep_id, lambda _: 1.0).status is SweepState.SUCCEEDED
    assert len({str(coordinates) for coordinates in tried(store, sweep_id)}) == 9


def test_without_optuna_a_worker_says_so_and_leaves_the_search_to_others(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id = submitted(store)
    with monkeypatch.context() as patches:
        patches.setitem(sys.modules, "optuna", None)
        patches.delitem(sys.modules, "worker.sampling", raising=False)
        assert Searches(store, lambda call: None, "bare").attend() == LEFT_S
    sweep = SweepStore(store).get(sweep_id)
    assert sweep.search and sweep.search.note and sweep.search.note.code == "no_sampler"
    assert "worker bare" in sweep.search.note.message and "pip install" in sweep.search.note.message
    assert store.keyspace.client.pttl(f"reinmax:sweep:{sweep_id}:holder") < 1000 * LEFT_S / 2
    store.keyspace.client.delete(f"reinmax:sweep:{sweep_id}:holder")
    assert len(look(store, "another")) == 1
    sweep = SweepStore(store).get(sweep_id)
    assert sweep.search and sweep.search.note is None


@pytest.mark.slow
def test_a_real_worker_finds_a_better_learning_rate_than_the_worst(
    store: JobStore, redis_database: str, tmp_path: Path
) -> None:
    fields = {LR: {"low": 1e-6, "high": 0.3, "scale": "log"}}
    sweep_id = submitted(store, trials=6, parallel=3, seeds=2, fields=fields, early_stopping={"finished": 3})
    settings = {"REINMAX_REDIS_URL": redis_database, "REINMAX_STATE_DIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "worker", "--device", "cpu"], env=os.environ | settings) as process:
        try:
            wait_for(lambda: SweepStore(store).get(sweep_id).finished_at, patience_s=100)
        finally:
            process.terminate()
    sweep = SweepStore(store).get(sweep_id)
    assert sweep.status is SweepState.SUCCEEDED
    assert sweep.search and sweep.search.best and sweep.search.failed == 0
    ends = [outcome.values[METRIC] for outcome in SweepStore(store).outcomes(sweep_id) if METRIC in outcome.values]
    assert sweep.search.best.value < max(ends)
    assert float(str(sweep.search.best.coordinates[LR])) > 1e-3
