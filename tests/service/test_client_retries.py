"""What the typed client does where requests or answers get lost, between it and the real API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from service.client import Client
from service.client.errors import (
    InvalidRequest,
    Overloaded,
)
from tests.service.unreliable import Answer, flaky
from tests.worker.states import bring_to, standing_of
from worker.jobs import State
from worker.store import JobStore

SHORT = {"task": "polynomial", "estimator": "reinmax"}


@pytest.fixture
def client(api_url: str, redis_database: str) -> Iterator[Client]:
    with Client(api_url) as client:
        yield client


class Loses:
    """Passes requests on to the API, but loses the first change of a job, or its answer."""

    def __init__(self, api_url: str, loses: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._api_url, self._loses, self._meanwhile = api_url, loses, meanwhile
        self.changes = 0

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        is_first_change = request.command == "POST" and not self.changes
        self.changes += request.command == "POST"
        if is_first_change and self._loses == "request":
            return None
        answer = httpx.request(request.command, f"{self._api_url}{request.path}", content=body)
        if is_first_change:
            self._meanwhile()
            return (503, {}, PROBLEM) if self._loses == "answer to an outage" else None
        return answer.status_code, {"Content-Type": answer.headers["Content-Type"]}, answer.content


PROBLEM = b'{"title": "Busy", "status": 503, "detail": "come back", "code": "unavailable", "request_id": "r1"}'


class TestRetries:
    def test_a_submission_whose_answer_is_lost_makes_one_job(self, api_url: str, client: Client) -> None:
        losses = iter([True, False])

        def forward(request: BaseHTTPRequestHandler, body: bytes) -> Answer:
            headers = {name: request.headers[name] for name in ("Content-Type", "Idempotency-Key")}
            answer = httpx.post(f"{api_url}{request.path}", content=body, headers=headers)
            return None if next(losses) else (answer.status_code, {}, answer.content)

        with flaky(forward) as (url, seen), Client(url) as unlucky:
            job = unlucky.submit(SHORT)
        assert list(client.list()) == [job]
        assert len(seen) == 2

    @pytest.mark.parametrize("loses", ["request", "answer", "answer to an outage"])
    @pytest.mark.parametrize(("action", "before", "after"), [
        ("cancel", "running", "running/cancel"),
        ("pause", "queued", "paused"),
        ("pause", "running", "running/pause"),
        ("resume", "paused", "queued"),
        ("resume", "running/pause", "running"),
        ("retry", "failed", "queued"),
        ("retry", "cancelled", "queued"),
    ])  # fmt: skip
    def test_a_change_whose_answer_is_lost_is_made_once(
        self, api_url: str, client: Client, store: JobStore, action: str, before: str, after: str, loses: str
    ) -> None:
        job_id = client.submit(SHORT).id
        bring_to(store, job_id, before)
        script = Loses(api_url, loses)
        with flaky(script) as (url, _), Client(url) as unlucky:
            job = getattr(unlucky, action)(job_id)
        assert standing_of(store, job_id) == after and job == client.get(job_id)
        is_repeated = loses == "request" or action in ("cancel", "pause")
        assert script.changes == 1 + is_repeated

    def test_a_job_that_failed_again_before_its_retry_was_answered_is_not_retried_twice(
        self, api_url: str, client: Client, store: JobStore
    ) -> None:
        job_id = client.submit(SHORT).id
        bring_to(store, job_id, "failed")
        script = Loses(api_url, "answer", meanwhile=lambda: bring_to(store, job_id, "failed"))
        with flaky(script) as (url, _), Client(url) as unlucky:
            job = unlucky.retry(job_id)
        assert (job.status, job.epoch, script.changes) == (State.FAILED, client.get(job_id).epoch, 1)

    def test_the_wish_of_the_service_is_honoured(self, client: Client) -> None:
        job = client.submit(SHORT)
        answers: Iterator[Answer] = iter(
            [(503, {"Retry-After": "1"}, PROBLEM), None, (202, {}, job.model_dump_json().encode())]
        )
        began = time.monotonic()
        with flaky(lambda request, body: next(answers)) as (url, seen), Client(url) as patient:
            assert patient.submit(SHORT).id == job.id
        assert 1.0 <= time.monotonic() - began < 5
        assert len({headers["Idempotency-Key"] for headers in seen}) == 1
        assert len(seen) == 3

    def test_patience_has_an_end(self) -> None:
        busy: Answer = (503, {"Retry-After": "60"}, PROBLEM)
        with flaky(lambda request, body: busy) as (url, seen), Client(url, patience_s=5) as client:
            with pytest.raises(Overloaded, match="come back") as refusal:
                client.submit(SHORT)
            assert "r1" in str(refusal.value)
        assert len(seen) == 1

    def test_mistakes_are_not_repeated(self) -> None:
        wrong: Answer = (422, {}, PROBLEM.replace(b"503", b"422"))
        with flaky(lambda request, body: wrong) as (url, seen), Client(url) as client, pytest.raises(InvalidRequest):
            client.submit(SHORT)
        assert len(seen) == 1
