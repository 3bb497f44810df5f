"""What exists, as the API lists it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from reinmax_core.data.base import DataSet, DataSource
from reinmax_core.data.listops import Listops
from reinmax_core.data.omniglot import Omniglot
from reinmax_core.estimators.base import Estimator
from reinmax_core.presets import presets
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover
from service.catalogue import DataSetEntry, published_sweeps
from tests.service.processes import running_api
from tests.worker.samples import worker
from worker.store import JobStore


def test_every_estimator_is_listed_with_source_and_bounds(http: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in http.get("/v1/estimators").json()["data"]}
    assert list(entries) == list(discover(Estimator))
    for entry in entries.values():
        assert entry["summary"]
        assert "http" in entry["source"] or "arXiv" in entry["source"]
        assert entry["description"].startswith(entry["summary"])
        assert not any(elsewhere in entry["description"] for elsewhere in ("Source:", "Settings:", ">>>"))
    tau = entries["reinmax"]["json_schema"]["properties"]["tau"]
    assert (tau["default"], tau["minimum"]) == (1.0, 1)
    assert entries["reinmax"]["pathwise"]
    assert not entries["rloo"]["pathwise"]


def test_every_task_is_listed_with_what_is_recommended(http: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in http.get("/v1/tasks").json()["data"]}
    assert list(entries) == list(discover(Task))
    vae = entries["categorical_vae"]
    assert vae["datasets"] == ["mnist"]
    assert vae["needs_pathwise"] is False
    assert set(vae["recommended"]) == set(discover(Estimator))
    assert vae["recommended"]["reinmax"]["lr"] > 0
    assert vae["source"]


def test_every_data_set_is_listed_with_its_checksums(http: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in http.get("/v1/datasets").json()["data"]}
    assert list(entries) == list(discover(DataSet))
    for entry in entries.values():
        for file in entry["files"]:
            assert len(file["md5"]) == 32
            assert file["sha256"] is None or len(file["sha256"]) == 64
        assert entry["licence"]
        sizes = [file["bytes"] for file in entry["files"]]
        assert entry["bytes"] == sum(sizes) if None not in sizes else entry["bytes"] > 0
        assert entry["availability"]["available"] == (entry["availability"]["reason"] is None)


def test_every_preset_is_listed_with_its_size_and_numbers(http: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in http.get("/v1/presets").raise_for_status().json()["data"]}
    assert list(entries) == list(presets())
    table, smoke = entries["table-2"], entries["table-2-smoke"]
    assert (table["cells"], table["jobs"], table["steps"]) == (30, 300, 300 * 96_000)
    assert (table["of"], smoke["of"]) == (None, "table-2")
    assert smoke["jobs"] == 2 * smoke["cells"] < table["jobs"]
    assert table["metrics"] == table["layout"]["metrics"] == ["train_loss", "test_loss"]
    at = {"estimator": "reinmax", "task": {"categories": 8, "latents": 4}}
    (known,) = [one for one in table["published"] if one["at"] == at and one["metric"] == "train_loss"]
    assert (known["mean"], known["spread"], known["spread_kind"], known["n"]) == (
        124.66,
        0.88,
        "standard deviation",
        10,
    )
    for entry in entries.values():
        assert all(entry[told] for told in ("title", "summary", "source"))


def test_a_preset_tells_the_data_sets_that_it_needs_and_whether_they_are_there(tmp_path: Path) -> None:
    entries = {entry.name: entry for entry in published_sweeps(DataSource(directory=tmp_path))}
    assert entries["figure-polynomial"].datasets == ()
    needed = {data_set.name: data_set.availability for data_set in entries["table-4"].datasets}
    assert list(needed) == ["cifar10", "nats_bench"]
    assert not needed["cifar10"].available
    assert str(tmp_path) in (needed["cifar10"].reason or "")
    (listops,) = entries["table-1"].datasets
    assert (listops.name, listops.availability.missing) == ("listops", tuple(file.name for file in Listops.files[1:]))


def test_a_data_set_is_available_once_its_files_are_there(redis_url: str, tmp_path: Path) -> None:
    files = discover(DataSet)["mnist"]().files
    with running_api(tmp_path / "state", redis_url=redis_url, data_dir=str(tmp_path / "data")) as url:
        missing = _mnist(url)
        assert not missing["available"]
        assert missing["missing"] == [file.name for file in files]
        assert "REINMAX_DATA_MIRROR" in missing["reason"]
        for file in files:
            path = tmp_path / "data" / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sparse:
                sparse.truncate(file.bytes)
        there = _mnist(url)
        assert there["available"]
        assert [copy["path"] for copy in there["found"]] == [str(tmp_path / "data" / file.name) for file in files]


def test_what_stands_in_for_a_file_and_what_can_be_made_is_told(tmp_path: Path) -> None:
    source, (train, *published) = DataSource(directory=tmp_path), Listops.files
    assert train.generated
    missing = Listops().availability(source)
    assert missing.missing == tuple(file.name for file in published)
    assert "listops/valid.tsv or listops/valid.tsv.gz" in (missing.reason or "")
    for file in published:
        assert file.alternative and file.alternative.bytes
        path = tmp_path / file.alternative.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(file.alternative.bytes))
    there = DataSetEntry.of(Listops(), source).availability
    assert there.available, "the training file is made anew"
    assert [(copy.name, copy.read) for copy in there.found] == [(file.name, f"{file.name}.gz") for file in published]


def test_a_size_that_is_not_published_is_that_of_what_would_be_read(tmp_path: Path) -> None:
    source, (file,) = DataSource(directory=tmp_path), Omniglot.files
    assert file.bytes is None
    assert file.alternative and file.alternative.bytes
    assert DataSetEntry.of(Omniglot(), source).bytes == file.alternative.bytes, "as it would be without the published"
    for name, size in ((file.alternative.name, file.alternative.bytes), (file.name, 12345)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
        assert DataSetEntry.of(Omniglot(), source).bytes == size


def _mnist(url: str) -> dict[str, Any]:
    entries = httpx.get(f"{url}/v1/datasets", timeout=30).json()["data"]
    found: dict[str, Any] = next(entry["availability"] for entry in entries if entry["name"] == "mnist")
    return found


def test_live_workers_are_listed(http: httpx.Client, store: JobStore) -> None:
    assert http.get("/v1/workers").json() == {"data": []}
    store.register(worker("gpu-1"), 60.0)
    (entry,) = http.get("/v1/workers").json()["data"]
    assert (entry["name"], entry["device"]) == ("gpu-1", "cpu")
    assert 0 <= entry["heartbeat_age_s"] < 10


def test_prometheus_counts_jobs_workers_and_requests(
    http: httpx.Client, store: JobStore, submit: Callable[..., str]
) -> None:
    store.cancel(submit(seed=1))
    submit(seed=2)
    store.register(worker(), 60.0)
    http.get("/somewhere/else")
    text = http.get("/metrics").text
    for line in (
        'reinmax_jobs{status="queued"} 1.0',
        'reinmax_jobs{status="cancelled"} 1.0',
        'reinmax_workers{busy="false",device="cpu"} 1.0',
        "reinmax_store_up 1.0",
    ):
        assert line in text
    assert 'reinmax_http_requests_total{method="POST",route="/v1/jobs",status="202"}' in text
    assert 'route="/somewhere' not in text
