"""The process that answers HTTP: `python -m service.server`."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from contextlib import ExitStack
from ipaddress import ip_address
from types import FrameType
from typing import Final, final

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.events import Changes
from service.protocol.guard import KeysMissing
from service.waking import Messenger
from worker.artifacts import ArtifactStoreUnusable
from worker.embedded_server import EmbeddedServer, ServerNotStarted
from worker.server_folder import StateFolderUnusable
from worker.server_program import NoServerProgram
from worker.settings import InvalidKeyFile, InvalidSettings, Settings

GRACE_S = 3
"""Time that requests under way have to end when the process is told to stop."""

BACKLOG = 2048


class AddressTaken(Exception):
    """The API cannot listen where it should."""


CONDITIONS: Final = (
    AddressTaken,
    ArtifactStoreUnusable,
    InvalidKeyFile,
    InvalidSettings,
    KeysMissing,
    NoServerProgram,
    ServerNotStarted,
    StateFolderUnusable,
)
"""Why the process cannot start; each message says what to do."""


def listen(settings: Settings) -> socket.socket:
    """A listening socket at the address of the settings; port 0 becomes a free one.

    Raises:
        AddressTaken: another program listens there, or the address is none of this machine.
    """
    host = settings.host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressTaken(
            f"The API should listen on {settings.host}:{settings.port}, but: {error}. Set REINMAX_HOST and "
            f"REINMAX_PORT to a free address of this machine; port 0 takes any free one."
        ) from error
    # Inherited by every connection: an answer of two parts must not wait for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """The address under which a program on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


def serve(app: FastAPI, listener: socket.socket, settings: Settings) -> None:
    """Answers requests until the process is told to stop by SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        http="httptools",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    _settle()
    _Server(config, app).run(sockets=[listener])


@final
class _Server(uvicorn.Server):
    """Answers clients that wait for a change as soon as the process is told to stop, instead of cutting them off."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._changes: Changes = app.state.context.changes

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._changes.release()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serves as the environment says; where it names no Redis, with an embedded server."""
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, _leave)
    try:
        settings = Settings()
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
        with ExitStack() as resources:
            url = settings.redis_url or resources.enter_context(EmbeddedServer(settings.state_dir)).url
            messenger = resources.enter_context(Messenger(url))
            app = create_app(settings, redis_url=url, wake=messenger.call_for)
            listener = resources.enter_context(listen(settings))
            print(f"API at {url_of(listener)}, documentation at {url_of(listener)}/docs", flush=True)
            serve(app, listener, settings)
    except CONDITIONS as error:
        sys.exit(str(error))


def _leave(number: int, frame: FrameType | None) -> None:
    """Unwinds the process, so that all it has started ends in order; uvicorn repeats the signal when it is done."""
    sys.exit(0)


def _settle() -> None:
    """Spares the collector what stays for good: it would walk through it all again and again, at the worst moments."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    main()
