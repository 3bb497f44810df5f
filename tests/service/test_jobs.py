"""`/v1/jobs` over real HTTP: submit, list, look, wait, cancel, delete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from reinmax_core.run import Result
from service.protocol.examples import FULL, SHORT
from tests.worker.samples import ENVIRONMENT, progress, worker
from worker.artifacts import ArtifactStore
from worker.attempt import Attempt
from worker.jobs import Artifact
from worker.store import JobStore

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
