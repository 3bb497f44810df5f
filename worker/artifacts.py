"""Files of jobs, in a folder or wherever fsspec reaches."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, cast

from reinmax_core.durable_file import make_folder, write_atomically
from worker.file_systems import connect, has_folders, is_local, misses_bucket, write

CHUNK_BYTES = 2**22
"""An object store is asked for so much at a time; less would be slow, more is memory for nothing."""
PIECE_BYTES = 2**18
"""What is passed on comes in pieces of this size."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class ArtifactStoreUnavailable(Exception):
    """The place of the artefacts cannot be read or written."""


class NoSpace(ArtifactStoreUnavailable):
    """The place of the artefacts is full."""


class ArtifactStoreUnusable(Exception):
    """Nothing on this machine can reach the kind of place that is to take the artefacts."""

    def __init__(self, url: str, reason: Exception) -> None:
        super().__init__(
            f"REINMAX_ARTIFACTS_URL is {url!r}, which cannot be used: {reason}; "
            f"set it to a folder, or install the fsspec package for that kind of address, such as s3fs for s3://"
        )


def location(job_id: str, epoch: int, name: str) -> str:
    """Path of a file that an attempt wrote, in any artefact store: each attempt has a folder of its own."""
    return f"{job_id}/{epoch}/{name}"


class ArtifactStore:
    """Files under a URL, laid out as `<job>/<epoch>/<name>`.

    They are not visible to users before a fenced script has named them in the job store, so an attempt
    that has lost its job overwrites nothing. Safe to share between threads.

    Args:
        url: a folder, or any URL that fsspec knows, such as s3://bucket/prefix.

    Raises:
        ArtifactStoreUnusable: the URL is of an unknown kind, or of one whose package is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = connect(url)
        except (ImportError, ValueError) as error:
            raise ArtifactStoreUnusable(url, error) from error
        self._url = url

    def put(self, job_id: str, epoch: int, name: str, content: bytes) -> None:
        """Writes a file that is there whole, also after a crash of the machine, or not at all.

        Raises:
            NoSpace: the place is full.
            ArtifactStoreUnavailable: it does not take the file.
        """
        self._put(self._path(location(job_id, epoch, name)), content)

    def probe(self) -> None:
        """Writes a file and removes it again, to find out before there is a job whether that can be done.

        Raises:
            NoSpace: the place is full.
            ArtifactStoreUnavailable: it does not take files, or does not let go of them.
        """
        name = f".probe-{token_hex(8)}"
        self._put(self._path(name), b"A worker tries whether it can write here.")
        self.delete(name)

    def open(self, path: str) -> IO[bytes]:
        """The file at a `location`, to read from any position.

        Raises:
            FileNotFoundError: there is none.
            ArtifactStoreUnavailable: the place cannot be read.
        """
        with self._reaching("read", path):
            return cast("IO[bytes]", self._files.open(self._path(path), "rb", block_size=CHUNK_BYTES))

    def pieces(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of the file at a `location` from `start` up to `stop`, piece by piece; errors as for `open`."""
        with self.open(path) as file, self._reaching("read", path):
            file.seek(start)
            while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
                start += len(piece)
                yield piece

    def read(self, path: str) -> bytes:
        """All bytes of the file at a `location`; errors as for `open`."""
        with self._reaching("read", path):
            return bytes(self._files.cat_file(self._path(path)))

    def size(self, path: str) -> int:
        """Bytes of the file at a `location`; errors as for `open`."""
        with self._reaching("read", path):
            return int(self._files.size(self._path(path)))

    def delete(self, path: str) -> None:
        """Removes the file at a `location`, if it is there.

        Raises:
            ArtifactStoreUnavailable: the place cannot be changed.
        """
        self._remove(self._path(path), recursive=False)

    def delete_job(self, job_id: str) -> None:
        """Removes all files of a job; errors as for `delete`."""
        self._remove(self._path(job_id), recursive=True)

    def keep_only(self, job_id: str, paths: Collection[str], *, up_to_epoch: int | None = None) -> None:
        """Removes all files of a job but those at these `location`s: what attempts left that nobody will look at.

        Args:
            job_id: the job.
            paths: what stays.
            up_to_epoch: files of later attempts stay too: one of them may be writing what it has not named yet.

        Raises:
            ArtifactStoreUnavailable: the place cannot be read or changed.
        """
        folder, kept = self._path(job_id), {self._path(path) for path in paths}
        with self._reaching("listed", folder), suppress(FileNotFoundError):
            for file in self._files.find(folder):
                if file not in kept and not _is_later(file.removeprefix(f"{folder}/"), up_to_epoch):
                    self._remove(file, recursive=False)
            if is_local(self._files):
                _remove_empty(Path(folder))

    def _put(self, target: str, content: bytes) -> None:
        with self._reaching("written", target):
            try:
                self._write(target, content)
            except FileNotFoundError as error:  # of a bucket, say
                raise OSError(str(error)) from error

    def _write(self, target: str, content: bytes) -> None:
        if is_local(self._files):
            make_folder(Path(target).parent)
            write_atomically(Path(target), content)
            return
        if has_folders(self._files):
            self._files.makedirs(posixpath.dirname(target), exist_ok=True)
        write(self._files, target, content)

    def _remove(self, path: str, *, recursive: bool) -> None:
        with suppress(FileNotFoundError), self._reaching("deleted", path):
            self._files.rm(path, recursive=recursive)

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path)

    @contextmanager
    def _reaching(self, action: str, path: str) -> Iterator[None]:
        """Tells trouble with the place from a file that is not there."""
        try:
            yield
        except ArtifactStoreUnavailable:
            raise
        except Exception as error:  # each kind of place raises errors of a library of its own
            if isinstance(error, FileNotFoundError) and not misses_bucket(error):
                raise
            raise self._unavailable(action, path, error) from error

    def _unavailable(self, action: str, path: str, error: Exception) -> ArtifactStoreUnavailable:
        if isinstance(error, OSError) and error.errno in FULL:
            return NoSpace(
                f"no space is left for artefacts in {self._url}: {path} could not be {action} ({error}); make room "
                f"there and retry the job, which then goes on from its latest checkpoint"
            )
        return ArtifactStoreUnavailable(
            f"artefact {path} could not be {action}: {str(error) or repr(error)}; see that REINMAX_ARTIFACTS_URL "
            f"({self._url}) names a place that all workers and the API can reach and write"
        )


def _is_later(path: str, epoch: int | None) -> bool:
    """Whether a file, at a path below its job's folder, is of a later attempt."""
    attempt, _, _ = path.partition("/")
    return epoch is not None and attempt.isdecimal() and int(attempt) > epoch


def _remove_empty(folder: Path) -> None:
    """Removes the folders of attempts that have nothing left in them."""
    for attempt in folder.iterdir():
        with suppress(OSError):
            attempt.rmdir()
