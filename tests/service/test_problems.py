"""Every error is a problem, whoever raises it; every answer has an id."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.protocol.guard import LARGEST_BODY_BYTES
from service.protocol.problems import Kind, ProblemDetails
from worker.jobs import Job
from worker.settings import Settings

BODY = {"task": "polynomial", "estimator": "reinmax"}
JSON = {"Content-Type": "application/json"}


def check(answer: httpx.Response, kind: Kind) -> ProblemDetails:
    problem = ProblemDetails.model_validate_json(answer.content)
    assert answer.status_code == problem.status == kind.status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem.code, problem.type, problem.title) == (kind.code, kind.type, kind.title)
    assert problem.instance == answer.request.url.path
    assert problem.request_id == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    return problem


def test_unknown_addresses(http: httpx.Client) -> None:
    check(http.get("/v1/nothing"), Kind.NOT_FOUND)
    check(http.get("/v1/jobs/job_unknown"), Kind.JOB_NOT_FOUND)
    check(http.get("/v1/jobs/" + "x" * 5000), Kind.JOB_NOT_FOUND)


def test_wrong_methods_name_the_right_ones(http: httpx.Client) -> None:
    answer = http.put("/v1/jobs", json={})
    check(answer, Kind.METHOD_NOT_ALLOWED)
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    assert http.post("/docs").headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("body", [b"", b"{", b"{'task': 1}", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_bodies_that_are_no_json(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"3"])
def test_json_that_is_no_object(http: httpx.Client, body: bytes) -> None:
    problem = check(http.post("/v1/jobs", content=body, headers=JSON), Kind.INVALID_REQUEST)
    assert problem.errors is not None
    assert problem.errors[0].pointer == ""
    assert "should be an object" in problem.errors[0].message


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_bodies_of_other_types(http: httpx.Client, media: str) -> None:
    problem = check(http.post("/v1/jobs", content=b"{}", headers={"Content-Type": media}), Kind.UNSUPPORTED_MEDIA_TYPE)
    assert repr(media) in problem.detail


def test_a_charset_does_no_harm(http: httpx.Client) -> None:
    body = b'{"task": "polynomial", "estimator": "reinmax"}'
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == 202


def test_bodies_over_the_limit_with_and_without_an_announced_length(http: httpx.Client) -> None:
    body = b" " * (LARGEST_BODY_BYTES + 1)
    problem = check(http.post("/v1/jobs", content=body, headers=JSON), Kind.BODY_TOO_LARGE)
    assert str(LARGEST_BODY_BYTES) in problem.detail
    parts = (b" " * 65_536 for _ in range(32))
    check(http.post("/v1/jobs", content=parts, headers=JSON), Kind.BODY_TOO_LARGE)


def test_an_id_of_the_client_is_sent_back_and_a_bad_one_replaced(http: httpx.Client) -> None:
    given = http.get("/livez", headers={"X-Request-Id": "trace-42"})
    assert given.headers["X-Request-Id"] == "trace-42"
    for bad in ("x" * 200, "a b", "<script>"):
        assert http.get("/livez", headers={"X-Request-Id": bad}).headers["X-Request-Id"].startswith("req_")
    check(http.get("/nothing", headers={"X-Request-Id": "trace-43"}), Kind.NOT_FOUND)


def test_head_is_get_without_the_body(http: httpx.Client) -> None:
    for path in ("/livez", "/v1/jobs", "/v1/tasks", "/"):
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == http.get(path).headers["Content-Length"]


def settings(folder: Path) -> Settings:
    return Settings(state_dir=folder, host="127.0.0.1")


def call(app: object, method: str, path: str, **request: object) -> httpx.Response:
    """One request to an application in this process."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)  # type: ignore[arg-type]

    return asyncio.run(send())


def test_a_store_that_is_away_is_no_fault_of_the_client(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), redis_url="redis://127.0.0.1:1", wake=lambda job: None)
    for method, path in (("GET", "/v1/jobs"), ("GET", "/v1/workers"), ("GET", "/readyz"), ("GET", "/v1/jobs/job_x")):
        answer = call(app, method, path)
        problem = check(answer, Kind.UNAVAILABLE)
        assert int(answer.headers["Retry-After"]) >= 1
        assert "127.0.0.1:1" in problem.detail
    check(call(app, "POST", "/v1/jobs", json=BODY), Kind.UNAVAILABLE)
    assert call(app, "GET", "/livez").status_code == 200
    assert "reinmax_store_up 0.0" in call(app, "GET", "/metrics").text


def test_a_failing_wake_up_does_not_fail_the_submission(tmp_path: Path, redis_database: str) -> None:
    def broken(job: Job) -> None:
        raise ConnectionError("no broker")

    app = create_app(settings(tmp_path), redis_url=redis_database, wake=broken)
    assert call(app, "POST", "/v1/jobs", json=BODY).status_code == 202


def test_a_fault_of_the_service_is_logged_and_not_shown(
    tmp_path: Path, redis_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings(tmp_path), redis_url=redis_database, wake=lambda job: None)

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        answer = call(app, "GET", "/broken")
    problem = check(answer, Kind.INTERNAL_ERROR)
    assert "secret" not in answer.text
    assert problem.request_id in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text
