"""Sweeps in the store that are cancelled, retried and extended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.worker.planned import ids, plan
from tests.worker.states import bring, started
from worker.jobs import State
from worker.refusal import SweepNotFound
from worker.store import JobStore
from worker.sweep import SweepState
from worker.sweep_grid import InvalidSweep
from worker.sweep_plan import Plan
from worker.sweeps import AT_A_TIME, MOST_CALLS, SweepStore


class TestChange:
    def test_cancelling_ends_what_has_not_ended(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan()).sweep
        first, second, third, *_ = ids(sweeps, sweep)
        bring(store, first, State.SUCCEEDED)
        attempt = started(store, second)
        store.pause(third)
        found = sweeps.cancel(sweep.id)
        assert found.counts == {State.SUCCEEDED: 1, State.RUNNING: 1, State.CANCELLED: 4}
        attempt.stop()
        assert sweeps.cancel(sweep.id).status is SweepState.CANCELLED
        assert store.keyspace.client.zcard("reinmax:queued:any") == 0

    def test_retrying_sets_going_what_failed_or_was_cancelled(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan()).sweep
        first, second, *others = ids(sweeps, sweep)
        bring(store, first, State.SUCCEEDED)
        bring(store, second, State.FAILED)
        sweeps.cancel(sweep.id)
        changed = sweeps.retry(sweep.id)
        assert changed.sweep.counts == {State.SUCCEEDED: 1, State.QUEUED: 5}
        assert (changed.sweep.status, changed.sweep.finished_at) == (SweepState.RUNNING, None)
        assert [call.id for call in changed.calls] == [second, *others]
        assert sweeps.retry(sweep.id).calls == ()

    def test_many_jobs_are_changed_in_turns(self, store: JobStore, sweeps: SweepStore) -> None:
        jobs = 2 * AT_A_TIME + 1
        sweep = sweeps.submit(plan(grid={}, seeds=jobs)).sweep
        assert sweeps.cancel(sweep.id).counts == {State.CANCELLED: jobs}
        changed = sweeps.retry(sweep.id)
        assert changed.sweep.counts == {State.QUEUED: jobs}
        assert len(changed.calls) == MOST_CALLS
        assert len(sweeps.outcomes(sweep.id)) == len(ids(sweeps, sweep)) == jobs

    def test_extending_adds_the_seeds_that_are_not_there(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan()).sweep
        changed = sweeps.extend(sweep.id, [1, 5, 2**53 - 1], 100)
        assert (changed.sweep.seeds, changed.sweep.jobs) == ((0, 1, 5, 2**53 - 1), 12)
        added = ids(sweeps, sweep)[6:]
        assert [call.id for call in changed.calls] == added
        found = [(job.cell, job.spec.seed) for job in map(store.get, added)]
        assert found == [(cell, seed) for cell in range(3) for seed in (5, 2**53 - 1)]
        again = sweeps.extend(sweep.id, [0, 5], 100)
        assert (again.sweep, again.calls) == (changed.sweep, ())
        with pytest.raises(InvalidSweep) as refusal:
            sweeps.extend(sweep.id, range(40), 100)
        assert "the sweep would have 123 jobs, 37 seeds more for each of 3 cells" in refusal.value.flaws[0].message
        assert refusal.value.flaws[0].place == ("seeds",)

    def test_a_seed_that_is_named_twice_is_added_once(self, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(seeds=1)).sweep
        extended = sweeps.extend(sweep.id, [5, 5, 6, 0], 100).sweep
        assert (extended.seeds, extended.jobs) == ((0, 5, 6), 9)

    def test_extending_makes_deleted_jobs_again(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan()).sweep
        (first, second, _, fourth, *_) = ids(sweeps, sweep)
        for job_id in (first, second, fourth):
            store.cancel(job_id)
            store.delete(job_id)
        changed = sweeps.extend(sweep.id, [1, 5], 8)
        assert (changed.sweep.seeds, changed.sweep.jobs) == ((0, 1, 5), 8)
        added = [(job.cell, job.spec.seed) for job in (store.get(call.id) for call in changed.calls)]
        assert added == [(0, 1), (0, 5), (1, 1), (1, 5), (2, 5)]
        with pytest.raises(InvalidSweep) as refusal:
            sweeps.extend(sweep.id, range(2), 8)
        assert "would have 9 jobs, 0 seeds more for each of 3 cells and 1 that were deleted" in str(
            refusal.value.flaws[0].message
        )
        assert sweeps.extend(sweep.id, range(2), 9).sweep.counts == {State.QUEUED: 9}
        assert sweeps.extend(sweep.id, range(2), 9).calls == ()
        jobs = [(outcome.cell, outcome.seed) for outcome in sweeps.outcomes(sweep.id)]
        assert sorted(jobs) == [(cell, seed) for cell in range(3) for seed in (0, 1, 5)]

    def test_deleted_jobs_are_made_again_by_one_of_those_who_ask(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(seeds=3)).sweep
        (first, *_) = ids(sweeps, sweep)
        store.cancel(first)
        store.delete(first)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: sweeps.extend(sweep.id, range(3), 99), range(4)))
        assert sorted(len(changed.calls) for changed in found) == [0, 0, 0, 1]
        assert sweeps.get(sweep.id).jobs == 9

    def test_cells_are_added_to_an_open_one_by_one_of_those_who_know_it(self, sweeps: SweepStore) -> None:
        closed = sweeps.submit(plan()).sweep
        assert sweeps.add_cells(closed.id, 3, plan().cells) is None
        made = plan()
        search = Plan(made.request, made.axes, made.cells[:1], made.seeds, None, is_open=True)
        sweep = sweeps.submit(search).sweep
        assert sweeps.add_cells(sweep.id, 2, made.cells[1:2]) is None
        added = sweeps.add_cells(sweep.id, 1, made.cells[1:2])
        assert added is not None and len(added.calls) == 2
        assert sweeps.add_cells(sweep.id, 1, made.cells[1:2]) is None
        assert [(outcome.cell, outcome.coordinates["tau"]) for outcome in sweeps.outcomes(sweep.id)[::2]] == [
            (0, 1.0),
            (1, 1.5),
        ]

    def test_cells_may_be_added_while_outcomes_are_read(self, sweeps: SweepStore) -> None:
        made = plan(grid={"tau": [1 + number / 1000 for number in range(200)]}, seeds=1)
        sweep = sweeps.submit(Plan(made.request, made.axes, made.cells[:1], made.seeds, None, is_open=True)).sweep

        def add() -> None:
            for number in range(1, 200):
                assert sweeps.add_cells(sweep.id, number, made.cells[number : number + 1])

        with ThreadPoolExecutor(1) as threads:
            adding = threads.submit(add)
            while not adding.done():
                found = sweeps.outcomes(sweep.id)
                assert [outcome.cell for outcome in found] == list(range(len(found)))
            adding.result()
        assert len(sweeps.outcomes(sweep.id)) == 200

    def test_an_open_one_has_not_ended_before_it_is_closed(self, store: JobStore, sweeps: SweepStore) -> None:
        made = plan(grid={}, seeds=1)
        sweep = sweeps.submit(Plan(made.request, made.axes, made.cells, made.seeds, None, is_open=True)).sweep
        bring(store, ids(sweeps, sweep)[0], State.SUCCEEDED)
        assert sweeps.get(sweep.id).status is SweepState.RUNNING
        sweeps.close(sweep.id)
        assert sweeps.get(sweep.id).status is SweepState.SUCCEEDED

    def test_an_unknown_one_is_not_found(self, store: JobStore, sweeps: SweepStore) -> None:
        for ask in (sweeps.get, sweeps.cancel, sweeps.retry, sweeps.condemn, sweeps.outcomes):
            with pytest.raises(SweepNotFound, match="sweep_unknown"):
                ask("sweep_unknown")
        with pytest.raises(SweepNotFound):
            sweeps.extend("sweep_unknown", [1], 9)
        assert ids(sweeps, sweeps.submit(plan()).sweep)
        assert list(sweeps.jobs("sweep_unknown")) == []
