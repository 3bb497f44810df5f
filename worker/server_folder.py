"""The folder of an embedded server: its data, log, address and the locks that tell who is alive."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Literal


class StateFolderUnusable(Exception):
    """The state folder cannot hold the server's files."""


class ServerFolder:
    """The part of a state folder that belongs to the server, closed to other users of the machine."""

    def __init__(self, state_dir: Path) -> None:
        """Only names the files; `prepare` makes them."""
        self.path = state_dir / "server"
        self.data = self.path / "data"
        self.log = self.path / "server.log"
        self.config = self.path / "server.conf"
        self._address = self.path / "url"

    def prepare(self) -> None:
        """Makes what is missing, with mode 0700.

        Raises:
            StateFolderUnusable: this user may not, or a file stands in the way.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self.data.mkdir(exist_ok=True)
        except OSError as error:
            raise StateFolderUnusable(
                f"The state folder {self.path.parent} must be one that this user may write to, but: {error}. "
                "Correct its owner and mode, or set REINMAX_STATE_DIR to another folder."
            ) from error

    def try_lock(self, whose: Literal["owner", "server"]) -> IO[str] | None:
        """The lock as an open file, or None while somebody alive holds it.

        It is free again when the last copy of the file's descriptor is closed, in whatever process, which
        the system does for the dead. A program that inherits the descriptor therefore holds it for life.
        """
        file = (self.path / f"{whose}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def configure(self) -> str:
        """Writes down a free port and a new password, for the server and for those who attach; returns the address."""
        port, password = _free_port(), secrets.token_hex(32)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        # In a file and not among the arguments, which every user of the machine may list.
        _write_private(self.config, _config(self.data, port, password))
        _write_private(self._address, url)
        return url

    def url(self) -> str:
        """The address last configured, empty when there is none."""
        with suppress(FileNotFoundError):
            return self._address.read_text()
        return ""

    def forget_url(self) -> None:
        """Keeps others from attaching to a server that is about to stop."""
        self._address.unlink(missing_ok=True)

    def last_words(self) -> str:
        """What the server wrote since it was last started, or before it ended."""
        with suppress(FileNotFoundError):
            return self.log.read_text(errors="replace")
        return ""


def _write_private(path: Path, text: str) -> None:
    # Replaced in one step, so that nobody reads half of it; made with mode 0600.
    with NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
        draft.write(text)
    os.replace(draft.name, path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(data: Path, port: int, password: str) -> str:
    quoted = str(data).replace("\\", "\\\\").replace('"', '\\"')
    return f"""\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{quoted}"
appendonly yes
appendfsync always
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""
