"""The API as a process of its own, as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
START_S = 30


@contextmanager
def running_api(state_dir: Path, command: tuple[str, ...] = ("-m", "service.server"), **settings: str) -> Iterator[str]:
    """The address of an API process with these settings (`redis_url=...`), which ends with the block."""
    process = start_api(state_dir, command, **settings)
    try:
        yield _address(process)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=15)
    assert process.returncode == 0, output


def start_api(
    state_dir: Path, command: tuple[str, ...] = ("-m", "service.server"), **settings: str
) -> subprocess.Popen[str]:
    given = {"state_dir": str(state_dir), "port": "0"} | settings
    own = {name: value for name, value in os.environ.items() if not name.startswith("REINMAX_")}
    return subprocess.Popen(
        (sys.executable, *command),
        cwd=ROOT,
        env=own | {f"REINMAX_{name.upper()}": value for name, value in given.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("API at "):
            address = line.split()[2].rstrip(",")
            _wait_for(address)
            return address
    raise AssertionError(f"the API did not start:\n{''.join(lines)}")


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{address}/livez", timeout=START_S)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{address} does not answer")
