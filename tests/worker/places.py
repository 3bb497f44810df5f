"""Places for artefacts with a fault: slow ones, and full ones."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class _Place(MemoryFileSystem):
    """A place of its own, whose files are gone with the process."""

    store: dict[str, Any] = {}  # noqa: RUF012  (as the file system that it derives from has it)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix(f"{cls.protocol}://"))


class SlowPlace(_Place):
    """Takes its time over every file that is written, and can be made to hang."""

    protocol = "slow"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    write_s = 0.0
    serves = threading.Event()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        time.sleep(SlowPlace.write_s)
        self.serves.wait(60)
        super().pipe_file(path, value, mode, **options)


class LimitedPlace(_Place):
    """Has room for so many bytes and no more."""

    protocol = "limited"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    room = 2**21

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if sum(file.size for file in self.store.values()) + len(value) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        super().pipe_file(path, value, mode, **options)


for place in (SlowPlace, LimitedPlace):
    fsspec.register_implementation(place.protocol, place, clobber=True)


@contextmanager
def slow_place(write_s: float) -> Iterator[str]:
    """The URL of a place where a file takes so long to be written."""
    SlowPlace.store.clear()
    SlowPlace.write_s = write_s
    SlowPlace.serves.set()
    yield "slow://bucket/artifacts"
    SlowPlace.serves.set()


@contextmanager
def small_disk(folder: Path, size_bytes: int = LimitedPlace.room) -> Iterator[str]:
    """The URL of a disk with little room: a real one where this process may mount it."""
    LimitedPlace.store.clear()
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield "limited://bucket/artifacts"
        return
    try:
        yield str(folder)
    finally:
        subprocess.run(("umount", str(folder)), check=True)


def fill(url: str) -> None:
    """Takes all the room that is left, with one file."""
    files, root = fsspec.core.url_to_fs(url)
    size = LimitedPlace.room
    while size:
        try:
            files.pipe_file(f"{root}/filler-{size}", bytes(size))
        except OSError:
            with suppress(FileNotFoundError):  # a disk takes as much of it as there is room for
                files.rm(f"{root}/filler-{size}")
        size //= 2


def make_room(url: str) -> None:
    """Takes away what `fill` has put there."""
    files, root = fsspec.core.url_to_fs(url)
    for path in files.glob(f"{root}/filler-*"):
        files.rm(path)
