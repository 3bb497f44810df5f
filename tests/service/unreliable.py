"""A server that answers as a test wants, or cuts the connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Answer = tuple[int, dict[str, str], bytes] | None
"""Status, headers and body; None for a connection that is cut."""


class Flaky(BaseHTTPRequestHandler):
    """Answers as the server's `script` says, a function of request and count; None cuts the connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.headers)  # type: ignore[attr-defined]
        answer = self.server.script(self, body)  # type: ignore[attr-defined]
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815  (the name that the base class looks for)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def flaky(script: Callable[[BaseHTTPRequestHandler, bytes], Answer]) -> Iterator[tuple[str, list[httpx.Headers]]]:
    """Address of a server that follows the script, and the headers of the requests it got."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        server.script, server.seen = script, []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.seen  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
