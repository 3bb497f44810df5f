"""The typed client, blocking and asyncio, against the real API and against servers that fail."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import AsyncClient, Client
from service.client.address import AlreadyRunning, announced, running_here
from service.client.download import PART_BYTES, ArtifactNotFound, DownloadCorrupt
from service.client.endpoints import Endpoints, JobNotFinished
from service.client.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotThisService,
    Unauthorized,
    Unreachable,
)
from service.client.exchange import endpoint
from tests.service.processes import running_api
from tests.service.test_jobs import started, succeeded
from tests.service.unreliable import Answer, flaky
from tests.worker.samples import progress
from worker.artifacts import ArtifactStore
from worker.jobs import Artifact, Job, State
from worker.series import Series
from worker.settings import InvalidSettings
from worker.store import JobStore
from worker.submission import Submission

SHORT = {"task": "polynomial", "estimator": "reinmax"}
MODEL = bytes(range(251)) * (PART_BYTES // 200)
"""More than one part of a download, and not a multiple of it."""


@pytest.fixture
def client(api_url: str, redis_database: str) -> Iterator[Client]:
    with Client(api_url) as client:
        yield client


@pytest.fixture
def model(client: Client, store: JobStore, artifacts: ArtifactStore) -> str:
    """Id of a job that has left a model."""
    job_id = client.submit(SHORT).id
    artifacts.put(job_id, 1, "model.safetensors", MODEL)
    succeeded(store, job_id, artifact(MODEL))
    return job_id


def artifact(content: bytes) -> Artifact:
    return Artifact(name="model.safetensors", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_submitted_job_is_the_one_that_is_got(client: Client) -> None:
    job = client.submit(SHORT | {"labels": {"study": "a"}})
    assert isinstance(job, Job)
    assert (job.status, job.labels, job.spec.task.name) == (State.QUEUED, {"study": "a"}, "polynomial")
    assert client.get(job.id) == job


def test_a_validated_submission_is_taken_as_well(client: Client) -> None:
    submission = Submission.model_validate(SHORT | {"steps": 7, "name": "seven"})
    job = client.submit(submission)
    assert (job.spec, job.name) == (submission.run_spec(), "seven")


def test_a_dry_run_queues_nothing(client: Client) -> None:
    assert client.dry_run(SHORT).spec.steps == 8000
    assert list(client.list()) == []


def test_lists_go_on_over_pages(client: Client) -> None:
    ids = [client.submit(SHORT | {"steps": number}).id for number in range(1, 103)]
    assert [job.id for job in client.list()] == ids[::-1]
    assert len(client.page(limit=2).data) == 2


def test_lists_are_filtered(client: Client) -> None:
    client.submit(SHORT | {"labels": {"study": "a"}})
    wanted = client.submit(SHORT | {"labels": {"study": "b"}})
    assert list(client.list(labels={"study": "b"}, status="queued", estimator="reinmax")) == [client.get(wanted.id)]
    assert list(client.list(task="categorical_vae")) == []


def test_waiting_ends_with_the_job(client: Client, store: JobStore) -> None:
    job = client.submit(SHORT)
    worker = threading.Timer(0.3, succeeded, [store, job.id])
    worker.start()
    finished = client.wait(job.id, timeout_s=20)
    worker.join()
    assert finished.status == State.SUCCEEDED
    assert finished.result is not None
    assert client.wait(job.id) == finished


def test_waiting_may_be_limited(client: Client) -> None:
    job, began = client.submit(SHORT), time.monotonic()
    with pytest.raises(JobNotFinished, match=f"{job.id} is queued at step 0 of 8000"):
        client.wait(job.id, timeout_s=0.3)
    assert 0.3 <= time.monotonic() - began < 20


def test_cancelling_deleting_and_what_forbids_them(client: Client, store: JobStore) -> None:
    job = client.submit(SHORT)
    with pytest.raises(Conflict) as refusal:
        client.delete(job.id)
    assert refusal.value.problem.job_status == "queued"
    assert client.cancel(job.id).status == State.CANCELLED
    client.delete(job.id)
    with pytest.raises(NotFound, match=job.id):
        client.get(job.id)


def test_pausing_resuming_retrying_and_what_forbids_them(client: Client, store: JobStore) -> None:
    job = client.submit(SHORT)
    for change in (client.resume, client.retry):
        with pytest.raises(Conflict) as refusal:
            change(job.id)
        assert refusal.value.problem.job_status == "queued"
    assert [client.pause(job.id).status for _ in range(2)] == [State.PAUSED, State.PAUSED]
    assert client.resume(job.id).status == State.QUEUED
    client.cancel(job.id)
    with pytest.raises(Conflict):
        client.pause(job.id)
    assert client.retry(job.id).status == State.QUEUED
    for change in (client.pause, client.resume, client.retry):
        with pytest.raises(NotFound):
            change("job_none")


def test_metrics_and_log(client: Client, store: JobStore) -> None:
    job_id = client.submit(SHORT).id
    attempt = started(store, job_id)
    attempt.report({"loss": Series([1, 2], [0.5, 0.25]), "gap": Series([2], [0.1])}, progress(2), {"loss": 0.25})
    attempt.log("épochè\n")
    assert client.logs(job_id) == "épochè\n"
    curves = client.metrics(job_id)
    assert {name: (curve.step, curve.value) for name, curve in curves.items()} == {
        "loss": ([1, 2], [0.5, 0.25]),
        "gap": ([2], [0.1]),
    }
    assert set(client.metrics(job_id, series=["gap"], max_points=4)) == {"gap"}


class TestDownloads:
    def test_a_file_arrives_in_parts(self, client: Client, model: str, tmp_path: Path) -> None:
        parts: list[tuple[int, int]] = []
        path = client.download(model, "model.safetensors", tmp_path, received=lambda *so_far: parts.append(so_far))
        assert path == tmp_path / "model.safetensors"
        assert path.read_bytes() == MODEL
        assert parts == [(PART_BYTES, len(MODEL)), (len(MODEL), len(MODEL))]

    def test_it_may_get_another_name(self, client: Client, model: str, tmp_path: Path) -> None:
        assert client.download(model, "model.safetensors", tmp_path / "mine").read_bytes() == MODEL

    def test_a_damaged_file_is_refused_and_leaves_nothing(
        self, client: Client, model: str, artifacts: ArtifactStore, tmp_path: Path
    ) -> None:
        artifacts.put(model, 1, "model.safetensors", MODEL[:-1] + b"?")
        with pytest.raises(DownloadCorrupt, match="sha256"):
            client.download(model, "model.safetensors", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_file_is_answered_with_those_that_exist(self, client: Client, model: str) -> None:
        assert client.artifacts(model) == (artifact(MODEL),)
        with pytest.raises(ArtifactNotFound, match=r"no artefact 'modle'; it has: model\.safetensors"):
            client.download(model, "modle")


def test_catalogues(client: Client) -> None:
    assert "reinmax" in [estimator.name for estimator in client.estimators()]
    assert "polynomial" in [task.name for task in client.tasks()]
    assert "mnist" in [data_set.name for data_set in client.datasets()]
    assert "table-2-smoke" in [preset.name for preset in client.presets()]
    assert client.workers() == ()


def test_every_mistake_is_pointed_at(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        client.submit({"task": "polynomial", "estimator": "reinmx", "stesp": 3})
    assert {mistake.pointer for mistake in refusal.value.problem.errors or ()} == {"/estimator", "/stesp"}
    message = str(refusal.value)
    assert "/estimator: " in message
    assert "reinmax" in message


def test_the_asyncio_client_does_the_same(api_url: str, store: JobStore, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AsyncClient(api_url) as client:
            jobs = await asyncio.gather(*(client.submit(SHORT | {"seed": seed}) for seed in range(5)))
            assert {job.id async for job in client.list()} == {job.id for job in jobs}
            waiting = asyncio.create_task(client.wait(jobs[0].id))
            await asyncio.to_thread(succeeded, store, jobs[0].id)
            assert (await waiting).status == State.SUCCEEDED
            with pytest.raises(NotFound):
                await client.get("job_none")
            assert (await client.pause(jobs[1].id)).status == State.PAUSED
            assert (await client.resume(jobs[1].id)).status == State.QUEUED
            await client.cancel(jobs[1].id)
            assert (await client.retry(jobs[1].id)).status == State.QUEUED

    asyncio.run(scenario())


def test_every_call_is_documented_on_both_clients() -> None:
    calls = {name for name, value in vars(Endpoints).items() if isinstance(value, endpoint)}
    assert {"submit", "dry_run", "get", "wait", "delete", "metrics", "logs", "download"} <= calls
    assert {"cancel", "pause", "resume", "retry"} <= calls
    assert all(inspect.getdoc(vars(Endpoints)[name]) for name in calls)
    assert Client.list.__doc__ == AsyncClient.list.__doc__


class TestAddresses:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with Client("http://127.0.0.1:1", patience_s=0.3) as client, pytest.raises(Unreachable, match="reinmax up"):
            client.workers()

    def test_somebody_else_there(self) -> None:
        page: Answer = (404, {"Content-Type": "text/html"}, b"<html>")
        with (
            flaky(lambda request, body: page) as (url, _),
            Client(url) as client,
            pytest.raises(NotThisService, match="text/html"),
        ):
            client.submit(SHORT)

    def test_no_address(self) -> None:
        with pytest.raises(InvalidSettings, match="ftp://x"):
            Client("ftp://x")

    def test_the_environment_names_address_and_key(
        self, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running_api(tmp_path, redis_url=redis_url, api_keys="open-sesame-1") as url:
            monkeypatch.setenv("REINMAX_URL", url)
            with Client() as stranger, pytest.raises(Unauthorized, match="REINMAX_API_KEY "):
                stranger.workers()
            monkeypatch.setenv("REINMAX_API_KEY", "open-sesame-1")
            with Client() as friend:
                assert friend.workers() == ()

    def test_a_running_stack_is_found(self, api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("REINMAX_URL", raising=False)
        monkeypatch.setenv("REINMAX_STATE_DIR", str(tmp_path))
        with announced(api_url, tmp_path):
            with Client() as client:
                assert client.workers() == ()
            with pytest.raises(AlreadyRunning, match=api_url), announced("http://other", tmp_path):
                pass
        # The file is still there, as it would be after a crash; without its writer it means nothing.
        assert (tmp_path / "address").exists()
        assert running_here(tmp_path) is None
