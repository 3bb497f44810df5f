"""Files that outlive a crash of the machine: what is on disk when, as the system calls tell it."""

import errno
import os
from pathlib import Path

import pytest

from reinmax_core.durable_file import make_folder, write_atomically


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is brought to disk or renamed, in that order; the calls are carried out."""
    made: list[tuple[str, Path]] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(descriptor: int) -> None:
        made.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        made.append(("rename", Path(source)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return made


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    write_atomically(tmp_path / "model.bin", b"whole")
    draft = calls[0][1]
    assert draft.parent == tmp_path and draft.name != "model.bin"
    assert calls == [("sync", draft), ("rename", draft), ("sync", tmp_path)]


def test_every_folder_that_is_made_is_on_disk_in_the_one_above(tmp_path: Path, calls: list[tuple[str, Path]]) -> None:
    make_folder(tmp_path / "job" / "1")
    assert {folder for _, folder in calls} == {tmp_path, tmp_path / "job"}
    calls.clear()
    make_folder(tmp_path / "job" / "1")
    assert calls == []


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "model.bin", b"first")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "model.bin", b"second")
    assert os.listdir(tmp_path) == ["model.bin"]
    assert (tmp_path / "model.bin").read_bytes() == b"first"


def test_others_may_read_a_file_as_the_mask_of_the_process_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "model.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "model.bin").stat().st_mode & 0o777 == 0o640
