"""Servers that tests may mistreat, and a line to them that breaks when it is told to."""

from __future__ import annotations

import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, final

from redis import Redis
from redis.exceptions import RedisError

from worker.server_program import find_server_program, tied_to_this_process

START_S = 30.0


@final
class OwnServer:
    """A server of one test, with its data in `folder` and the same port for its whole life, restarts included."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Returns once it serves what is in the folder."""
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "appendonly": "yes",
            "appendfsync": "always", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [*tied_to_this_process(), str(find_server_program().path), *words], stdout=subprocess.DEVNULL
        )
        with Redis.from_url(self.url) as client:
            deadline = time.monotonic() + START_S
            while True:
                with suppress(RedisError):
                    client.ping()
                    return
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def hang(self) -> None:
        """It keeps its connections and takes new ones, but answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, also what was asked meanwhile."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once, as after a crash."""
        self._process.kill()
        self._process.wait()

    def tell(self, *command: str | int) -> None:
        """Has it carry out a command."""
        with Redis.from_url(self.url) as client:
            client.execute_command(*command)  # type: ignore[no-untyped-call]


@contextmanager
def own_server(folder: Path) -> Iterator[OwnServer]:
    """A server that is gone after the block, whatever state it is in."""
    server = OwnServer(folder)
    try:
        yield server
    finally:
        server.kill()


@final
class Line(socketserver.ThreadingTCPServer):
    """A line to a server, which once, when it is told to, breaks while a script is under way.

    Args:
        url: of the server, without a password.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, url: str) -> None:
        place = Redis.from_url(url).connection_pool.connection_kwargs
        self.server_place = (place["host"], place["port"])
        self.loses: Literal["request", "answer"] | None = None
        self.breaks = 0
        """How often it has broken."""
        self._passes = 0
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"

    def lose(self, what: Literal["request", "answer"], after: int = 0) -> None:
        """The request of the script after the next `after` ones does not arrive, or its answer does not."""
        self.loses, self._passes = what, after

    def passes(self, request: bytes) -> bool:
        """Whether it stays whole at this request."""
        if self.loses is None or b"EVALSHA" not in request:
            return True
        self._passes -= 1
        return self._passes >= 0


@contextmanager
def line(url: str) -> Iterator[Line]:
    """A line to the server at `url`."""
    with Line(url) as opened:
        serving = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield opened
        opened.shutdown()
        serving.join()


@final
class _Connection(socketserver.BaseRequestHandler):
    server: Line

    def handle(self) -> None:
        with socket.create_connection(self.server.server_place) as upstream:
            while True:
                ready, _, _ = select.select([self.request, upstream], [], [])
                for source in ready:
                    content = source.recv(2**20)
                    if not content:
                        return
                    if source is self.request and not self.server.passes(content):
                        self._break(upstream, content)
                        return
                    (upstream if source is self.request else self.request).sendall(content)

    def _break(self, upstream: socket.socket, request: bytes) -> None:
        if self.server.loses == "answer":
            upstream.sendall(request)
            upstream.recv(2**20)
        self.server.loses = None
        self.server.breaks += 1
