"""A real server that speaks S3, which tests may kill and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final

import pytest

from tests.servers import START_S

BUCKET: Final = "models"
KEY, SECRET = "accesskey0", "secretkey0"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What the environment of a client needs beside `AWS_ENDPOINT_URL`."""


def serve_command(folder: Path, address: str) -> list[str]:
    """The program that serves the folders in `folder` as buckets, at a host and port."""
    options = ("--config", "", "--auth-key", f"{KEY},{SECRET}", "--addr", address)
    return [str(Path(sys.executable).with_name("rclone")), "serve", "s3", *options, str(folder)]


@final
class ObjectStore:
    """Serves the folders in `folder` as buckets, at the same port for its whole life."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / BUCKET).mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Returns once it takes connections."""
        command = serve_command(self.folder, f"127.0.0.1:{self._port}")
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def hang(self) -> None:
        """It takes connections, but answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once."""
        self._process.kill()
        self._process.wait()

    def objects(self, prefix: str) -> set[str]:
        """The keys in the bucket that begin so."""
        bucket = self.folder / BUCKET
        keys = {str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()}
        return {key for key in keys if key.startswith(prefix)}


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server that is gone after the block, to which the environment of this process leads."""
    store = ObjectStore(folder)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": store.endpoint}).items():
            environment.setenv(name, value)
        try:
            yield store
        finally:
            store.kill()
