"""How long jobs are kept that have ended: by age, by number, on the real server and folder."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.worker.samples import progress
from tests.worker.states import CRASH, RESULT, bring, everything, started
from worker import shown
from worker.artifacts import ArtifactStore
from worker.jobs import TERMINAL, State
from worker.listing import Filters
from worker.refusal import NotAllowed
from worker.retention import AT_A_TIME, LOOK_EVERY_S, Retention
from worker.settings import Settings
from worker.store import JobStore
from worker.submission import Cause

Submit = Callable[..., str]
DAY_MS = 86_400_000


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def retention(store: JobStore, artifacts: ArtifactStore, **settings: Any) -> Retention:
    return Retention(store, artifacts, Settings(**settings))


def ended(store: JobStore, submit: Submit, days_ago: float = 0, state: State = State.SUCCEEDED) -> str:
    """A job that was submitted and ended so long ago, as its id and its record tell."""
    job_id = submit(labels={"study": "x"})
    bring(store, job_id, state)
    if not days_ago:
        return job_id
    return moved(store, job_id, days_ago)


def moved(store: JobStore, job_id: str, days_ago: float) -> str:
    """The job under an earlier id, which begins with its time."""
    client: Any = store.keyspace.client
    then = int(job_id[4:16], 16) - round(days_ago * DAY_MS)
    earlier = f"job_{then:012x}{job_id[16:]}"
    for key in everything(store):
        if client.type(key) == "zset" and client.zscore(key, job_id) is not None:
            client.zrem(key, job_id)
            client.zadd(key, {earlier: 0})
    for kind in ("job", "events"):
        client.rename(f"reinmax:{kind}:{job_id}", f"reinmax:{kind}:{earlier}")
    folded = client.hget(f"reinmax:job:{earlier}", "folded")
    finished = shown.fields(store.keyspace, earlier)["finished"]
    text = folded.replace(f"finished 13 {finished}", f"finished 13 {then}")
    client.hset(f"reinmax:job:{earlier}", "folded", text)
    return earlier


def left(store: JobStore) -> list[str]:
    return [job.id for job in store.list(Filters(), 200).jobs][::-1]


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_jobs_are_removed_with_all_that_belongs_to_them(
    store: JobStore, submit: Submit, artifacts: ArtifactStore, tmp_path: Path, state: State
) -> None:
    old, new = ended(store, submit, 10, state), ended(store, submit, 5, state)
    for job_id in (old, new):
        artifacts.put(job_id, 1, "model.safetensors", b"model")
    assert retention(store, artifacts, keep_days=7).attend() == LOOK_EVERY_S
    assert left(store) == [new]
    assert [path.name for path in tmp_path.iterdir()] == [new]
    assert old not in str(everything(store)).replace(str(everything(store)["reinmax:changes"]), "")


def test_without_settings_everything_is_kept(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    ids = [ended(store, submit, days_ago) for days_ago in (30_000, 1, 0)]
    assert retention(store, artifacts).attend() == LOOK_EVERY_S
    assert left(store) == ids


def test_the_oldest_go_when_there_are_too_many(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    ids = [ended(store, submit, state=sorted(TERMINAL)[number % 3]) for number in range(9)]
    retention(store, artifacts, keep_jobs=4).attend()
    assert left(store) == ids[5:]


def test_what_counts_is_when_a_job_ended(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    waited = moved(store, ended(store, submit, 10), 0)
    client: Any = store.keyspace.client
    folded = client.hget(f"reinmax:job:{waited}", "folded")
    then, now = shown.fields(store.keyspace, waited)["finished"], int(client.time()[0]) * 1000
    client.hset(f"reinmax:job:{waited}", "folded", folded.replace(f"finished 13 {then}", f"finished 13 {now}"))
    others = [ended(store, submit, days_ago) for days_ago in (3, 2, 1)]
    retention(store, artifacts, keep_days=7).attend()
    assert left(store) == [waited, *others]
    retention(store, artifacts, keep_jobs=2).attend()
    assert left(store) == [waited, others[-1]]


def test_jobs_under_way_are_kept_however_old(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    ids = [submit() for _ in range(4)]
    for job_id, state in zip(ids, (State.QUEUED, State.STARTING, State.RUNNING, State.PAUSED), strict=True):
        bring(store, job_id, state)
    ended(store, submit), ended(store, submit)
    retention(store, artifacts, keep_jobs=1, keep_days=1e-9).attend()
    assert left(store) == ids


def test_a_long_backlog_goes_a_part_at_a_time(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    for _ in range(AT_A_TIME + 5):
        store.cancel(submit())
    duty = retention(store, artifacts, keep_jobs=1)
    assert duty.attend() == 0.0
    while duty.attend() == 0.0:
        pass
    assert len(left(store)) == 1


def test_workers_that_do_the_same_at_once_do_no_harm(
    store: JobStore, submit: Submit, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    ids = [ended(store, submit) for _ in range(30)]
    for job_id in ids:
        artifacts.put(job_id, 1, "model.safetensors", b"model")
    with ThreadPoolExecutor(4) as workers:
        duties = [workers.submit(retention(store, artifacts, keep_jobs=3).attend) for _ in range(4)]
        assert [duty.result() for duty in duties] == [LOOK_EVERY_S] * 4
    assert left(store) == ids[-3:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ids[-3:]


def test_files_that_cannot_be_removed_keep_the_record_which_cannot_be_retried_then(
    store: JobStore, submit: Submit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, _ = submit(), ended(store, submit)
    started(store, job_id).fail(Cause.ERROR, CRASH)
    ended(store, submit)
    (tmp_path / "file").write_bytes(b"")
    broken = ArtifactStore(str(tmp_path / "file"))
    assert retention(store, broken, keep_jobs=1).attend() == LOOK_EVERY_S
    assert "left for now" in caplog.text
    assert len(left(store)) == 3
    with pytest.raises(NotAllowed, match="failed and cannot be retried"):
        store.retry(job_id)
    retention(store, ArtifactStore(str(tmp_path)), keep_jobs=1).attend()
    assert len(left(store)) == 1


def test_one_that_cannot_be_read_is_removed_too(store: JobStore, submit: Submit, artifacts: ArtifactStore) -> None:
    job_id, other = ended(store, submit), submit()
    store.keyspace.client.hset(f"reinmax:job:{job_id}", "format", "99")
    started(store, other).succeed(RESULT, (), progress(100))
    retention(store, artifacts, keep_jobs=1).attend()
    assert left(store) == [other]
    assert not store.keyspace.client.exists(f"reinmax:job:{job_id}")
