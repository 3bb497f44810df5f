"""Sweeps in the store: all or nothing, counted, listed, and gone with their last job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.worker.planned import BASE, TAUS, ids, plan
from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from tests.worker.states import CRASH, RESULT, bring, claimed, everything, started
from worker.artifacts import ArtifactStore
from worker.jobs import State
from worker.listing import BadCursor, Filters
from worker.refusal import IdempotencyMismatch, NotAllowed, SweepNotAllowed, SweepNotFound, SweepUnreadable
from worker.retention import remove_sweep
from worker.store import JobStore
from worker.submission import Cause
from worker.sweep import SweepState
from worker.sweep_estimate import estimate
from worker.sweep_request import SweepRequest
from worker.sweeps import AT_A_TIME, MOST_CALLS, SweepStore

LEFT = {"reinmax:changes", "reinmax:disk"}


class TestSubmit:
    def test_every_cell_has_a_job_a_seed_in_order(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(seeds=[7, 2**53 - 1], name="mine", labels={"by": "me"})).sweep
        jobs = [store.get(job_id) for job_id in sweeps.jobs(sweep.id)]
        found = [(job.cell, job.spec.estimator.model_dump()["tau"], job.spec.seed) for job in jobs]
        assert found == [(cell, tau, seed) for cell, tau in enumerate(TAUS["tau"]) for seed in (7, 2**53 - 1)]
        assert {(job.sweep, job.status, job.queue) for job in jobs} == {(sweep.id, State.QUEUED, "any")}
        assert [job.queue_position for job in jobs] == [1, 2, 3, 4, 5, 6]
        assert all(job.labels == {"study": "a", "by": "me"} for job in jobs)
        assert all(UUID(job.id.removeprefix("job_")).version == 7 for job in jobs)

    def test_a_job_of_a_sweep_is_like_one_that_is_submitted_alone(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(grid={}, seeds=1)).sweep
        (job_id,) = sweeps.jobs(sweep.id)
        alone = store.submit(submission(**BASE)).job
        of_sweep = store.get(job_id)
        own = {"id": alone.id, "created_at": alone.created_at, "queue_position": 2, "sweep": None, "cell": None}
        assert of_sweep.model_copy(update=own) == alone
        names = [set(store.keyspace.client.hkeys(f"reinmax:job:{name}")) for name in (job_id, alone.id)]
        assert names[0] - names[1] == {"sweep", "cell", "seed"} and names[1] <= names[0]

    def test_it_reads_back_whole(self, sweeps: SweepStore) -> None:
        made = plan(name="mine", select={"over": ["tau"]})
        sweep = sweeps.submit(made).sweep
        assert sweep == sweeps.get(sweep.id)
        assert UUID(sweep.id.removeprefix("sweep_")).version == 7
        assert (sweep.name, sweep.cells, sweep.seeds, sweep.jobs) == ("mine", 3, (0, 1), 6)
        assert (sweep.status, sweep.counts, sweep.percent) == (SweepState.QUEUED, {State.QUEUED: 6}, 0)
        assert (sweep.axes, sweep.select) == (made.axes, made.select)
        assert SweepRequest.model_validate(sweep.request).plan().cells == made.cells
        assert (sweep.eta_s, sweep.finished_at) == (None, None)

    def test_its_jobs_are_found_by_it(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep, other = (sweeps.submit(plan()).sweep for _ in range(2))
        store.submit(submission())
        page = store.list(Filters(sweep=sweep.id), limit=4)
        rest = store.list(Filters(sweep=sweep.id), 4, page.next_cursor)
        assert [job.id for job in (*page.jobs, *rest.jobs)] == ids(sweeps, sweep)[::-1]
        assert store.list(Filters(sweep=sweep.id, status="running"), 4).jobs == ()
        assert len(store.list(Filters(sweep=other.id, estimator="reinmax", labels={"study": "a"}), 9).jobs) == 6

    def test_repeated_submissions_make_one(self, store: JobStore, sweeps: SweepStore) -> None:
        first, again = (sweeps.submit(plan(), idempotency_key="key", fingerprint="one") for _ in range(2))
        assert (first.replayed, again.replayed, again.calls) == (False, True, ())
        assert first.sweep == again.sweep
        with pytest.raises(IdempotencyMismatch, match="key"):
            sweeps.submit(plan(seeds=3), idempotency_key="key", fingerprint="two")
        alone = store.submit(submission(), idempotency_key="key", fingerprint="one")
        assert not alone.replayed
        assert sweeps.submit(plan(), idempotency_key="key", fingerprint="one").sweep == first.sweep
        assert store.counts()[State.QUEUED] == 7

    def test_workers_are_called_for_the_first_jobs_in_order(self, store: JobStore, sweeps: SweepStore) -> None:
        changed = sweeps.submit(plan(base=BASE | {"hardware": "cpu", "priority": 3}, seeds=MOST_CALLS))
        assert [call.id for call in changed.calls] == ids(sweeps, changed.sweep)[:MOST_CALLS]
        assert {(call.queue, call.priority) for call in changed.calls} == {("cpu", 3)}

    def test_news_of_other_jobs_are_not_driven_out(self, store: JobStore, sweeps: SweepStore) -> None:
        job_id = store.submit(submission()).job.id
        store.pause(job_id)
        sweeps.submit(plan(seeds=200))
        assert [entry["job"] for _, entry in store.keyspace.client.xrange(store.changes)] == [job_id]  # type: ignore[index, union-attr]


class TestProgress:
    def test_jobs_are_counted_by_state(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan()).sweep
        states = (State.STARTING, State.RUNNING, State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLED)
        for job_id, state in zip(ids(sweeps, sweep), states, strict=True):
            bring(store, job_id, state)
        found = sweeps.get(sweep.id)
        assert found.counts == dict.fromkeys(states, 1)
        assert (found.status, found.percent) == (SweepState.RUNNING, 50.0)
        assert found.eta_s is not None and found.eta_s >= 0

    @pytest.mark.parametrize(
        ("states", "expected"),
        [
            ((State.QUEUED, State.PAUSED), SweepState.QUEUED),
            ((State.QUEUED, State.SUCCEEDED), SweepState.RUNNING),
            ((State.STARTING, State.QUEUED), SweepState.RUNNING),
            ((State.SUCCEEDED, State.SUCCEEDED), SweepState.SUCCEEDED),
            ((State.SUCCEEDED, State.CANCELLED), SweepState.CANCELLED),
            ((State.FAILED, State.CANCELLED), SweepState.FAILED),
        ],
    )
    def test_where_it_stands(
        self, store: JobStore, sweeps: SweepStore, states: tuple[State, ...], expected: SweepState
    ) -> None:
        sweep = sweeps.submit(plan(grid={})).sweep
        for job_id, state in zip(ids(sweeps, sweep), states, strict=True):
            bring(store, job_id, state)
        found = sweeps.get(sweep.id)
        assert found.status is expected
        has_ended = expected in (SweepState.SUCCEEDED, SweepState.FAILED, SweepState.CANCELLED)
        assert (found.finished_at is not None) == has_ended
        assert has_ended <= (found.eta_s is None)

    def test_running_jobs_count_by_their_progress(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep, other = (sweeps.submit(plan(grid={})).sweep for _ in range(2))
        attempt = started(store, ids(sweeps, sweep)[0])
        attempt.report({}, progress(50), {})
        assert (sweeps.get(sweep.id).percent, sweeps.get(other.id).percent) == (25.0, 0.0)

    def test_its_etag_changes_with_it_and_those_who_wait_are_told(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(grid={})).sweep
        first, second = ids(sweeps, sweep)
        tags = [sweep.etag]
        attempt = claimed(store, first)
        steps: list[Any] = [
            lambda: attempt.start(progress(0), {}, ENVIRONMENT),
            lambda: attempt.report({}, progress(10), {}),
            lambda: attempt.succeed(RESULT, (), progress(100)),
            lambda: store.pause(second),
            lambda: sweeps.extend(sweep.id, range(3), 100),
            lambda: store.delete(first),
            lambda: sweeps.cancel(sweep.id),
            lambda: sweeps.retry(sweep.id),
        ]
        for step in steps:
            step()
            tags.append(sweeps.get(sweep.id).etag)
        assert len(set(tags)) == len(tags)
        news = [entry["job"] for _, entry in store.keyspace.client.xrange(store.changes)]  # type: ignore[index, union-attr]
        assert news.count(sweep.id) >= len(steps) - 1

    def test_outcomes_say_what_jobs_have_come_to(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(grid={"estimator": ["reinmax", "rloo"], "tau": [1.5]})).sweep
        first, second, third, _ = ids(sweeps, sweep)
        bring(store, first, State.SUCCEEDED)
        started(store, second).report({}, progress(30), {"loss": 0.25})
        started(store, third).fail(Cause.ERROR, CRASH)
        found = sweeps.outcomes(sweep.id)
        assert [outcome.job_id for outcome in found] == ids(sweeps, sweep)
        assert [(outcome.cell, outcome.seed) for outcome in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert found[0].coordinates == {"estimator": "reinmax", "tau": 1.5}
        assert found[2].coordinates == {"estimator": "rloo", "tau": None}
        states = [State.SUCCEEDED, State.RUNNING, State.FAILED, State.QUEUED]
        assert [outcome.status for outcome in found] == states
        assert found[0].values == {"loss": 0.5, "wall_time_s": 1.0}
        assert [dict(outcome.values) for outcome in found[1:]] == [{"loss": 0.25}, {}, {}]
        assert [outcome.progress for outcome in found] == [100, 30, 0, 0]
        with pytest.raises(SweepNotFound):
            sweeps.outcomes("sweep_unknown")


class TestDelete:
    def test_it_goes_with_the_last_of_its_jobs(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(grid={}), idempotency_key="key", fingerprint="one").sweep
        first, second = ids(sweeps, sweep)
        bring(store, first, State.SUCCEEDED)
        store.delete(first)
        found = sweeps.get(sweep.id)
        assert (found.jobs, found.counts) == (1, {State.QUEUED: 1})
        store.cancel(second)
        store.delete(second)
        with pytest.raises(SweepNotFound):
            sweeps.get(sweep.id)
        assert set(everything(store)) <= LEFT

    def test_one_that_is_to_go_changes_no_more(self, store: JobStore, sweeps: SweepStore) -> None:
        sweep = sweeps.submit(plan(grid={})).sweep
        with pytest.raises(SweepNotAllowed, match="is queued and cannot be deleted before"):
            sweeps.condemn(sweep.id)
        sweeps.cancel(sweep.id)
        sweeps.condemn(sweep.id)
        with pytest.raises(SweepNotAllowed, match="while it is being deleted"):
            sweeps.retry(sweep.id)
        with pytest.raises(SweepNotAllowed, match="while it is being deleted"):
            sweeps.extend(sweep.id, range(9), 100)
        for job_id in ids(sweeps, sweep):
            store.delete(job_id)
        assert set(everything(store)) <= LEFT

    def test_many_jobs_are_removed_with_their_files_as_time_allows(
        self, store: JobStore, sweeps: SweepStore, tmp_path: Path
    ) -> None:
        artifacts = ArtifactStore(str(tmp_path))
        sweep = sweeps.submit(plan(grid={}, seeds=AT_A_TIME + 1)).sweep
        *_, last = ids(sweeps, sweep)
        bring(store, last, State.FAILED)
        artifacts.put(last, 1, "checkpoint-1-model.safetensors", b"model")
        sweeps.cancel(sweep.id)
        assert not remove_sweep(sweeps, artifacts, sweep.id, patience_s=0)
        assert sweeps.get(sweep.id).jobs == 1
        assert remove_sweep(sweeps, artifacts, sweep.id, patience_s=0)
        assert list(tmp_path.iterdir()) == []
        assert set(everything(store)) <= LEFT

    def test_a_job_that_is_set_going_meanwhile_keeps_it(
        self, store: JobStore, sweeps: SweepStore, tmp_path: Path
    ) -> None:
        sweep = sweeps.submit(plan(grid={})).sweep
        first, second = ids(sweeps, sweep)
        sweeps.cancel(sweep.id)
        sweeps.condemn(sweep.id)
        store.retry(first)
        doomed = [job_id for page in sweeps.doomed(sweep.id) for job_id in (*page.started, *page.idle)]
        assert doomed == [second]
        with pytest.raises(NotAllowed):
            store.retry(second)
        sweeps.forget(sweep.id, [first, second])
        assert ids(sweeps, sweep) == [first]
        with pytest.raises(SweepNotAllowed):
            remove_sweep(sweeps, ArtifactStore(str(tmp_path)), sweep.id, 9)


class TestList:
    def test_pages_hold_every_sweep_once_newest_first(self, sweeps: SweepStore) -> None:
        made = [sweeps.submit(plan(grid={})).sweep.id for _ in range(5)]
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = sweeps.list(2, cursor)
            found += [sweep.id for sweep in page.sweeps]
            cursor, pages = page.next_cursor, pages + 1
        assert (found, pages) == (made[::-1], 3)
        with pytest.raises(BadCursor):
            sweeps.list(2, "x")

    def test_a_cursor_of_jobs_is_none_of_sweeps(self, store: JobStore, sweeps: SweepStore) -> None:
        sweeps.submit(plan(grid={}))
        cursor = store.list(Filters(), limit=1).next_cursor
        assert cursor is not None
        with pytest.raises(BadCursor):
            sweeps.list(2, cursor)

    def test_one_that_cannot_be_read_is_left_out(
        self, store: JobStore, sweeps: SweepStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        newer, damaged, whole = (sweeps.submit(plan(grid={})).sweep.id for _ in range(3))
        store.keyspace.client.hset(f"reinmax:sweep:{newer}", "format", 99)
        store.keyspace.client.hdel(f"reinmax:sweep:{damaged}", "seeds")
        assert [sweep.id for sweep in sweeps.list(9).sweeps] == [whole]
        assert "it has format 99" in caplog.text
        for unreadable in (newer, damaged):
            with pytest.raises(SweepUnreadable, match=unreadable):
                sweeps.get(unreadable)
            assert len(list(sweeps.jobs(unreadable))) == 2


class TestEstimate:
    def test_nothing_is_known_at_first(self, store: JobStore) -> None:
        found = estimate(store, plan())
        assert found.seconds is None
        assert "no job of polynomial with reinmax has succeeded here yet" in found.basis

    def test_it_is_the_median_time_of_a_step_over_the_workers(self, store: JobStore) -> None:
        for _ in range(3):  # a second for 100 steps each
            bring(store, store.submit(submission()).job.id, State.SUCCEEDED)
        alone = estimate(store, plan())
        assert (alone.seconds, "as on one worker" in alone.basis) == (6.0, True)
        for name in ("one", "two"):
            store.register(worker(name), 60)
        store.register(worker("three", queues=("cuda",)), 60)
        both = estimate(store, plan())
        assert (both.seconds, "on 2 workers" in both.basis) == (3.0, True)
        assert estimate(store, plan(base=BASE | {"estimator": "rloo"}, grid={})).seconds is None
        assert "other settings" not in both.basis
        assert "other settings of the task" in estimate(store, plan(grid={"task.latents": [9]})).basis


def test_what_is_written_of_a_request_is_json(store: JobStore, sweeps: SweepStore) -> None:
    sweep = sweeps.submit(plan(grid={"optimizer.lr": {"from": 0.1, "to": 0.2, "count": 2}})).sweep
    text = str(store.keyspace.client.hget(f"reinmax:sweep:{sweep.id}", "request"))
    assert json.loads(text)["grid"] == {"optimizer.lr": {"from": 0.1, "to": 0.2, "count": 2}}
