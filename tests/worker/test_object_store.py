"""Artefacts on a real server that speaks S3: what is asked of it, whole jobs, and what becomes of them without it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import fsspec
import httpx
import pytest
from safetensors.torch import load

from tests.servers import OwnServer, own_server
from tests.service.processes import running_api
from tests.worker.object_stores import BUCKET, ObjectStore, object_store
from tests.worker.samples import submission
from worker.app import application, wake
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable
from worker.jobs import State
from worker.store import JobStore

URL = f"s3://{BUCKET}/runs"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("objects")) as store:
        yield store


@pytest.fixture
def artifacts(objects: ObjectStore) -> ArtifactStore:
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store = ArtifactStore(URL)
    store.delete_job("job_a")
    return store


def test_what_is_put_is_there_whole_and_in_parts(artifacts: ArtifactStore, objects: ObjectStore) -> None:
    content = os.urandom(9_000_000)
    artifacts.put("job_a", 1, "model.bin", content)
    path = "job_a/1/model.bin"
    assert objects.objects("runs/") == {f"runs/{path}"}
    assert (artifacts.read(path), artifacts.size(path)) == (content, len(content))
    with artifacts.open(path) as file:
        for start, length in ((0, 100), (8_999_990, 100), (4_000_000, 1_000_000), (5, 3)):
            file.seek(start)
            assert file.read(length) == content[start : start + length]
    artifacts.put("job_a", 1, "model.bin", b"anew")
    assert artifacts.read(path) == b"anew" and artifacts.size(path) == 4


def test_what_is_not_there_is_told_from_a_server_that_is_not(artifacts: ArtifactStore) -> None:
    for ask in (artifacts.read, artifacts.open, artifacts.size):
        with pytest.raises(FileNotFoundError):
            ask("job_a/1/none")
    artifacts.delete("job_a/1/none")
    artifacts.delete_job("job_none")
    artifacts.keep_only("job_none", [])


def test_files_of_another_machine_are_seen_and_removed(artifacts: ArtifactStore, objects: ObjectStore) -> None:
    artifacts.put("job_a", 1, "mine", b"1")
    artifacts.put("job_a", 1, "wanted", b"1")
    artifacts.keep_only("job_a", ["job_a/1/wanted"])
    put_elsewhere("x")
    artifacts.keep_only("job_a", ["job_a/1/wanted", "job_a/2/x"])
    assert objects.objects("runs/") == {"runs/job_a/1/wanted", "runs/job_a/2/x"}
    artifacts.keep_only("job_a", ["job_a/1/wanted", "job_a/2/x"])
    put_elsewhere("y")
    assert artifacts.size("job_a/2/y") == 1
    artifacts.delete_job("job_a")
    assert objects.objects("runs/") == set()


def put_elsewhere(name: str) -> None:
    """Files of attempts 2 and 3, written by another process."""
    program = (
        "import sys; from worker.artifacts import ArtifactStore; store = ArtifactStore(sys.argv[1]); "
        "store.put('job_a', 2, sys.argv[2], b'1'); store.put('job_a', 3, sys.argv[2], b'1')"
    )
    subprocess.run([sys.executable, "-c", program, URL, name], check=True)


def test_no_bucket_is_made_and_a_missing_one_is_named(objects: ObjectStore) -> None:
    store = ArtifactStore("s3://mistyped/runs")
    actions: tuple[Callable[[], object], ...] = (
        lambda: store.put("job_a", 1, "model.bin", b"1"),
        lambda: store.read("job_a/1/model.bin"),
        lambda: store.open("job_a/1/model.bin"),
        lambda: store.delete_job("job_a"),
    )
    for action in actions:
        with pytest.raises(ArtifactStoreUnavailable, match=r"bucket does not exist; .*\(s3://mistyped/runs\)"):
            action()
    assert os.listdir(objects.folder) == [BUCKET]


def test_wrong_keys_are_told(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mistyped")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store = ArtifactStore(URL)
    with pytest.raises(ArtifactStoreUnavailable, match="Access Key Id you provided does not exist"):
        store.put("job_a", 1, "model.bin", b"1")
    with pytest.raises(ArtifactStoreUnavailable, match="Forbidden"):
        store.read("job_a/1/model.bin")


def test_whether_it_takes_files_is_found_out_without_a_trace(
    artifacts: ArtifactStore, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.probe()
    assert objects.objects("runs/") == set()
    with pytest.raises(ArtifactStoreUnavailable, match=r"bucket does not exist; .*\(s3://mistyped/runs\)"):
        ArtifactStore("s3://mistyped/runs").probe()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mistyped")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(ArtifactStoreUnavailable, match="Access Key Id you provided does not exist"):
        ArtifactStore(URL).probe()


def test_a_server_that_goes_away_in_the_middle_of_a_file_is_told(
    artifacts: ArtifactStore, objects: ObjectStore
) -> None:
    content = os.urandom(9_000_000)
    artifacts.put("job_a", 1, "model.bin", content)
    assert b"".join(artifacts.pieces("job_a/1/model.bin", 5, 8_000_000)) == content[5:8_000_000]
    pieces = artifacts.pieces("job_a/1/model.bin", 0, len(content))
    assert content.startswith(next(pieces))
    objects.kill()
    try:
        with pytest.raises(ArtifactStoreUnavailable, match="could not be read"):
            list(pieces)
    finally:
        objects.start()


def test_a_server_that_is_away_is_told_soon(artifacts: ArtifactStore, objects: ObjectStore) -> None:
    objects.kill()
    try:
        for action in (lambda: artifacts.put("job_a", 1, "x", b"1"), lambda: artifacts.open("job_a/1/x")):
            began = time.monotonic()
            with pytest.raises(ArtifactStoreUnavailable, match=f"could not be .*{objects.endpoint}"):
                action()
            assert time.monotonic() - began < 5
    finally:
        objects.start()
    artifacts.put("job_a", 1, "x", b"1")


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(artifacts: ArtifactStore, objects: ObjectStore) -> None:
    objects.hang()
    try:
        for action in (lambda: artifacts.put("job_a", 1, "x", b"1"), lambda: artifacts.open("job_a/1/x")):
            began = time.monotonic()
            with pytest.raises(ArtifactStoreUnavailable, match="REINMAX_ARTIFACTS_URL"):
                action()
            assert time.monotonic() - began < 30
    finally:
        objects.go_on()
    artifacts.put("job_a", 1, "x", b"1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def store(server: OwnServer) -> Iterator[JobStore]:
    connected = JobStore.connect(server.url)
    yield connected
    connected.keyspace.close()


@pytest.fixture(scope="module")
def api(objects: ObjectStore, server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API and a worker that share nothing but the two servers."""
    folder = tmp_path_factory.mktemp("states")
    settings = {
        "REINMAX_REDIS_URL": server.url,
        "REINMAX_ARTIFACTS_URL": URL,
        "REINMAX_STATE_DIR": str(folder / "worker"),
        "REINMAX_CHECKPOINT_INTERVAL_S": "0.4",
        "REINMAX_LOG_LEVEL": "error",
    }
    with ExitStack() as resources:
        command = [sys.executable, "-m", "worker", "--device", "cpu"]
        process = resources.enter_context(subprocess.Popen(command, env=os.environ | settings))
        resources.callback(process.kill)
        url = resources.enter_context(running_api(folder / "api", redis_url=server.url, artifacts_url=URL))
        yield resources.enter_context(httpx.Client(base_url=url, timeout=30))


@pytest.fixture(scope="module")
def train(api: httpx.Client, server: OwnServer, store: JobStore) -> Iterator[Callable[[int], str]]:
    """Submits a job and returns once it trains."""
    with application(server.url) as celery:

        def begin(steps: int) -> str:
            job = store.submit(submission(steps=steps)).job
            wake(celery, job)
            wait_for(lambda: store.get(job.id).progress.step)
            return job.id

        yield begin


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_trains_and_its_model_is_fetched_over_http(
    api: httpx.Client, train: Callable[[int], str], store: JobStore, objects: ObjectStore
) -> None:
    job_id = train(3000)
    wait_for(lambda: store.get(job_id).finished_at)
    assert store.get(job_id).status is State.SUCCEEDED, store.logs(job_id)
    path = f"/v1/jobs/{job_id}/artifacts/model.safetensors"
    answer = api.get(path)
    assert answer.status_code == 200, answer.text
    content = answer.content
    assert load(content)
    part = api.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    named = {f"runs/{job_id}/1/{file.name}" for file in store.artifacts(job_id)}
    wait_for(lambda: objects.objects(f"runs/{job_id}/") == named)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert objects.objects(f"runs/{job_id}/") == set()


@pytest.mark.slow
def test_a_run_outlives_the_server_and_the_api_says_503_meanwhile(
    api: httpx.Client, train: Callable[[int], str], store: JobStore, objects: ObjectStore
) -> None:
    done = train(50)
    wait_for(lambda: store.get(done).finished_at)
    job_id = train(8000)
    attempt = store.attempt(job_id, 1)
    wait_for(attempt.checkpoints)
    objects.kill()
    try:
        answer = api.get(f"/v1/jobs/{done}/artifacts/model.safetensors")
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert "REINMAX_ARTIFACTS_URL" in answer.json()["detail"]
        wait_for(lambda: "no checkpoint at step" in store.logs(job_id))
        wait_for(lambda: "trying again in" in store.logs(job_id))
    finally:
        objects.start()
    wait_for(lambda: store.get(job_id).finished_at)
    assert store.get(job_id).status is State.SUCCEEDED and store.get(job_id).attempt == 1
    for job in (done, job_id):
        assert load(api.get(f"/v1/jobs/{job}/artifacts/model.safetensors").raise_for_status().content)
