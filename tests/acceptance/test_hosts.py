"""Workers on hosts of their own: both do jobs, links are cut while they train, and their clocks may be wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, cast

import pytest

from tests.acceptance.hosts.network import NoHosts
from tests.acceptance.hosts.site import LEASE_S, Place, Site
from worker.jobs import Job, State

SPEC: Final = {"task": "polynomial", "estimator": "reinmax", "steps": 10_000, "log_every": 20, "seed": 11}
SHORT: Final = SPEC | {"steps": 1000}
SHORT_CUT_S: Final = 1.5
OUTCOMES: Final[dict[str, object]] = {}
"""Of the job that nothing happened to, by where artefacts are kept."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(
    scope="module",
    params=[("folder", 0), ("s3", 600)],
    ids=["a shared folder", "S3, and clocks that are wrong by ten minutes"],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place, wrong_s = cast("tuple[Place, float]", request.param)
    try:
        with Site(tmp_path_factory.mktemp("site"), place, wrong_s) as opened:
            yield opened
    except NoHosts as refusal:
        pytest.skip(f"NOT TESTED: many machines, because this one does not allow namespaces: {refusal}")


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Job:
    return site.finished(site.client.submit(SPEC))


def outcome(site: Site, job: Job) -> dict[str, object]:
    """All that a job comes to, but for the time it took."""
    assert job.status is State.SUCCEEDED, (job.error, site.client.logs(job.id))
    assert job.result is not None
    digests = {file.name: file.sha256 for file in site.client.artifacts(job.id)}
    return {
        "model": digests["model.safetensors"],
        "metrics": (job.result.metrics, job.result.best, job.metrics),
        "series": site.client.metrics(job.id),
    }


def states(site: Site, job: Job) -> list[str]:
    return [event.data.split('"')[3] for event in site.store.events_after(job.id) if event.kind == "state"]


def is_tidy(site: Site, job: Job) -> bool:
    """Whether nothing is there but the artefacts that the second attempt has left."""
    return set(site.files(job)) == {f"2/{file.name}" for file in site.client.artifacts(job.id)}


def begun(site: Site) -> Job:
    """A job that trains and has a checkpoint."""
    job = site.client.submit(SPEC)
    site.wait_for(site.store.attempt(job.id, 1).checkpoints)
    return site.client.get(job.id)


def test_both_hosts_do_jobs_that_are_submitted_over_http(site: Site) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    jobs = [site.finished(job) for job in [site.client.submit(SHORT) for _ in range(6)]]
    assert {site.who_has(job).host.name for job in jobs} == {"alpha", "beta"}
    assert all(outcome(site, job) == outcome(site, jobs[0]) for job in jobs)
    for job in jobs:
        assert job.started_at and job.finished_at
        assert before <= job.created_at <= job.started_at < job.finished_at < datetime.now(UTC), "by the server's clock"
    if site.wrong_s:
        ahead, behind = (f"{site.wrong_s:.0f} s {how} that of the server" for how in ("ahead of", "behind"))
        assert [ahead in worker.log for worker in site.workers] == [True, False]
        assert [behind in worker.log for worker in site.workers] == [False, True]
    assert all(site.began <= worker.started_at < before for worker in site.client.workers())


def test_training_goes_on_through_a_cut_shorter_than_the_lease(site: Site, undisturbed: Job) -> None:
    job = begun(site)
    worker = site.who_has(job)
    site.cut(worker)
    time.sleep(SHORT_CUT_S)
    site.mend(worker)
    ended = site.finished(job)
    assert (ended.attempt, site.who_has(ended)) == (1, worker)
    assert states(site, job) == ["queued", "starting", "running", "succeeded"]
    assert "continuing at step" not in site.client.logs(job.id)
    assert outcome(site, ended) == outcome(site, undisturbed)


@pytest.mark.parametrize("comes_back", ["while another host trains", "after another host has ended the job"])
def test_a_job_moves_to_another_host_when_its_own_is_cut_off(site: Site, undisturbed: Job, comes_back: str) -> None:
    job = begun(site)
    cut_off = site.who_has(job)
    training, was_at = cut_off.training, site.client.get(job.id).progress.step
    site.cut(cut_off)
    cut_at = time.monotonic()
    moved = site.until(job, lambda seen: seen.attempt == 2)
    assert time.monotonic() - cut_at < LEASE_S + 5, "two seconds, but for a slow machine"
    assert not cut_off.has(moved)

    if comes_back == "after another host has ended the job":
        site.finished(job)
        # The other host may still be removing checkpoints, and what the first attempt has left.
        site.wait_for(lambda: is_tidy(site, job))
    else:
        site.until(job, lambda seen: seen.status is State.RUNNING and seen.progress.step > was_at)
    before = site.records(), site.files(job)
    assert training.is_running(), "it has no way to know"
    site.mend(cut_off)
    site.wait_for(lambda: not training.is_running())
    site.wait_for(lambda: "attempt 1 ends: fenced" in cut_off.log or "(fenced)" in cut_off.log)
    if comes_back == "after another host has ended the job":
        assert (site.records(), site.files(job)) == before

    ended = site.finished(job)
    assert (ended.attempt, ended.worker) == (2, moved.worker)
    assert states(site, job).count("succeeded") == 1
    assert "continuing at step" in site.client.logs(job.id)
    assert outcome(site, ended) == outcome(site, undisturbed)
    site.wait_for(lambda: is_tidy(site, job))


def test_a_host_that_was_cut_off_is_of_use_again(site: Site) -> None:
    site.wait_for(lambda: len(site.client.workers()) == 2)
    began = time.monotonic()
    used: set[str] = set()
    while used != {"alpha", "beta"}:
        jobs = [site.client.submit(SHORT) for _ in range(2)]
        used = {site.who_has(site.finished(job)).host.name for job in jobs}
        assert time.monotonic() - began < 60
