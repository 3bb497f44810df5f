"""One published file, known by its checksum wherever a copy of it lies."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from pydantic import Field

from reinmax_core.value import Value


class DataCorrupt(RuntimeError):
    """A data file lies where it should, but is not the published one."""


class DataFile(Value):
    """What is published about a file: its name, size, checksums and addresses."""

    name: str
    """Path below a data folder or a mirror, such as `mnist/train-images-idx3-ubyte.gz`."""

    bytes: int | None = Field(default=None, gt=0)
    """Size of the file in bytes; None where it is not known."""

    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The checksum by which a copy is accepted, in hexadecimal; None where only the other one is known."""

    md5: str = Field(pattern="^[0-9a-f]{32}$")
    """The checksum that the publisher gives, in hexadecimal; it accepts a copy where there is no `sha256`."""

    urls: tuple[str, ...]
    """The addresses where the file is published, in the order in which they are tried."""

    generated: bool = False
    """Whether `load` makes the file anew, to the same last byte, where no folder has it."""

    alternative: DataFile | None = None
    """A file of the same form, read where a folder has it and no folder has this one."""

    @property
    def checksum(self) -> str:
        """The checksum by which a copy is accepted, in words."""
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}"

    @property
    def identity(self) -> str:
        """Size, if known, and checksum, in words."""
        return f"{self.bytes} bytes and {self.checksum}" if self.bytes else self.checksum

    def verify(self, path: Path) -> Path:
        """`path` itself, once its content is known to be the published one.

        The content is hashed once a process, and again when its size or time of change differ.

        Raises:
            DataCorrupt: the content has another checksum.
            OSError: there is no readable file at `path`.
        """
        if found := self.mismatch(path):
            raise DataCorrupt(
                f"{self.name} should have {self.identity}, but {path} has {found}; "
                f"delete that copy so that the file is fetched again"
            )
        return path

    def mismatch(self, path: Path) -> str | None:
        """Size and checksum found at `path`, in words; None if they are the published ones.

        Raises:
            OSError: there is no readable file at `path`.
        """
        algorithm = "sha256" if self.sha256 else "md5"
        found = _digest(path, algorithm)
        return None if found == (self.sha256 or self.md5) else f"{path.stat().st_size} bytes and {algorithm} {found}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file at `path`, in hexadecimal.

    Raises:
        OSError: there is no readable file at `path`.
    """
    return _digest(path, "sha256")


def _digest(path: Path, algorithm: str) -> str:
    status = path.stat()
    return _digest_of_version(path.resolve(), algorithm, status.st_size, status.st_mtime_ns)


@cache
def _digest_of_version(path: Path, algorithm: str, size: int, modified_ns: int) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
