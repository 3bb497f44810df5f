"""Embedded servers in processes that can be killed, and programs that stand in for theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis import Redis

from worker.embedded_server import EmbeddedServer

LAUNCHER = """
import sys
from pathlib import Path
from worker.embedded_server import EmbeddedServer
if "--without-death-signal" in sys.argv:
    sys.platform = "some system that has none"
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.is_owner, server.url, flush=True)
    sys.stdin.read()
"""


class Launcher:
    """A process that holds an embedded server until it is told to end, or killed."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(state_dir), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_up(self) -> tuple[bool, str]:
        assert self.process.stdout
        is_owner, url = self.process.stdout.readline().split()
        return is_owner == "True", url

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self._reap() == 0

    def _reap(self) -> int:
        code = self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        return code


def process_of(url: str) -> psutil.Process:
    with Redis.from_url(url) as client:
        return psutil.Process(client.info("server")["process_id"])


def restarted(server: EmbeddedServer) -> str:
    """How the server ended that has just been killed, and is started again as soon as that has been noticed."""
    while not (ending := server.restart_if_dead()):
        time.sleep(0.01)
    return ending


def has_gone(process: psutil.Process) -> bool:
    # Where nobody collects the exit codes of orphans, a dead one stays visible as a zombie.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.01)


def write(url: str, value: str) -> None:
    with Redis.from_url(url, decode_responses=True) as client:
        client.set("key", value)


def read(url: str) -> str | None:
    with Redis.from_url(url, decode_responses=True) as client:
        value = client.get("key")
    assert value is None or isinstance(value, str)
    return value


def program_on_path(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return program
