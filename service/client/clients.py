"""The HTTP API as typed Python calls: `Client` waits for each answer, `AsyncClient` is for asyncio.

with Client() as client:
    job = client.submit({"task": "polynomial", "estimator": "reinmax"})
    print(client.wait(job.id).result)
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

import httpx

from service.client.address import running_here
from service.client.endpoints import Endpoints, JobFilter
from service.client.exchange import Call, Exchange
from worker.jobs import Job
from worker.settings import Settings, is_loopback
from worker.sweep import Sweep

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0


def service_url(settings: Settings) -> str:
    """The address to talk to: REINMAX_URL, else the stack that runs on this machine, else the usual one."""
    return settings.url or running_here(settings.state_dir) or DEFAULT_URL


class Client(Endpoints):
    """A connection to the service whose methods return when the answer is there. Safe to share by threads.

    Args:
        url: address of the service; by default REINMAX_URL, else the stack that runs on this machine.
        api_key: key to send; by default REINMAX_API_KEY.
        patience_s: seconds for which a call is repeated while the service is overloaded or cannot be reached.

    Methods raise the errors of `service.client.errors`, all of them a `ServiceError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        super().__init__(patience_s)
        self._http = httpx.Client(**_connection(url, api_key))

    def list(self, **filters: Unpack[JobFilter]) -> Iterator[Job]:
        """All jobs that fit, newest first, fetched page by page as they are asked for."""
        page = self.page(**filters)
        yield from page.data
        while page.next_cursor:
            page = self.page(cursor=page.next_cursor, **filters)
            yield from page.data

    def list_sweeps(self) -> Iterator[Sweep]:
        """All sweeps, newest first, fetched page by page as they are asked for."""
        page = self.sweep_page()
        yield from page.data
        while page.next_cursor:
            page = self.sweep_page(cursor=page.next_cursor)
            yield from page.data

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def carry_out(self, exchange: Exchange[T]) -> T:
        """Makes the calls that the exchange asks for; returns what it returns."""
        try:
            call = next(exchange)
            while True:
                try:
                    response = self._send(call)
                except httpx.TransportError as error:
                    call = exchange.throw(error)
                else:
                    call = exchange.send(response)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _send(self, call: Call) -> httpx.Response:
        time.sleep(call.pause_s)
        return self._http.send(_request(self._http, call))


class AsyncClient(Endpoints):
    """`Client` with coroutine methods, for asyncio."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        super().__init__(patience_s)
        self._http = httpx.AsyncClient(**_connection(url, api_key))

    async def list(self, **filters: Unpack[JobFilter]) -> AsyncIterator[Job]:
        """All jobs that fit, newest first, fetched page by page as they are asked for."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self.page(cursor=cursor or None, **filters)
            cursor = page.next_cursor
            for job in page.data:
                yield job

    async def list_sweeps(self) -> AsyncIterator[Sweep]:
        """All sweeps, newest first, fetched page by page as they are asked for."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self.sweep_page(cursor=cursor or None)
            cursor = page.next_cursor
            for sweep in page.data:
                yield sweep

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def carry_out(self, exchange: Exchange[T]) -> T:
        """Makes the calls that the exchange asks for; returns what it returns."""
        try:
            call = next(exchange)
            while True:
                try:
                    response = await self._send(call)
                except httpx.TransportError as error:
                    call = exchange.throw(error)
                else:
                    call = exchange.send(response)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _send(self, call: Call) -> httpx.Response:
        await asyncio.sleep(call.pause_s)
        return await self._http.send(_request(self._http, call))


def _request(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        content=call.body,
        timeout=TIMEOUT_S + call.hold_s,
    )


class _Connection(TypedDict):
    base_url: str
    headers: dict[str, str]
    verify: ssl.SSLContext | bool
    trust_env: bool


def _connection(url: str | None, api_key: str | None) -> _Connection:
    settings = Settings() if url is None else Settings(url=url)
    url, key = service_url(settings), api_key or settings.api_key
    headers = {
        "Accept": "application/json",
        "User-Agent": f"reinmax-service/{version('reinmax-service')}",
    }
    if key is not None:
        headers["Authorization"] = f"Bearer {key if isinstance(key, str) else key.get_secret_value()}"
    # Loading the certificates takes longer than a command that needs none; and no proxy leads to this machine.
    encrypted, on_loopback = (
        url.startswith("https:"),
        is_loopback(str(urlsplit(url).hostname)),
    )
    verify = True if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {
        "base_url": url,
        "headers": headers,
        "verify": verify,
        "trust_env": not on_loopback,
    }
