"""`/v1/jobs` over real HTTP: submit, list, look, wait, cancel, pause, resume, retry, delete."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from reinmax_core.run import Result
from service.protocol.examples import FULL, SHORT
from tests.worker.samples import ENVIRONMENT, progress, worker
from tests.worker.states import bring_to
from worker.artifacts import ArtifactStore
from worker.attempt import Attempt, Order
from worker.jobs import Artifact, Failure
from worker.store import JobStore
from worker.submission import Cause

Submit = Callable[..., str]
BODY = {"task": "polynomial", "estimator": "reinmax"}


def started(store: JobStore, job_id: str) -> Attempt:
    claim = store.claim(job_id, worker(), 60.0)
    assert claim is not None
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    return claim.attempt


def succeeded(store: JobStore, job_id: str, *files: Artifact) -> None:
    started(store, job_id).succeed(Result(metrics={"loss": 0.5}, best=None, wall_time_s=1.0), files, progress(100))


def test_a_submitted_job_is_accepted_with_every_default_filled_in(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json=SHORT)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert UUID(job["id"].removeprefix("job_")).version == 7
    assert (job["status"], job["attempt"], job["queue"], job["queue_position"]) == ("queued", 0, "any", 1)
    estimator = {"name": "reinmax", "tau": 1.3, "baseline": "expected", "second_weight": 0.5, "most_weight": None}
    assert job["spec"]["estimator"] == estimator
    assert job["spec"]["task"]["dataset"] == "mnist"
    assert job["spec"]["optimizer"]["lr"] > 0
    assert "epoch" not in job
    assert "version" not in job


def test_the_short_and_the_full_form_mean_the_same(http: httpx.Client) -> None:
    short = {"task": "polynomial", "estimator": "reinmax", "tau": 1.3, "hardware": "cpu"}
    full = {
        "task": {"name": "polynomial"},
        "estimator": {"name": "reinmax", "tau": 1.3},
        "hardware": {"device": "cpu"},
    }
    specs = [http.post("/v1/jobs", json=body).raise_for_status().json() for body in (short, full)]
    assert specs[0]["spec"] == specs[1]["spec"]
    assert specs[0]["hardware"] == specs[1]["hardware"]


def test_a_dry_run_shows_the_job_and_queues_nothing(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", params={"dry_run": "true"}, json=FULL)
    assert answer.status_code == 200
    assert answer.json()["queue"] == "cuda"
    assert answer.json()["labels"] == {"study": "table-2"}
    assert "Location" not in answer.headers
    assert http.get("/v1/jobs").json()["data"] == []


def test_a_job_for_hardware_that_no_worker_has_says_so(http: httpx.Client, submit: Submit) -> None:
    job = http.get(f"/v1/jobs/{submit(hardware='cuda')}").json()
    assert (job["status"], job["status_reason"]["code"]) == ("queued", "no_worker")


class TestIdempotency:
    def test_a_repeated_submission_makes_one_job(self, http: httpx.Client) -> None:
        first, again = (
            http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
            for body, key in ((BODY, '"a key"'), ({**BODY, "estimator": {"name": "reinmax"}}, '"a key"'))
        )
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"

    def test_a_bare_key_is_the_same_as_a_quoted_one(self, http: httpx.Client) -> None:
        ids = {
            http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": key}).json()["id"]
            for key in ("8e03978e-40d5", '"8e03978e-40d5"')
        }
        assert len(ids) == 1

    def test_a_key_for_another_body_is_refused(self, http: httpx.Client) -> None:
        headers = {"Idempotency-Key": "once"}
        http.post("/v1/jobs", json=BODY, headers=headers)
        answer = http.post("/v1/jobs", json=BODY | {"seed": 1}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")

    @pytest.mark.parametrize("key", ["", '""', '"open', "two words", "x" * 256, '"\\n"'])
    def test_a_malformed_key_is_refused(self, http: httpx.Client, key: str) -> None:
        answer = http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


class TestList:
    def test_pages_hold_every_job_once_newest_first(self, http: httpx.Client, submit: Submit) -> None:
        ids = [submit(seed=seed) for seed in range(5)]
        seen: list[str] = []
        url: str | None = "/v1/jobs?limit=2"
        while url:
            answer = http.get(url)
            page = answer.json()
            seen += [job["id"] for job in page["data"]]
            assert page["has_more"] == (page["next_cursor"] is not None) == ("next" in answer.links)
            url = answer.links.get("next", {}).get("url")
        assert seen == ids[::-1]

    def test_filters_hold_together(self, http: httpx.Client, submit: Submit, store: JobStore) -> None:
        wanted = submit(estimator="rloo", labels={"study": "a b&c", "arm": "1"})
        submit(estimator="rloo", labels={"study": "other"})
        submit(labels={"study": "a b&c"})
        params = {"task": "polynomial", "estimator": "rloo", "status": "queued", "label.study": "a b&c"}
        assert [job["id"] for job in http.get("/v1/jobs", params=params).json()["data"]] == [wanted]
        store.cancel(wanted)
        assert http.get("/v1/jobs", params=params).json()["data"] == []

    def test_a_cursor_is_bound_to_its_filters(self, http: httpx.Client, submit: Submit) -> None:
        for seed in range(2):
            submit(seed=seed)
        cursor = http.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
        for params in ({"cursor": cursor, "status": "queued"}, {"cursor": f"{cursor}x"}, {"cursor": "x"}):
            answer = http.get("/v1/jobs", params=params)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


class TestWait:
    def test_an_unchanged_job_is_not_sent_again(self, http: httpx.Client, submit: Submit, store: JobStore) -> None:
        job_id = submit()
        first = http.get(f"/v1/jobs/{job_id}")
        known = {"If-None-Match": first.headers["ETag"]}
        again = http.get(f"/v1/jobs/{job_id}", headers=known)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert int(again.headers["Retry-After"]) >= 1
        started(store, job_id)
        assert http.get(f"/v1/jobs/{job_id}", headers=known).status_code == 200

    def test_a_held_answer_comes_with_the_change(self, http: httpx.Client, submit: Submit, store: JobStore) -> None:
        job_id = submit()
        etag = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
        change = threading.Timer(0.3, started, (store, job_id))
        change.start()
        begin = time.monotonic()
        answer = http.get(f"/v1/jobs/{job_id}", params={"wait": 20}, headers={"If-None-Match": etag})
        change.join()
        assert answer.status_code == 200
        assert answer.json()["status"] in ("starting", "running")
        assert 0.2 < time.monotonic() - begin < 5

    def test_a_held_answer_comes_in_time_without_a_change(self, http: httpx.Client, submit: Submit) -> None:
        job_id = submit()
        etag = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
        begin = time.monotonic()
        answer = http.get(f"/v1/jobs/{job_id}", params={"wait": 0.3}, headers={"If-None-Match": etag})
        assert answer.status_code == 304
        assert http.get(f"/v1/jobs/{job_id}", params={"wait": 0.3}).status_code == 200
        assert 0.6 <= time.monotonic() - begin < 5

    def test_an_answer_at_the_deadline_tells_what_came_without_a_change(
        self, http: httpx.Client, submit: Submit, store: JobStore
    ) -> None:
        ahead, job_id = submit(seed=1), submit(seed=2)
        assert http.get(f"/v1/jobs/{job_id}").json()["queue_position"] == 2
        departure = threading.Timer(0.2, store.cancel, (ahead,))
        departure.start()
        job = http.get(f"/v1/jobs/{job_id}", params={"wait": 1}).json()
        departure.join()
        assert job["queue_position"] == 1

    def test_changes_are_seen_after_the_connection_to_the_store_broke(
        self, http: httpx.Client, submit: Submit, store: JobStore
    ) -> None:
        job_id = submit()
        etag = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
        store.keyspace.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        change = threading.Timer(0.3, started, (store, job_id))
        change.start()
        answer = http.get(f"/v1/jobs/{job_id}", params={"wait": 20}, headers={"If-None-Match": etag})
        change.join()
        assert answer.status_code == 200

    def test_an_ended_job_is_never_held(self, http: httpx.Client, submit: Submit) -> None:
        job_id = submit()
        ended = http.post(f"/v1/jobs/{job_id}/cancel")
        begin = time.monotonic()
        answer = http.get(f"/v1/jobs/{job_id}", params={"wait": 20}, headers={"If-None-Match": ended.headers["ETag"]})
        assert answer.status_code == 304
        assert "Retry-After" not in answer.headers
        assert time.monotonic() - begin < 5


class Bell:
    """The messages to workers that wake them."""

    def __init__(self, store: JobStore, submit: Submit) -> None:
        self._client: Any = store.keyspace.client
        self._submit = submit

    def woken_for(self) -> set[str]:
        """Ids of the jobs that the messages since the last call are about."""
        # They are sent one after the other, beside the requests: with the next one all before it are there.
        last, deadline = self._submit(name="last"), time.monotonic() + 20
        while last not in (woken := set(self._messages())):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self._client.delete(*self._queues())
        return woken - {last}

    def _messages(self) -> Iterator[str]:
        for queue in self._queues():
            for message in self._client.lrange(queue, 0, -1):
                ((job_id,), *_) = json.loads(base64.b64decode(json.loads(message)["body"]))
                yield job_id

    def _queues(self) -> list[str]:
        return [key for key in self._client.scan_iter("reinmax:celery:*") if self._client.type(key) == "list"]


@pytest.fixture
def bell(store: JobStore, submit: Submit) -> Bell:
    return Bell(store, submit)


class TestPause:
    def test_a_queued_job_is_paused_at_once_and_again_for_nothing(
        self, http: httpx.Client, submit: Submit, store: JobStore, bell: Bell
    ) -> None:
        job_id = submit()
        assert bell.woken_for() == {job_id}
        answers = [http.post(f"/v1/jobs/{job_id}/pause") for _ in range(2)]
        for answer in answers:
            job = answer.json()
            assert (answer.status_code, job["status"], job["queue_position"]) == (200, "paused", None)
            assert "resume" in job["status_reason"]["message"]
        assert answers[0].headers["ETag"] == answers[1].headers["ETag"]
        assert bell.woken_for() == set()
        assert [job["id"] for job in http.get("/v1/jobs?status=paused").json()["data"]] == [job_id]

    def test_a_resumed_job_waits_in_its_old_place_and_a_worker_is_woken(
        self, http: httpx.Client, submit: Submit, store: JobStore, bell: Bell
    ) -> None:
        job_id, _ = submit(seed=1), submit(seed=2)
        http.post(f"/v1/jobs/{job_id}/pause")
        bell.woken_for()
        answer = http.post(f"/v1/jobs/{job_id}/resume")
        job = answer.json()
        assert (answer.status_code, job["status"], job["queue_position"]) == (200, "queued", 1)
        assert bell.woken_for() == {job_id}

    def test_a_running_job_is_asked_to_pause_which_can_be_withdrawn(
        self, http: httpx.Client, submit: Submit, store: JobStore, bell: Bell
    ) -> None:
        job_id = submit()
        attempt = started(store, job_id)
        bell.woken_for()
        job = http.post(f"/v1/jobs/{job_id}/pause").json()
        assert (job["status"], job["status_reason"]["code"]) == ("running", "pause_requested")
        assert attempt.beat(60) is Order.PAUSE
        job = http.post(f"/v1/jobs/{job_id}/resume").json()
        assert (job["status"], job["status_reason"]) == ("running", None)
        assert attempt.beat(60) is Order.CONTINUE
        assert bell.woken_for() == set(), "it has its worker"


class TestRetry:
    def test_a_failed_job_waits_again_with_all_its_attempts(
        self, http: httpx.Client, submit: Submit, store: JobStore, bell: Bell
    ) -> None:
        job_id = submit(max_attempts=1)
        started(store, job_id).fail(Cause.LOST, Failure(type="SIGKILL", message="killed"))
        failed = http.get(f"/v1/jobs/{job_id}").json()
        assert (failed["status"], failed["attempt"], failed["error"]["type"]) == ("failed", 1, "SIGKILL")
        bell.woken_for()
        answer = http.post(f"/v1/jobs/{job_id}/retry")
        job = answer.json()
        assert (answer.status_code, job["status"], job["attempt"]) == (200, "queued", 0)
        assert (job["error"], job["finished_at"]) == (None, None)
        assert bell.woken_for() == {job_id}
        again = http.post(f"/v1/jobs/{job_id}/retry")
        assert (again.status_code, again.json()["job_status"]) == (409, "queued")

    def test_a_cancelled_job_waits_again(self, http: httpx.Client, submit: Submit) -> None:
        job_id = submit()
        http.post(f"/v1/jobs/{job_id}/cancel")
        assert http.post(f"/v1/jobs/{job_id}/retry").json()["status"] == "queued"


def test_the_limits_by_cause_are_shown_in_full(http: httpx.Client) -> None:
    body = BODY | {"max_attempts": 4, "max_attempts_by_cause": {"error": 2}}
    for params in ({}, {"dry_run": "true"}):
        limits = http.post("/v1/jobs", params=params, json=body).json()["max_attempts_by_cause"]
        assert limits == {"error": 2, "oom": 4, "timeout": 1, "lost": 4, "diverged": 1}


REFUSED: Final = {
    "cancel": ("succeeded", "failed"),
    "pause": ("running/cancel", "succeeded", "failed", "cancelled"),
    "resume": ("queued", "starting", "running", "running/cancel", "succeeded", "failed", "cancelled"),
    "retry": ("queued", "starting", "running", "running/pause", "paused", "succeeded"),
}
"""Where a job may stand so that a request is refused."""


@pytest.mark.parametrize(
    ("action", "standing"), [(action, standing) for action, refusing in REFUSED.items() for standing in refusing]
)
def test_what_the_state_does_not_allow_changes_nothing_and_names_the_state(
    http: httpx.Client, submit: Submit, store: JobStore, bell: Bell, action: str, standing: str
) -> None:
    job_id = submit()
    bring_to(store, job_id, standing)
    bell.woken_for()
    before = http.get(f"/v1/jobs/{job_id}")
    answer = http.post(f"/v1/jobs/{job_id}/{action}")
    problem, state = answer.json(), standing.partition("/")[0]
    assert (answer.status_code, problem["code"], problem["job_status"]) == (409, "invalid_state", state)
    assert f"Job {job_id} is {state}" in problem["detail"] and f"cannot be {action[:4]}" in problem["detail"]
    assert http.get(f"/v1/jobs/{job_id}").content == before.content
    assert bell.woken_for() == set()


@pytest.mark.parametrize("action", REFUSED)
def test_a_job_that_does_not_exist_is_told(http: httpx.Client, action: str) -> None:
    answer = http.post(f"/v1/jobs/job_none/{action}")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


class TestEnd:
    def test_a_queued_job_is_cancelled_at_once_and_again_for_nothing(self, http: httpx.Client, submit: Submit) -> None:
        job_id = submit()
        for _ in range(2):
            answer = http.post(f"/v1/jobs/{job_id}/cancel")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")

    def test_a_running_job_is_asked_to_end(self, http: httpx.Client, submit: Submit, store: JobStore) -> None:
        job_id = submit()
        started(store, job_id)
        job = http.post(f"/v1/jobs/{job_id}/cancel").json()
        assert (job["status"], job["status_reason"]["code"]) == ("running", "cancel_requested")

    def test_what_the_state_does_not_allow_names_the_state(
        self, http: httpx.Client, submit: Submit, store: JobStore
    ) -> None:
        running, done = submit(seed=1), submit(seed=2)
        started(store, running)
        succeeded(store, done)
        for call, state in (
            (http.post(f"/v1/jobs/{done}/cancel"), "succeeded"),
            (http.delete(f"/v1/jobs/{running}"), "running"),
        ):
            problem = call.json()
            assert (call.status_code, problem["code"], problem["job_status"]) == (409, "invalid_state", state)

    def test_a_deleted_job_is_gone_with_its_files(
        self, http: httpx.Client, submit: Submit, store: JobStore, artifacts: ArtifactStore
    ) -> None:
        job_id = submit()
        artifacts.put(job_id, 1, "model.safetensors", b"weights")
        succeeded(store, job_id, Artifact(name="model.safetensors", bytes=7, sha256="0" * 64))
        answer = http.delete(f"/v1/jobs/{job_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        for path in ("", "/metrics", "/logs", "/artifacts", "/artifacts/model.safetensors"):
            gone: Any = http.get(f"/v1/jobs/{job_id}{path}")
            assert (gone.status_code, gone.json()["code"]) == (404, "job_not_found")
        with pytest.raises(FileNotFoundError):
            artifacts.size(f"{job_id}/1/model.safetensors")
