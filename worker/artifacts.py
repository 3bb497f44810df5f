"""Files of jobs, in a folder or wherever fsspec reaches."""

from __future__ import annotations

import posixpath
import secrets
from typing import IO, Any, cast


class ArtifactStoreUnavailable(Exception):
    """The place of the artefacts cannot be read or written."""


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
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        try:
            self._files, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ArtifactStoreUnusable(url, error) from error

    def put(self, job_id: str, epoch: int, name: str, content: bytes) -> None:
        """Writes a file that is there whole or not at all.

        Raises:
            ArtifactStoreUnavailable: the place does not take it, for lack of space say.
        """
        target = self._path(location(job_id, epoch, name))
        try:
            self._files.makedirs(posixpath.dirname(target), exist_ok=True)
            self._write(target, content)
        except OSError as error:
            raise self._unavailable("written", target, error) from error

    def open(self, path: str) -> IO[bytes]:
        """The file at a `location`, to read from any position.

        Raises:
            FileNotFoundError: there is none.
            ArtifactStoreUnavailable: the place cannot be read.
        """
        try:
            return cast("IO[bytes]", self._files.open(self._path(path), "rb"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unavailable("read", path, error) from error

    def read(self, path: str) -> bytes:
        """All bytes of the file at a `location`; errors as for `open`."""
        with self.open(path) as file:
            try:
                return file.read()
            except OSError as error:
                raise self._unavailable("read", path, error) from error

    def size(self, path: str) -> int:
        """Bytes of the file at a `location`.

        Raises:
            FileNotFoundError: there is none.
        """
        return int(self._files.size(self._path(path)))

    def delete(self, path: str) -> None:
        """Removes the file at a `location`, if it is there."""
        self._remove(self._path(path), recursive=False)

    def delete_job(self, job_id: str) -> None:
        """Removes all files of a job."""
        self._remove(self._path(job_id), recursive=True)

    def _write(self, target: str, content: bytes) -> None:
        if not self._is_local:
            self._files.pipe_file(target, content)  # object stores show an object once it is whole
            return
        draft = posixpath.join(posixpath.dirname(target), f".{secrets.token_hex(8)}")
        try:
            self._files.pipe_file(draft, content)
            self._files.mv(draft, target)
        finally:
            self._remove(draft, recursive=False)

    def _remove(self, path: str, *, recursive: bool) -> None:
        try:
            self._files.rm(path, recursive=recursive)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unavailable("deleted", path, error) from error

    @property
    def _is_local(self) -> bool:
        protocol: Any = self._files.protocol
        return "file" in protocol

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path)

    def _unavailable(self, action: str, path: str, error: OSError) -> ArtifactStoreUnavailable:
        return ArtifactStoreUnavailable(
            f"artefact {path} could not be {action}: {error}; see that REINMAX_ARTIFACTS_URL names a place that "
            f"all workers and the API can reach and write, with space left"
        )
