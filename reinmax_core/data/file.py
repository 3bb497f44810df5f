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

    bytes: int = Field(gt=0)
    """Size of the file in bytes."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """The checksum by which a copy is accepted, in hexadecimal."""

    md5: str = Field(pattern="^[0-9a-f]{32}$")
    """The checksum that the publisher gives, in hexadecimal, for comparison with other readers of the file."""

    urls: tuple[str, ...]
    """The addresses where the file is published, in the order in which they are tried."""

    def verify(self, path: Path) -> Path:
        """`path` itself, once its content is known to be the published one.

        The content is hashed once a process, and again when its size or time of change differ.

        Raises:
            DataCorrupt: the content has another checksum.
            OSError: there is no readable file at `path`.
        """
        if found := self.mismatch(path):
            raise DataCorrupt(
                f"{self.name} should have {self.bytes} bytes and sha256 {self.sha256}, but {path} has {found}; "
                f"delete that copy so that the file is fetched again"
            )
        return path

    def mismatch(self, path: Path) -> str | None:
        """Size and checksum found at `path`, in words; None if they are the published ones.

        Raises:
            OSError: there is no readable file at `path`.
        """
        status = path.stat()
        found = _sha256(path.resolve(), status.st_size, status.st_mtime_ns)
        return None if found == self.sha256 else f"{status.st_size} bytes and sha256 {found}"


@cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
