"""What every request and answer has in common: an id, a log line, a count, and a last resort for errors."""

from __future__ import annotations

import logging
import re
import time
from typing import final
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.protocol.problems import Kind, Problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

logger = logging.getLogger(__name__)


@final
class TrafficMetrics:
    """Counts and latencies of requests, as Prometheus reads them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ("method", "route")
        self._requests = Counter("reinmax_http_requests", "Requests answered.", (*names, "status"), registry=registry)
        self._latency = Histogram(
            "reinmax_http_request_seconds", "Time to the last byte.", names, buckets=LATENCIES_S, registry=registry
        )

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts one request. Addresses that lead nowhere count together, so that they cannot fill the memory."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"
        self._requests.labels(method, route, status).inc()
        self._latency.labels(method, route).observe(seconds)


@final
class Traffic:
    """ASGI middleware around everything else.

    Gives every request the id of its `X-Request-Id` header, or a new one, and sends it back; answers
    HEAD as GET without the body, with `bodiless` in the scope; turns unexpected errors into a problem.
    """

    def __init__(self, app: ASGIApp, metrics: TrafficMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(Headers(scope=scope)))
        inner = {**scope, "state": {**scope.get("state", {}), "request_id": answer.request_id}}
        if scope["method"] == "HEAD":
            inner |= {"method": "GET", "bodiless": True}
        started = time.perf_counter()
        try:
            await self._app(inner, receive, answer.send)
        except Exception:
            logger.exception("request %s: %s %s failed", answer.request_id, scope["method"], scope["path"])
            if answer.status is not None:
                raise  # too late for another answer; the server cuts the connection, so that the client sees it
            await _apology(answer.request_id).response(inner)(inner, receive, answer.send)
        self._record(inner, answer, time.perf_counter() - started)

    def _record(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        status = answer.status or 499  # the client went away before there was an answer
        self._metrics.record(scope, status, seconds)
        logger.debug(
            "request %s: %s %s %d %.1f ms", answer.request_id, scope["method"], scope["path"], status, 1e3 * seconds
        )


class _Answer:
    """The way of an answer to the client."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers["X-Request-Id"] = self.request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
        await self._send(message)


def _apology(request_id: str) -> Problem:
    detail = f"The request could not be carried out. The service's log has the reason under {request_id}."
    return Problem(Kind.INTERNAL_ERROR, detail)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
