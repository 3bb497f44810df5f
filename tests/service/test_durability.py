"""What a 202 is worth: the job is there after kill -9 of the server, and is there once whichever API was asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from tests.service.processes import running_api
from tests.worker.servers import process_of, restarted
from worker.embedded_server import EmbeddedServer

BODY = {"task": "polynomial", "estimator": "reinmax"}
CALLERS = 4
KILLS = 10
ENOUGH = 12


class Callers:
    """Threads that submit jobs until they are turned away, as they should be once the server has been killed."""

    def __init__(self, url: str) -> None:
        self.accepted: list[str] = []
        self.refusals: list[httpx.Response] = []
        self._url = url
        self._threads = [threading.Thread(target=self._submit) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def wait_for_acceptances(self, count: int) -> None:
        while len(self.accepted) < count and any(thread.is_alive() for thread in self._threads):
            time.sleep(0.001)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _submit(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while (answer := client.post("/v1/jobs", json=BODY)).status_code == HTTPStatus.ACCEPTED:
                self.accepted.append(answer.json()["id"])
        self.refusals.append(answer)


def wait_until_ready(http: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while http.get("/readyz").status_code != HTTPStatus.OK:
        assert time.monotonic() < deadline, "the API does not find the server again"
        time.sleep(0.02)


def test_what_was_accepted_is_there_however_often_the_server_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lives.SHORT_LIFE_S", 0.0)
    accepted: list[str] = []
    with (
        EmbeddedServer(tmp_path / "server") as server,
        running_api(tmp_path / "api", redis_url=server.url) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        for turn in range(KILLS):
            process, callers = process_of(server.url), Callers(url)
            callers.wait_for_acceptances(ENOUGH + turn)
            process.kill()
            callers.join()
            assert {(refusal.status_code, "Retry-After" in refusal.headers) for refusal in callers.refusals} == {
                (HTTPStatus.SERVICE_UNAVAILABLE, True)
            }
            restarted(server)
            wait_until_ready(http)
            accepted += callers.accepted
            lost = [job for job in accepted if http.get(f"/v1/jobs/{job}").status_code != HTTPStatus.OK]
            assert lost == []
    assert len(set(accepted)) == len(accepted) >= KILLS * ENOUGH


def submit_at_once(url: str, key: str, times: int) -> list[httpx.Response]:
    with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(times) as threads:
        waiting = [
            threads.submit(client.post, "/v1/jobs", json=BODY, headers={"Idempotency-Key": key}) for _ in range(times)
        ]
        return [answer.result().raise_for_status() for answer in waiting]


def test_a_key_counts_once_however_many_ask_and_whichever_api(redis_database: str, tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    for _ in range(2):
        with running_api(tmp_path, redis_url=redis_database) as url:
            answers += submit_at_once(url, "once", 20)
            other = httpx.post(f"{url}/v1/jobs", json=BODY | {"seed": 1}, headers={"Idempotency-Key": "once"})
            assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
            jobs = httpx.get(f"{url}/v1/jobs").json()["data"]
    assert {answer.json()["id"] for answer in answers} == {job["id"] for job in jobs}
    assert len(jobs) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
