"""The API while its server hangs, is gone, full or read-only, and afterwards, without a restart of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.protocol.problems import Kind, ProblemDetails
from tests.servers import OwnServer, own_server
from tests.service.processes import running_api
from worker.keyspace import PATIENCE_S

SLACK_S = 2.0
RECOVERY_S = 10.0
BODY = {"task": "polynomial", "estimator": "reinmax", "steps": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One process of the API for all tests here: each finds it as the trouble before has left it."""
    with (
        running_api(tmp_path_factory.mktemp("api"), redis_url=server.url) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def job_id(api: httpx.Client) -> str:
    """A job from before the trouble."""
    return submit(api)


def submit(api: httpx.Client) -> str:
    return str(api.post("/v1/jobs", json=BODY).raise_for_status().json()["id"])


def requests(job_id: str) -> dict[str, tuple[str, str]]:
    """A request of each kind that needs the store."""
    return {
        "submit": ("POST", "/v1/jobs"),
        "list": ("GET", "/v1/jobs"),
        "get": ("GET", f"/v1/jobs/{job_id}"),
        "cancel": ("POST", f"/v1/jobs/{job_id}/cancel"),
    }


def answers(api: httpx.Client, job_id: str) -> dict[str, httpx.Response]:
    """The answers to all of them at once, each within the time that an answer may take."""

    def ask(method: str, path: str) -> httpx.Response:
        return api.request(method, path, json=BODY if path == "/v1/jobs" and method == "POST" else None)

    with ThreadPoolExecutor(4) as threads:
        futures = {name: threads.submit(ask, *request) for name, request in requests(job_id).items()}
        began = time.monotonic()
        found = {name: future.result() for name, future in futures.items()}
    assert time.monotonic() - began < PATIENCE_S + SLACK_S
    return found


def check(answer: httpx.Response) -> None:
    """It is a problem of the service that passes."""
    problem = ProblemDetails.model_validate_json(answer.content)
    assert (answer.status_code, problem.code) == (503, Kind.UNAVAILABLE.code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Traceback" not in answer.text and "does not serve" in problem.detail


def recovers(api: httpx.Client, job_id: str) -> None:
    """Soon all is as before: the job is there, queued or cancelled by a request that was answered late."""
    deadline = time.monotonic() + RECOVERY_S
    while api.get(f"/v1/jobs/{job_id}").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert api.get(f"/v1/jobs/{job_id}").json()["status"] in ("queued", "cancelled")
    later = submit(api)
    assert {job_id, later} <= {job["id"] for job in api.get("/v1/jobs").json()["data"]}
    assert api.post(f"/v1/jobs/{later}/cancel").json()["status"] == "cancelled"
    assert api.get("/readyz").status_code == 200


def test_a_server_that_hangs(api: httpx.Client, server: OwnServer, job_id: str) -> None:
    server.hang()
    try:
        for answer in answers(api, job_id).values():
            check(answer)
        assert api.get("/livez").status_code == 200
    finally:
        server.go_on()
    recovers(api, job_id)


def test_a_server_that_is_killed_and_comes_back(api: httpx.Client, server: OwnServer, job_id: str) -> None:
    server.kill()
    for answer in answers(api, job_id).values():
        check(answer)
    server.start()
    assert api.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"
    recovers(api, job_id)


def test_a_server_whose_memory_is_full(api: httpx.Client, server: OwnServer, job_id: str) -> None:
    server.tell("CONFIG", "SET", "maxmemory", 1)
    try:
        found = answers(api, job_id)
    finally:
        server.tell("CONFIG", "SET", "maxmemory", 0)
    check(found["submit"])
    assert [found[name].status_code for name in ("list", "get", "cancel")] == [200] * 3, "what needs no memory is done"
    assert api.get(f"/v1/jobs/{job_id}").json()["status"] == found["cancel"].json()["status"] == "cancelled"
    recovers(api, job_id)


def test_a_server_that_is_read_only(api: httpx.Client, server: OwnServer, job_id: str) -> None:
    before = api.get("/v1/jobs").json()
    server.tell("REPLICAOF", "127.0.0.1", 1)
    try:
        found = answers(api, job_id)
    finally:
        server.tell("REPLICAOF", "NO", "ONE")
    check(found["submit"])
    check(found["cancel"])
    assert found["get"].json()["status"] == "queued" and found["list"].json() == before, "what can be read is"
    assert api.get("/v1/jobs").json() == before, "nothing is half-written"
    recovers(api, job_id)


def test_a_submission_that_is_repeated_after_an_outage_makes_one_job(
    api: httpx.Client, server: OwnServer, job_id: str
) -> None:
    before = len(api.get("/v1/jobs").json()["data"])
    request = {"json": BODY, "headers": {"Idempotency-Key": "once"}}
    server.hang()
    try:
        check(api.post("/v1/jobs", **request))  # type: ignore[arg-type]
    finally:
        server.go_on()
    recovers(api, job_id)
    again = [api.post("/v1/jobs", **request).raise_for_status().json()["id"] for _ in range(2)]  # type: ignore[arg-type]
    assert again[0] == again[1]
    # One is from `recovers`.
    assert len(api.get("/v1/jobs").json()["data"]) == before + 2
