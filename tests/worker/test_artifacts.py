"""Artefact stores: a local folder, and fsspec's memory file system in the place of an object store."""

import io
import os
from pathlib import Path

import fsspec
import pytest

from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, ArtifactStoreUnusable, location


@pytest.fixture(params=["folder", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    fsspec.filesystem("memory").store.clear()
    return ArtifactStore(str(tmp_path / "artifacts") if request.param == "folder" else "memory://bucket/artifacts")


def test_files_are_read_back_from_any_position(artifacts: ArtifactStore) -> None:
    artifacts.put("job_a", 1, "model.bin", b"0123456789")
    path = location("job_a", 1, "model.bin")
    assert path == "job_a/1/model.bin"
    assert (artifacts.read(path), artifacts.size(path)) == (b"0123456789", 10)
    with artifacts.open(path) as file:
        file.seek(-3, io.SEEK_END)
        assert file.read() == b"789"


def test_a_file_can_be_written_anew(artifacts: ArtifactStore) -> None:
    for content in (b"first", b"second"):
        artifacts.put("job_a", 1, "model.bin", content)
    assert artifacts.read("job_a/1/model.bin") == b"second"


def test_deleting_removes_what_is_there_and_nothing_else(artifacts: ArtifactStore) -> None:
    for job in ("job_a", "job_b"):
        artifacts.put(job, 1, "model.bin", b"1")
        artifacts.put(job, 2, "model.bin", b"2")
    artifacts.delete("job_a/1/model.bin")
    artifacts.delete("job_a/1/model.bin")
    artifacts.delete_job("job_b")
    artifacts.delete_job("job_b")
    assert artifacts.read("job_a/2/model.bin") == b"2"
    for path in ("job_a/1/model.bin", "job_b/1/model.bin", "job_b/2/model.bin"):
        with pytest.raises(FileNotFoundError):
            artifacts.open(path)
        with pytest.raises(FileNotFoundError):
            artifacts.size(path)


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    artifacts = ArtifactStore(str(tmp_path))
    artifacts.put("job_a", 1, "model.bin", b"whole")
    assert os.listdir(tmp_path / "job_a" / "1") == ["model.bin"]


def test_a_place_that_takes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    artifacts = ArtifactStore(str(tmp_path / "file"))
    with pytest.raises(ArtifactStoreUnavailable, match="REINMAX_ARTIFACTS_URL"):
        artifacts.put("job_a", 1, "model.bin", b"1")


@pytest.mark.parametrize("url", ["nothing://bucket/artifacts", "oci://bucket/artifacts"])
def test_an_address_that_nothing_here_can_reach_says_what_to_do(url: str) -> None:
    with pytest.raises(ArtifactStoreUnusable, match=f"REINMAX_ARTIFACTS_URL is '{url}'.*install"):
        ArtifactStore(url)
