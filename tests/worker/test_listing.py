"""Lists of jobs: every filter, every page size, whatever is in the store."""

import json
import random
from collections.abc import Iterator

import pytest

from tests.worker.samples import submission
from worker.jobs import Job
from worker.listing import BadCursor, Filters
from worker.store import JobStore

ESTIMATORS, STUDIES = ("reinmax", "straight_through", "gumbel_softmax"), ("a", "b")
EVERY_FILTER = [
    Filters(status=status, estimator=estimator, task=task, labels=labels)
    for status in (None, "queued", "cancelled", "running")
    for estimator in (None, "reinmax")
    for task in (None, "polynomial", "no_such_task")
    for labels in ({}, {"study": "a"}, {"study": "a", "half": "0"})
]


@pytest.fixture
def jobs(store: JobStore) -> list[Job]:
    """Jobs of all kinds, newest first."""
    chance = random.Random(0)
    for number in range(120):
        labels = {"study": chance.choice(STUDIES), "half": str(number % 2)}
        job = store.submit(submission(estimator=chance.choice(ESTIMATORS), labels=labels, seed=number)).job
        if chance.random() < 0.4:
            store.cancel(job.id)
    return [job for page in walk(store, Filters(), 200) for job in page]


def walk(store: JobStore, filters: Filters, limit: int) -> Iterator[tuple[Job, ...]]:
    page = store.list(filters, limit)
    yield page.jobs
    while page.next_cursor is not None:
        page = store.list(filters, limit, page.next_cursor)
        yield page.jobs


def passes(job: Job, filters: Filters) -> bool:
    return (
        filters.status in (None, job.status)
        and filters.task in (None, job.spec.task.name)
        and filters.estimator in (None, job.spec.estimator.name)
        and filters.labels.items() <= job.labels.items()
    )


def test_walking_a_list_finds_what_passes_and_nothing_else(store: JobStore, jobs: list[Job]) -> None:
    assert [job.spec.seed for job in jobs] == list(range(119, -1, -1))
    for filters in EVERY_FILTER:
        expected = [job.id for job in jobs if passes(job, filters)]
        for limit in (1, 7, 200):
            pages = list(walk(store, filters, limit))
            assert [job.id for page in pages for job in page] == expected
            assert all(len(page) == limit for page in pages[:-1])
            assert expected == [] or pages[-1] != ()


def test_new_jobs_do_not_disturb_a_walk(store: JobStore, jobs: list[Job]) -> None:
    page = store.list(Filters(), 50)
    store.submit(submission())
    rest = store.list(Filters(), 200, page.next_cursor)
    assert [job.id for job in (*page.jobs, *rest.jobs)] == [job.id for job in jobs]


def damaged(cursor: str) -> list[str]:
    flipped = "B" if cursor[0] == "A" else "A"
    return [cursor[:-1], flipped + cursor[1:], cursor + "AAAA", "", "é", "not a cursor", json.dumps(cursor)]


def test_a_cursor_is_good_for_its_own_list_only(store: JobStore, jobs: list[Job]) -> None:
    cursor = store.list(Filters(), 10).next_cursor
    assert cursor is not None
    for bad in damaged(cursor):
        with pytest.raises(BadCursor, match="leave the cursor out"):
            store.list(Filters(), 10, bad)
    with pytest.raises(BadCursor):
        store.list(Filters(status="queued"), 10, cursor)
