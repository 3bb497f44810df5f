"""What the doctor says of the server: whether a job that was accepted is on disk, and what that costs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.commands.doctor import Finding, Grade, _artifacts, _service, examine
from tests.worker.samples import worker
from worker.embedded_server import EmbeddedServer
from worker.settings import Settings
from worker.store import JobStore


def of_the_server(tmp_path: Path, url: str | None) -> Finding:
    report = examine(Settings(redis_url=url, state_dir=tmp_path / "state", data_dir=tmp_path / "data"))
    (found,) = (finding for finding in report.findings if finding.subject == "server")
    return found


def test_a_server_of_our_own_writes_at_once(tmp_path: Path) -> None:
    found = of_the_server(tmp_path, None)
    assert found.grade is Grade.OK
    assert "appendfsync is always" in found.finding


def test_what_another_server_does_is_told_with_the_remedy(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        assert "appendfsync is always" in of_the_server(tmp_path, server.url).finding
        client.config_set("appendfsync", "everysec")
        slow = of_the_server(tmp_path, server.url)
        client.config_set("appendfsync", "no")
        unfit = of_the_server(tmp_path, server.url)
    assert (slow.grade, unfit.grade) == (Grade.NOTE, Grade.PROBLEM)
    assert "appendfsync is everysec, so each submission waits for the disk" in slow.finding
    assert "appendfsync is no" in str(unfit.remedy)
    assert "CONFIG SET appendfsync always" in str(slow.remedy) and "CONFIG SET appendfsync always" in str(unfit.remedy)


def test_a_place_of_artefacts_that_takes_no_files_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place, grade in (("file/x", Grade.PROBLEM), ("folder", Grade.OK), ("none", Grade.OK)):
        found = _artifacts(Settings(artifacts_url=str(tmp_path / place), state_dir=tmp_path))
        assert [finding.grade for finding in found] == [grade], place
    assert not (tmp_path / "none").exists()
    (wrong,) = _artifacts(Settings(artifacts_url="nothing://bucket", state_dir=tmp_path))
    assert wrong.grade is Grade.PROBLEM and "REINMAX_ARTIFACTS_URL is 'nothing://bucket'" in str(wrong.remedy)


def test_living_workers_are_told_with_their_queues(
    http: httpx.Client, api_url: str, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.register(worker("alpha-1", queues=("cpu", "any")), 60)
    store.register(worker("beta-2", queues=()), 60)
    monkeypatch.setenv("REINMAX_URL", api_url)
    (found,) = _service(Settings())
    assert found.finding.endswith("workers: alpha-1 (takes cpu, any), beta-2 (takes nothing)")
