"""`/v1/sweeps` over real HTTP: submit, preview, list, look, wait, cancel, retry, extend, delete; and a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.protocol.examples import GRID, SWEEPS
from tests.service.processes import running_api
from tests.service.test_jobs import started, succeeded
from tests.worker.states import bring
from worker.artifacts import ArtifactStore
from worker.jobs import Artifact, State
from worker.store import JobStore

BASE = {"task": "polynomial", "estimator": "reinmax", "steps": 60}
SMALL = {"base": BASE, "grid": {"tau": [1.0, 1.5]}, "seeds": 2}


def submitted(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = http.post("/v1/sweeps", json=SMALL | fields).raise_for_status().json()
    return found


def jobs_of(http: httpx.Client, sweep_id: str) -> list[str]:
    return [job["id"] for job in http.get("/v1/jobs", params={"sweep": sweep_id, "limit": 200}).json()["data"]][::-1]


def mistakes(http: httpx.Client, body: object) -> dict[str, str]:
    """Messages by pointer of a request that is refused, with which nothing is started."""
    answer = http.post("/v1/sweeps", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert http.get("/v1/sweeps").json()["data"] == http.get("/v1/jobs").json()["data"] == []
    return {mistake["pointer"]: mistake["message"] for mistake in answer.json()["errors"]}


class TestSubmit:
    def test_a_sweep_is_accepted_with_all_of_its_jobs(self, http: httpx.Client) -> None:
        answer = http.post("/v1/sweeps", json=GRID)
        sweep = answer.json()
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/v1/sweeps/{sweep['id']}"
        assert (sweep["cells"], sweep["jobs"], sweep["counts"]) == (15, 150, {"queued": 150})
        assert sweep["select"] == {"over": GRID["select"]["over"], "metric": "expected_loss", "direction": "min"}  # type: ignore[index]
        assert sweep["request"] == GRID
        assert "version" not in sweep
        assert http.get(answer.headers["Location"]).json() == sweep
        job = http.get(f"/v1/jobs/{jobs_of(http, sweep['id'])[-1]}").json()
        assert (job["sweep"], job["cell"], job["labels"]) == (sweep["id"], 14, {"study": "rates"})

    def test_a_repeated_submission_makes_one_sweep(self, http: httpx.Client) -> None:
        headers = {"Idempotency-Key": '"a key"'}
        first, again = (http.post("/v1/sweeps", json=SMALL, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        other = http.post("/v1/sweeps", json=SMALL | {"seeds": 3}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        assert len(http.get("/v1/jobs").json()["data"]) == 4

    @pytest.mark.parametrize("name", SWEEPS)
    def test_a_preview_says_what_there_would_be_and_starts_nothing(self, http: httpx.Client, name: str) -> None:
        answer = http.post("/v1/sweeps", params={"dry_run": True}, json=SWEEPS[name]["value"])
        found = answer.json()
        assert answer.status_code == 200, answer.text
        assert "Location" not in answer.headers
        assert found["jobs"] == found["cells"] * len(found["seeds"]) or found["cells"] == 0
        assert (found["estimated_s"], "nothing is known" in found["estimate"]) == (None, True)
        assert http.get("/v1/sweeps").json()["data"] == http.get("/v1/jobs").json()["data"] == []

    def test_a_preview_shows_the_first_cells(self, http: httpx.Client) -> None:
        found = http.post("/v1/sweeps", params={"dry_run": True}, json=GRID).json()
        assert (found["cells"], found["jobs"], found["steps"], len(found["first"])) == (15, 150, 300_000, 5)
        first = found["first"][0]
        assert first["coordinates"] == {"estimator": "reinmax", "estimator.tau": 1.0, "optimizer.lr": 0.0001}
        assert (first["spec"]["estimator"]["tau"], first["spec"]["optimizer"]["lr"]) == (1.0, 0.0001)


class TestMistakes:
    def test_all_invalid_cells_are_listed_where_they_are_written(self, http: httpx.Client) -> None:
        found = mistakes(http, {"base": BASE, "grid": {"tau": [1, -1, 2, 0.5], "task.batch": [64, 0]}})
        assert list(found) == ["/grid/task.batch/1", "/grid/tau/1", "/grid/tau/3"]
        assert found["/grid/tau/1"] == "tau should be greater than or equal to 1; found -1 (cells 2, 3)"
        assert found["/grid/task.batch/1"].endswith("found 0 (cells 1, 3, 5 and 1 others)")

    def test_a_pair_that_does_not_fit_is_named(self, http: httpx.Client) -> None:
        found = mistakes(http, {"base": BASE, "grid": {"estimator": ["rloo", "exact"], "task.batch": [1, 64]}})
        assert found == {
            "/grid/estimator/0": "batch is 1 cost evaluations a step, but 'rloo' takes 4 at a time; choose a batch of "
            'at least 4 (cell 0: estimator "rloo", task.batch 1)'
        }

    @pytest.mark.parametrize(
        ("body", "pointer", "message"),
        [
            ({"base": BASE, "grid": {"gird": [1]}}, "/grid/gird", 'unknown field "gird"; those that exist are:'),
            ({"base": BASE, "grid": {"a/b~c": [1]}}, "/grid/a~1b~0c", 'unknown field "a/b~c"'),
            ({"base": BASE, "gird": {}}, "/gird", 'did you mean "grid"?'),
            ({"base": BASE, "tau": 1.5}, "/tau", 'belongs inside base: {"base": {"tau": ...}}'),
            ({"base": {"task": "polynomail"}}, "/base/task", 'did you mean "polynomial"?'),
            ({}, "/base/estimator", "estimator is missing"),
            ({"base": BASE | {"stpes": 3}}, "/base/stpes", 'did you mean "steps"?'),
            ({"base": BASE | {"seed": 3}}, "/base/seed", "the seeds of a sweep stand in `seeds`"),
            ({"base": BASE | {"tau": 0}, "grid": {"steps": [1, 2]}}, "/base/tau", "found 0"),
            ({"base": BASE, "grid": {"tau": {"from": 0, "to": 1, "count": 3}}}, "/grid/tau", "equal to 1; found 0"),
            ({"base": BASE, "grid": {"tau": {"from": 1, "to": 2}}}, "/grid/tau", "either a count or a step"),
            ({"base": BASE, "grid": {"tau": {"from": 1, "too": 2}}}, "/grid/tau/too", 'did you mean "to"?'),
            ({"base": BASE, "grid": {"tau": 5}}, "/grid/tau", "should be a valid list; found 5"),
            ({"base": BASE, "grid": "all"}, "/grid", 'should be a valid dictionary; found "all"'),
            ({"base": BASE, "grid": []}, "/grid", "at least 1 item after validation, not 0; found []"),
            ({"base": BASE, "grid": [{"tau": 5}]}, "/grid/0/tau", "should be a valid list; found 5"),
            ({"base": BASE, "grid": [{}, {"gird": [1]}]}, "/grid/1/gird", 'unknown field "gird"; those that exist'),
            ({"base": BASE, "grid": [{"tau": [2]}, {"tau": [3, 0]}]}, "/grid/1/tau/1", "found 0 (cell 2: tau 0)"),
            ({"base": BASE, "grid": {"estimator": [{"name": "reinmax", "tua": 1}]}}, "/grid/estimator/0/tua", '"tau"?'),
            ({"base": BASE, "seeds": [1, -2]}, "/seeds/1", "greater than or equal to 0; found -2"),
            ({"base": BASE, "seeds": [1, 1]}, "/seeds/1", "seed 1 stands here a second time"),
            ({"base": BASE, "seeds": "ten"}, "/seeds", 'should be a valid integer; found "ten"'),
            ({"base": BASE, "select": {"over": ["tau"]}}, "/select/over/0", 'there is no axis "tau"'),
            ({"base": BASE, "labels": {"a b": "c"}}, "/labels/a b", "a b should match"),
            ({"preset": "table-22"}, "/preset", 'did you mean "table-2"?'),
            ({"preset": ""}, "/preset", "table-2"),
            ({"base": BASE, "grid": {"task": [None, "polynomial"]}}, "/grid/task/0", "(cell 0: task null)"),
            ([], "", "body should be an object; found []"),
        ],
    )
    def test_each_is_told_where_it_stands(self, http: httpx.Client, body: Any, pointer: str, message: str) -> None:
        assert message in mistakes(http, body)[pointer]

    def test_a_hundred_are_listed_and_the_rest_counted(self, http: httpx.Client) -> None:
        taus = [-number for number in range(1, 151)]
        answer = http.post("/v1/sweeps", json={"base": BASE, "grid": {"tau": taus}}).json()
        assert len(answer["errors"]) == 100
        assert answer["detail"] == "There are 150 mistakes; `errors` lists them, but for 50."

    def test_a_body_that_is_no_json_is_refused(self, http: httpx.Client) -> None:
        answer = http.post("/v1/sweeps", content=b"{", headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
        assert http.post("/v1/sweeps", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415

    def test_limits_and_missing_data_are_told(self, redis_database: str, tmp_path: Path) -> None:
        settings = {"redis_url": redis_database, "sweep_limit": "5", "data_dir": str(tmp_path / "none")}
        with running_api(tmp_path, **settings) as url, httpx.Client(base_url=url, timeout=30) as http:
            found = mistakes(http, SMALL | {"seeds": 3})
            assert "6 jobs, but a sweep may have 5" in found[""] and "REINMAX_SWEEP_LIMIT" in found[""]
            sweep = submitted(http)
            answer = http.post(f"/v1/sweeps/{sweep['id']}/extend", json={"seeds": 3})
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/seeds")
        settings |= {"sweep_limit": "1000"}
        with running_api(tmp_path, **settings) as url, httpx.Client(base_url=url, timeout=30) as http:
            missing = http.post("/v1/sweeps", json={"preset": "table-4"})
            assert (missing.status_code, missing.json()["code"]) == (422, "data_missing")
            (mistake,) = missing.json()["errors"]
            assert mistake["pointer"] == "/preset"
            assert "nats_bench" in mistake["message"] and "set REINMAX_DATA_MIRROR" in mistake["message"]


class TestLook:
    def test_pages_hold_every_sweep_once_newest_first(self, http: httpx.Client) -> None:
        made = [submitted(http)["id"] for _ in range(5)]
        seen: list[str] = []
        url: str | None = "/v1/sweeps?limit=2"
        while url:
            answer = http.get(url)
            page = answer.json()
            seen += [sweep["id"] for sweep in page["data"]]
            assert page["has_more"] == (page["next_cursor"] is not None) == ("next" in answer.links)
            url = answer.links.get("next", {}).get("url")
        assert seen == made[::-1]
        answer = http.get("/v1/sweeps", params={"cursor": "x"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    def test_an_unknown_one_is_not_found(self, http: httpx.Client) -> None:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
            answer = http.request(method, f"/v1/sweeps/sweep_none{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "sweep_not_found")
        assert http.post("/v1/sweeps/sweep_none/extend", json={"seeds": 3}).status_code == 404

    def test_an_unchanged_sweep_is_not_sent_again(self, http: httpx.Client, store: JobStore) -> None:
        path = f"/v1/sweeps/{submitted(http)['id']}"
        first = http.get(path)
        known = {"If-None-Match": first.headers["ETag"]}
        again = http.get(path, headers=known)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert int(again.headers["Retry-After"]) >= 1
        store.cancel(jobs_of(http, first.json()["id"])[0])
        assert http.get(path, headers=known).json()["counts"] == {"queued": 3, "cancelled": 1}

    def test_waiting_ends_with_the_next_change_of_a_job(self, http: httpx.Client, store: JobStore) -> None:
        sweep = submitted(http)
        (job_id, *_) = jobs_of(http, sweep["id"])
        worker = threading.Timer(0.3, started, [store, job_id])
        worker.start()
        answer = http.get(f"/v1/sweeps/{sweep['id']}", params={"wait": 20})
        worker.join()
        assert answer.json()["status"] == "running"

    def test_one_that_has_ended_is_answered_at_once(self, http: httpx.Client) -> None:
        sweep = submitted(http)
        http.post(f"/v1/sweeps/{sweep['id']}/cancel")
        answer = http.get(f"/v1/sweeps/{sweep['id']}", params={"wait": 20})
        assert (answer.json()["status"], answer.json()["percent"]) == ("cancelled", 100)
        assert answer.json()["finished_at"] is not None
        assert "Retry-After" not in answer.headers


class TestChange:
    def test_cancelling_and_retrying(self, http: httpx.Client, store: JobStore) -> None:
        path = f"/v1/sweeps/{submitted(http)['id']}"
        first, second, *_ = jobs_of(http, path.rpartition("/")[2])
        succeeded(store, first)
        bring(store, second, State.FAILED)
        for _ in range(2):
            assert http.post(f"{path}/cancel").json()["counts"] == {"succeeded": 1, "failed": 1, "cancelled": 2}
        for _ in range(2):
            answer = http.post(f"{path}/retry")
            assert (answer.status_code, answer.json()["counts"]) == (200, {"succeeded": 1, "queued": 3})

    def test_extending(self, http: httpx.Client) -> None:
        path = f"/v1/sweeps/{submitted(http)['id']}"
        for _ in range(2):
            sweep = http.post(f"{path}/extend", json={"seeds": 3}).json()
            assert (sweep["seeds"], sweep["jobs"]) == ([0, 1, 2], 6)
        sweep = http.post(f"{path}/extend", json={"seeds": [9, 1]}).json()
        assert (sweep["seeds"], sweep["jobs"], sweep["counts"]) == ([0, 1, 2, 9], 8, {"queued": 8})
        for body in ({}, {"seeds": 0}, {"seeds": [1], "more": 2}):
            assert http.post(f"{path}/extend", json=body).status_code == 422

    def test_a_seed_that_is_named_twice_is_refused(self, http: httpx.Client) -> None:
        path = f"/v1/sweeps/{submitted(http)['id']}"
        answer = http.post(f"{path}/extend", json={"seeds": [5, 5, 6]})
        (mistake,) = answer.json()["errors"]
        assert (answer.status_code, mistake["pointer"]) == (422, "/seeds/1")
        assert "seed 5 stands here a second time" in mistake["message"]
        assert http.get(path).json()["jobs"] == 4

    def test_deleting_removes_jobs_and_files(
        self, http: httpx.Client, store: JobStore, artifacts: ArtifactStore, artifacts_dir: Path
    ) -> None:
        sweep = submitted(http)
        path = f"/v1/sweeps/{sweep['id']}"
        (job_id, *_) = jobs_of(http, sweep["id"])
        artifacts.put(job_id, 1, "model.safetensors", b"model")
        succeeded(store, job_id, Artifact(name="model.safetensors", bytes=5, sha256="0" * 64))
        refused = http.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
        assert refused.json()["job_status"] == "running"
        http.post(f"{path}/cancel")
        assert http.delete(path).status_code == 204
        assert http.get(path).status_code == 404
        assert http.get("/v1/jobs").json()["data"] == []
        assert not (artifacts_dir / job_id).exists()


@contextmanager
def running_worker(redis_url: str, artifacts_dir: Path, state_dir: Path) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REINMAX_")}
    environment |= {
        "REINMAX_REDIS_URL": redis_url,
        "REINMAX_ARTIFACTS_URL": str(artifacts_dir),
        "REINMAX_STATE_DIR": str(state_dir),
        "OMP_NUM_THREADS": "1",
    }
    worker = subprocess.Popen([sys.executable, "-m", "worker", "--device", "cpu"], env=environment)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(30)


def test_a_worker_trains_a_sweep_to_its_end(
    http: httpx.Client, redis_database: str, artifacts_dir: Path, tmp_path: Path
) -> None:
    body = {"base": BASE, "grid": {"estimator": ["reinmax", "straight_through"]}, "seeds": 2}
    with running_worker(redis_database, artifacts_dir, tmp_path):
        path = f"/v1/sweeps/{http.post('/v1/sweeps', json=body).json()['id']}"
        answer = http.get(path)
        while answer.json()["finished_at"] is None:
            answer = http.get(path, params={"wait": 20}, headers={"If-None-Match": answer.headers["ETag"]})
            answer = http.get(path) if answer.status_code == 304 else answer
    sweep = answer.json()
    assert (sweep["status"], sweep["percent"], sweep["counts"]) == ("succeeded", 100, {"succeeded": 4})
    results = [http.get(f"/v1/jobs/{job_id}").json()["result"] for job_id in jobs_of(http, sweep["id"])]
    assert len({result["metrics"]["expected_loss"] for result in results}) == 4
    preview = http.post("/v1/sweeps", params={"dry_run": True}, json=body | {"seeds": 20}).json()
    assert preview["estimated_s"] > 0
    assert "the median time of a step" in preview["estimate"]
