"""Metrics, logs and artefacts of jobs over real HTTP."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.service.test_jobs import started, succeeded
from tests.worker.samples import progress
from worker.artifacts import ArtifactStore
from worker.jobs import Artifact
from worker.series import Series
from worker.store import JobStore

Submit = Callable[..., str]
MODEL = bytes(range(256)) * 3000
NAME = "model.safetensors"


@pytest.fixture
def trained(submit: Submit, store: JobStore) -> str:
    """A job with metrics, a log, and no result yet."""
    job_id = submit()
    attempt = started(store, job_id)
    loss = [1.0 / (step + 1) for step in range(1000)]
    loss[500], loss[700] = 9.0, -9.0
    series = {"loss": Series(list(range(1, 1001)), loss), "expected_loss": Series([500, 1000], [0.5, 0.25])}
    attempt.report(series, progress(100), {"loss": loss[-1]})
    attempt.log("epoch 1\n")
    attempt.log("épochè 2\n")
    return job_id


@pytest.fixture
def model(submit: Submit, store: JobStore, artifacts: ArtifactStore) -> str:
    """Address of an artefact."""
    job_id = submit()
    artifacts.put(job_id, 1, NAME, MODEL)
    succeeded(store, job_id, Artifact(name=NAME, bytes=len(MODEL), sha256=hashlib.sha256(MODEL).hexdigest()))
    return f"/v1/jobs/{job_id}/artifacts/{NAME}"


class TestMetrics:
    def test_all_series_are_sent_whole(self, http: httpx.Client, trained: str) -> None:
        series = http.get(f"/v1/jobs/{trained}/metrics").json()["series"]
        assert series["expected_loss"] == {"step": [500, 1000], "value": [0.5, 0.25]}
        assert series["loss"]["step"] == list(range(1, 1001))

    @pytest.mark.parametrize(
        "query", ["series=expected_loss", "series=expected_loss,other", "series=a&series=expected_loss"]
    )
    def test_series_are_chosen_by_name(self, http: httpx.Client, trained: str, query: str) -> None:
        assert list(http.get(f"/v1/jobs/{trained}/metrics?{query}").json()["series"]) == ["expected_loss"]

    def test_thinned_out_curves_keep_ends_and_extremes(self, http: httpx.Client, trained: str) -> None:
        series = http.get(f"/v1/jobs/{trained}/metrics?max_points=20").json()["series"]
        steps, values = series["loss"]["step"], series["loss"]["value"]
        assert len(steps) <= 20
        assert (steps[0], steps[-1]) == (1, 1000)
        assert {501, 701} <= set(steps)
        assert (max(values), min(values)) == (9.0, -9.0)
        assert len(series["expected_loss"]["step"]) == 2

    def test_a_table_has_a_row_a_step(self, http: httpx.Client, trained: str) -> None:
        answer = http.get(f"/v1/jobs/{trained}/metrics?format=csv")
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert f"{trained}.csv" in answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(rows) == 1000
        assert (rows[499]["step"], rows[499]["expected_loss"], rows[498]["expected_loss"]) == ("500", "0.5", "")

    def test_values_that_are_not_finite_are_null(self, http: httpx.Client, submit: Submit, store: JobStore) -> None:
        job_id = submit()
        started(store, job_id).report({"loss": Series([1, 2], [0.5, float("nan")])}, progress(2), {})
        series = json.loads(http.get(f"/v1/jobs/{job_id}/metrics").content, parse_constant=pytest.fail)["series"]
        assert series["loss"]["value"] == [0.5, None]


def test_a_log_is_text(http: httpx.Client, trained: str) -> None:
    answer = http.get(f"/v1/jobs/{trained}/logs")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == "epoch 1\népochè 2\n"


class TestArtifacts:
    def test_files_are_listed_with_size_and_checksum(self, http: httpx.Client, model: str) -> None:
        (file,) = http.get(model.removesuffix(f"/{NAME}")).json()["data"]
        assert file == {"name": NAME, "bytes": len(MODEL), "sha256": hashlib.sha256(MODEL).hexdigest()}

    def test_a_file_is_sent_whole_with_its_digest(self, http: httpx.Client, model: str) -> None:
        answer = http.get(model)
        digest = base64.b64encode(hashlib.sha256(MODEL).digest()).decode()
        assert answer.content == MODEL
        assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
        assert answer.headers["ETag"] == f'"{hashlib.sha256(MODEL).hexdigest()}"'
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert NAME in answer.headers["Content-Disposition"]

    @pytest.mark.parametrize(
        ("wanted", "start", "stop"),
        [("bytes=0-0", 0, 1), ("bytes=100-", 100, len(MODEL)), ("bytes=-5", len(MODEL) - 5, len(MODEL)),
         ("bytes=7-99999999", 7, len(MODEL)), ("bytes=-99999999", 0, len(MODEL))],
    )  # fmt: skip
    def test_a_range_is_sent_alone(self, http: httpx.Client, model: str, wanted: str, start: int, stop: int) -> None:
        answer = http.get(model, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, MODEL[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(MODEL)}"

    @pytest.mark.parametrize(
        "wanted", ["bytes=1-2,5-6", "bytes=5-2", "bytes=", "bytes=-", "lines=1-2", "nonsense", f"bytes={'9' * 5000}-"]
    )
    def test_ranges_that_are_several_or_none_count_as_absent(self, http: httpx.Client, model: str, wanted: str) -> None:
        answer = http.get(model, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (200, MODEL)

    @pytest.mark.parametrize("wanted", [f"bytes={len(MODEL)}-", "bytes=-0"])
    def test_ranges_outside_the_file_are_refused(self, http: httpx.Client, model: str, wanted: str) -> None:
        answer = http.get(model, headers={"Range": wanted})
        assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(MODEL)}"

    def test_a_range_of_another_version_is_the_whole_file(self, http: httpx.Client, model: str) -> None:
        etag = http.head(model).headers["ETag"]
        for if_range, status in ((etag, 206), ('"other"', 200)):
            assert http.get(model, headers={"Range": "bytes=0-9", "If-Range": if_range}).status_code == status

    def test_a_known_file_is_not_sent_again(self, http: httpx.Client, model: str) -> None:
        etag = http.get(model).headers["ETag"]
        answer = http.get(model, headers={"If-None-Match": f'"other", {etag}'})
        assert (answer.status_code, answer.content) == (304, b"")

    def test_head_tells_size_and_digest(self, http: httpx.Client, model: str) -> None:
        answer = http.head(model)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(MODEL))
        assert "Repr-Digest" in answer.headers

    @pytest.mark.parametrize("name", ["other", "..%2f..%2fsecret", "%2e%2e%2fsecret", f"1/{NAME}"])
    def test_what_is_not_listed_is_not_there(self, http: httpx.Client, model: str, name: str) -> None:
        answer = http.get(f"{model.removesuffix(NAME)}{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")

    def test_a_file_that_was_lost_is_told(self, http: httpx.Client, model: str, artifacts: ArtifactStore) -> None:
        artifacts.delete_job(model.split("/")[3])
        answer = http.get(model)
        assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")

    def test_a_file_that_cannot_be_read_is_told_before_any_of_it_is_sent(
        self, http: httpx.Client, model: str, artifacts_dir: Path
    ) -> None:
        (file,) = artifacts_dir.glob(f"{model.split('/')[3]}/*/{NAME}")
        file.unlink()
        file.symlink_to("/proc/self/mem")  # which opens, but has nothing to read at its beginning
        answer = http.get(model)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers and "could not be read" in answer.json()["detail"]
