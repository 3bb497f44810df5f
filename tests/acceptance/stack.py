"""`reinmax up` as a process of its own, which may be killed, and whose children may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

COMMAND = (str(Path(sys.executable).with_name("reinmax")), "up", "--json", "--port", "0")


class Up:
    """A running `reinmax up`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self._output = process, process.stdout
        self.url = self.line_with("url")["url"]

    def line_with(self, key: str) -> dict[str, str]:
        """The next line of its output that has the key."""
        for line in self._output:
            if key in (said := json.loads(line)):
                return dict(said)
        raise AssertionError(f"reinmax up ended with {self.process.wait()} and never said {key!r}")

    @property
    def family(self) -> list[psutil.Process]:
        """All processes that it has started, however indirectly."""
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def server(self) -> psutil.Process:
        """The embedded server."""
        (found,) = (process for process in self.family if process.name() in {"valkey-server", "redis-server"})
        return found

    def end(self, number: int) -> int:
        """Its exit code after that signal."""
        self.process.send_signal(number)
        self.process.communicate(timeout=40)
        return self.process.returncode


@contextmanager
def up(state_dir: Path, *options: str, lease_s: float = 3.0) -> Iterator[Up]:
    """The stack with its data in that folder; killed at the end of the block."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("REINMAX_")}
    told = {"REINMAX_STATE_DIR": str(state_dir), "REINMAX_LEASE_S": str(lease_s), "REINMAX_CANCEL_GRACE_S": "5"}
    with subprocess.Popen(
        (*COMMAND, *options), env=own | told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Up(process)
        finally:
            process.kill()


def eventually(condition: Callable[[], bool], timeout_s: float = 15) -> bool:
    """Whether the condition comes true in that time."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
