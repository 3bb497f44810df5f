"""Artefact stores: a local folder, and fsspec's memory file system in the place of an object store."""

import io
import os
from pathlib import Path

import fsspec
import pytest

from tests.worker.places import small_disk
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, ArtifactStoreUnusable, NoSpace, location


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


def test_only_what_is_named_is_kept_of_a_job(artifacts: ArtifactStore) -> None:
    written = [("job_a", 1, "stale"), ("job_a", 2, "model.bin"), ("job_a", 2, "left"), ("job_a", 3, "new")]
    for job, epoch, name in [*written, ("job_b", 1, "stale")]:
        artifacts.put(job, epoch, name, b"1")
    artifacts.keep_only("job_a", ["job_a/2/model.bin"], up_to_epoch=2)
    assert [path for path in written if exists(artifacts, location(*path))] == [written[1], written[3]]
    artifacts.keep_only("job_a", ["job_a/2/model.bin"])
    assert [path for path in written if exists(artifacts, location(*path))] == [written[1]]
    artifacts.keep_only("job_a", [])
    artifacts.keep_only("job_a", [])
    artifacts.keep_only("job_unknown", [])
    assert exists(artifacts, "job_b/1/stale")


def exists(artifacts: ArtifactStore, path: str) -> bool:
    try:
        return artifacts.size(path) == 1
    except FileNotFoundError:
        return False


def test_folders_of_attempts_with_nothing_to_keep_are_gone(tmp_path: Path) -> None:
    artifacts = ArtifactStore(str(tmp_path))
    for epoch in (1, 2):
        artifacts.put("job_a", epoch, "model.bin", b"1")
    (tmp_path / "job_a" / "1" / ".model.bin.0123").write_bytes(b"of a process that was killed while it wrote")
    artifacts.keep_only("job_a", ["job_a/2/model.bin"])
    assert os.listdir(tmp_path / "job_a") == ["2"]


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    artifacts = ArtifactStore(str(tmp_path))
    artifacts.put("job_a", 1, "model.bin", b"whole")
    assert os.listdir(tmp_path / "job_a" / "1") == ["model.bin"]


def test_a_place_that_takes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    artifacts = ArtifactStore(str(tmp_path / "file"))
    with pytest.raises(ArtifactStoreUnavailable, match="REINMAX_ARTIFACTS_URL"):
        artifacts.put("job_a", 1, "model.bin", b"1")


def test_a_full_disk_is_told_by_name_and_place(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**16) as url:
        artifacts = ArtifactStore(url)
        artifacts.put("job_a", 1, "small.bin", b"1")
        with pytest.raises(NoSpace, match=f"no space is left for artefacts in {url}: .*large.bin") as raised:
            artifacts.put("job_a", 1, "large.bin", bytes(2**22))
        assert "No space left on device" in str(raised.value) and "retry the job" in str(raised.value)
        assert artifacts.read("job_a/1/small.bin") == b"1"
        with pytest.raises(FileNotFoundError):
            artifacts.size("job_a/1/large.bin")


@pytest.mark.parametrize("url", ["nothing://bucket/artifacts", "oci://bucket/artifacts"])
def test_an_address_that_nothing_here_can_reach_says_what_to_do(url: str) -> None:
    with pytest.raises(ArtifactStoreUnusable, match=f"REINMAX_ARTIFACTS_URL is '{url}'.*install"):
        ArtifactStore(url)
