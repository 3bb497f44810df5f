"""Requests that are well-formed and wrong: ids that do not exist, states that do not allow it, bad records."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.protocol.problems import Kind, ProblemDetails
from tests.worker.states import bring
from worker.jobs import State
from worker.settings import Settings
from worker.store import JobStore

Submit = Callable[..., str]
ACTIONS = ("cancel", "pause", "resume", "retry", "delete")
ALLOWED = {
    "cancel": {"queued", "starting", "running", "paused", "cancelled"},
    "pause": {"queued", "starting", "running", "paused"},
    "resume": {"paused"},
    "retry": {"failed", "cancelled"},
    "delete": {"succeeded", "failed", "cancelled"},
}


def operations() -> list[tuple[str, str]]:
    """Every method and path that names a job, read off the application."""
    app = create_app(
        Settings(state_dir=Path("nowhere"), host="127.0.0.1"), redis_url="redis://127.0.0.1:1", wake=lambda job: None
    )
    paths: dict[str, Any] = app.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() if "{job_id}" in path for method in methods]


def problem_in(answer: httpx.Response, kind: Kind) -> ProblemDetails:
    problem = ProblemDetails.model_validate_json(answer.content)
    assert (answer.status_code, problem.code) == (kind.status, kind.code)
    return problem


def act(http: httpx.Client, job_id: str, action: str) -> httpx.Response:
    return http.delete(f"/v1/jobs/{job_id}") if action == "delete" else http.post(f"/v1/jobs/{job_id}/{action}")


def test_a_job_that_does_not_exist_is_not_found_wherever_its_id_is_asked_for(http: httpx.Client) -> None:
    found = operations()
    assert {("delete", "/v1/jobs/{job_id}"), ("get", "/v1/jobs/{job_id}/metrics")} <= set(found)
    for method, path in found:
        for job_id in ("job_01993b5e7c6f7a3d8b1c2d3e4f506172", "job_unknown", "*", "%00", "é"):
            address = path.replace("{job_id}", job_id).replace("{name}", "x").replace("{name:path}", "x")
            problem = problem_in(http.request(method, address), Kind.JOB_NOT_FOUND)
            assert "may have been deleted" in problem.detail


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", list(State))
def test_an_action_that_a_state_does_not_allow_names_the_state(
    http: httpx.Client, submit: Submit, store: JobStore, action: str, state: State
) -> None:
    job_id = submit()
    bring(store, job_id, state)
    answer = act(http, job_id, action)
    if state.value in ALLOWED[action]:
        assert answer.is_success
        return
    problem = problem_in(answer, Kind.INVALID_STATE)
    assert problem.job_status == state.value
    assert state.value in problem.detail
    assert store.get(job_id).status is state


def forged(cursor: str) -> list[str]:
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    other = base64.urlsafe_b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).rstrip(b"=").decode()
    return [other, cursor[:-4], cursor[::-1], cursor + "=", "=", " ", "\x00", "🙂", "x" * 200, "[", "job_x"]


def test_cursors_that_were_tampered_with_are_refused(http: httpx.Client, submit: Submit) -> None:
    for seed in range(3):
        submit(seed=seed)
    cursor = http.get("/v1/jobs", params={"limit": 1}).json()["next_cursor"]
    for bad in forged(cursor):
        problem = problem_in(http.get("/v1/jobs", params={"limit": 1, "cursor": bad}), Kind.INVALID_CURSOR)
        assert "leave the cursor out" in problem.detail
    problem_in(http.get("/v1/jobs", params={"cursor": "x" * 201}), Kind.INVALID_REQUEST)


@pytest.mark.parametrize(("action", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_is_done_to_a_job_that_cannot_be_read_is_told(
    http: httpx.Client, submit: Submit, store: JobStore, action: str, state: str
) -> None:
    job_id = submit()
    store.keyspace.client.hset(f"reinmax:job:{job_id}", "format", "3")
    problem = problem_in(act(http, job_id, action), Kind.RECORD_UNREADABLE)
    assert "format is 3" in problem.detail or "format 3" in problem.detail
    assert f"the request to {action} it has been carried out" in problem.detail
    assert store.keyspace.client.hget(f"reinmax:job:{job_id}", "status") == state
    again = problem_in(act(http, job_id, "retry" if action == "pause" else "resume"), Kind.RECORD_UNREADABLE)
    assert "carried out" not in again.detail


def test_a_record_of_a_newer_version_is_told_left_out_of_lists_and_can_be_deleted(
    http: httpx.Client, submit: Submit, store: JobStore
) -> None:
    job_id, other = submit(), submit()
    store.cancel(job_id)
    store.keyspace.client.hset(f"reinmax:job:{job_id}", "format", "3")
    for answer in (
        http.get(f"/v1/jobs/{job_id}"),
        act(http, job_id, "retry"),
        http.get(f"/v1/jobs/{job_id}/artifacts"),
    ):
        problem = problem_in(answer, Kind.RECORD_UNREADABLE)
        assert job_id in problem.detail and "format 3" in problem.detail and "cancel and delete it" in problem.detail
    assert [job["id"] for job in http.get("/v1/jobs").json()["data"]] == [other]
    assert http.get("/readyz").status_code == 200
    assert act(http, job_id, "delete").status_code == 204
    problem_in(http.get(f"/v1/jobs/{job_id}"), Kind.JOB_NOT_FOUND)
