"""Who may come in: API keys, requests from other sites, and the size of bodies."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from typing import final
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.protocol.problems import Kind, Problem
from worker.settings import Settings, read_api_keys

LARGEST_BODY_BYTES = 1 << 20
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json"})
"""Pages and probes that hold nothing secret and are read by programs without a key."""


class KeysMissing(Exception):
    """The service was to listen beyond this machine without any API key."""


def required_keys(settings: Settings) -> tuple[SecretStr, ...]:
    """The API keys of which every request must carry one; none where only this machine can reach the service.

    Keys that the environment names are asked for on loopback too.

    Raises:
        KeysMissing: others can reach the service, and there is no key.
    """
    keys = settings.api_keys or (() if settings.is_on_loopback else read_api_keys(settings))
    if not keys and not settings.is_on_loopback:
        raise KeysMissing(
            f"REINMAX_HOST is {settings.host}, where others can reach the service, so it needs API keys, but there are "
            f"none. Set REINMAX_API_KEYS to one or more, separated by commas, or write one into "
            f"{settings.api_keys_file}, or set REINMAX_HOST to 127.0.0.1."
        )
    return keys


@final
class Guard:
    """ASGI middleware that answers a request with a problem, or lets it pass with the caller's name in its state.

    Args:
        app: what is guarded.
        keys: the API keys of which every request must carry one as a bearer token; none asks for none.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[SecretStr] = ()) -> None:
        self._app = app
        self._keys = tuple(_digest(key.get_secret_value()) for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["state"]["caller"] = self._admit(scope, Headers(scope=scope))
        except Problem as problem:
            await problem.response(scope)(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)

    def _admit(self, scope: Scope, headers: Headers) -> str:
        host = _host(headers)
        if scope["method"] not in SAFE_METHODS:
            _check_site(headers)
        if not self._keys:
            _check_host(host)
        _check_length(headers)
        return self._caller(headers) if self._keys and scope["path"] not in OPEN_PATHS else ""

    def _caller(self, headers: Headers) -> str:
        """A name for whoever holds the key, which does not give the key away."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        presented = _digest(token.strip())
        # Digests have one length, and all are compared, so the time taken tells nothing about the keys.
        matches = [hmac.compare_digest(presented, key) for key in self._keys]
        if scheme.lower() == "bearer" and any(matches):
            return presented.hex()[:16]
        finding = "an unknown key" if token else "none"
        raise Problem(
            Kind.UNAUTHORIZED,
            f"Send one of the keys in REINMAX_API_KEYS as `Authorization: Bearer KEY`; the request carries {finding}.",
            headers={"WWW-Authenticate": 'Bearer realm="reinmax"'},
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _check_site(headers: Headers) -> None:
    """Refuses what a browser sends on behalf of a page of another site."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and _netloc(origin) != host.lower():
        raise Problem(Kind.CROSS_SITE, f"Changes are accepted from pages of {host} only; this one comes from {origin}.")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Problem(Kind.CROSS_SITE, f"Changes are accepted from pages of {host} only; this one is from elsewhere.")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host(headers: Headers) -> str:
    """The name or address under which the service was called; a malformed one is refused."""
    header = headers.get("host", "")
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError as error:
        raise Problem(
            Kind.UNKNOWN_HOST, f"The header Host should be a name or an address, and a port; found {header[:80]!r}."
        ) from error


def _check_host(host: str) -> None:
    """Refuses names that a foreign DNS server may have pointed at this machine, where no key protects the service."""
    if host and host != "localhost" and not host.endswith(".localhost") and not _is_address(host):
        raise Problem(
            Kind.UNKNOWN_HOST,
            f"Without API keys the service answers to `localhost` and to addresses only, not to {host!r}; "
            f"set REINMAX_API_KEYS to use it under a name.",
        )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _check_length(headers: Headers) -> None:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > LARGEST_BODY_BYTES:
        raise _too_large(f"{int(length)} bytes")


def _limited(receive: Receive) -> Receive:
    """`receive` for bodies that do not announce their length."""
    received = 0

    async def receive_within_limit() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > LARGEST_BODY_BYTES:
            raise _too_large("more")
        return message

    return receive_within_limit


def _too_large(finding: str) -> Problem:
    return Problem(Kind.BODY_TOO_LARGE, f"A body may have at most {LARGEST_BODY_BYTES} bytes; this one has {finding}.")
