"""One file brought onto this machine, by one process at a time, and seen by others only when it is whole."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reinmax_core.data.file import DataCorrupt, DataFile
from reinmax_core.data.progress import transfer_progress

TIMEOUTS_S: Final = (10.0, 30.0)
"""How long to wait for a connection, and for the next bytes."""

CHUNK_BYTES: Final = 1 << 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """The way of `file` to `path`. An unfinished file lies beside it under a hidden name."""

    file: DataFile
    path: Path

    def first_of(self, addresses: Sequence[str], failures: list[str]) -> Path | None:
        """The path once the first address that serves the file has done so; None if none does.

        Args:
            addresses: http or https addresses of the file.
            failures: receives one line an address that did not serve it.

        Raises:
            OSError: the folder of `path` cannot be written to.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self.path.is_file():
                return self.file.verify(self.path)
            return next((self.path for address in addresses if self._succeeds(address, failures)), None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process that fetches %s", self.file.name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _succeeds(self, address: str, failures: list[str]) -> bool:
        try:
            self._transfer(address)
        # Errors of requests are OSErrors; a server's broken header is a ValueError.
        except (OSError, ValueError, DataCorrupt) as error:
            failures.append(f"{address}: {_in_short(error)}")
            logger.warning("%s could not be downloaded from %s", self.file.name, failures[-1])
            return False
        return True

    def _transfer(self, address: str) -> None:
        from pooch import HTTPDownloader  # type: ignore[import-untyped]

        partial = self.path.with_name(f".{self.path.name}.part")
        # A compressed file must arrive as published, not as a server's compression of it or undone by the client.
        as_published = {"Accept-Encoding": "identity"}
        size = f" ({self.file.bytes / 1e6:.2f} MB)" if self.file.bytes else ""
        logger.info("downloading %s%s from %s", self.file.name, size, address)
        try:
            with transfer_progress(self.file.name, self.file.bytes) as progress:
                fetch = HTTPDownloader(progress, CHUNK_BYTES, timeout=TIMEOUTS_S, headers=as_published)
                fetch(address, str(partial), None)
            if found := self.file.mismatch(partial):
                raise DataCorrupt(f"sent {found}, expected {self.file.identity}")
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)


def _in_short(error: Exception) -> str:
    """What went wrong, without the wrappings in which a connection's errors come."""
    cause: object = error.args[0] if error.args else error
    # "HTTPSConnection(host='...', port=443): Failed to resolve '...'"
    return re.sub(r"^\w*Connection\w*\([^)]*\): ", "", str(getattr(cause, "reason", error)))
