"""Calls of the HTTP API as generators that say what they need, for blocking and asyncio programs alike."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeAlias, TypeVar, overload

import httpx

from service.client.errors import ServiceError, refusal, stranger, unreachable

if TYPE_CHECKING:
    from service.client import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
TEMPORARY: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, as far as it does not depend on who sends it."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hold_s: float = 0.0
    """Seconds that the service may hold the answer back because it was asked to."""
    pause_s: float = 0.0
    """Seconds to let pass before it is sent."""


Exchange: TypeAlias = Generator[Call, httpx.Response, T]
"""Yields calls, is sent their answers or has the `httpx.TransportError` raised in it, and returns what came of it."""


class endpoint(Generic[P, T]):  # noqa: N801  (a decorator, as property is)
    """Makes an exchange a method: an ordinary one of `Client`, a coroutine method of `AsyncClient`."""

    def __init__(self, exchange: Callable[Concatenate[Any, P], Exchange[T]]) -> None:
        self._exchange = exchange
        functools.update_wrapper(self, exchange)  # type: ignore[arg-type]

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> object:
        if client is None:
            return self

        @functools.wraps(self._exchange)
        def method(*args: P.args, **kwargs: P.kwargs) -> object:
            return client.carry_out(self._exchange(client, *args, **kwargs))

        return method


def _never_mind() -> Exchange[httpx.Response | None]:
    """Stands for a call that comes to the same however often it is made."""
    yield from ()
    return None


def answered(
    call: Call, patience_s: float, made: Callable[[], Exchange[httpx.Response | None]] = _never_mind
) -> Exchange[httpx.Response]:
    """The answer to a call that may be repeated: overload and lost connections are waited out.

    Args:
        call: what is asked; doing it twice must come to the same as doing it once, but for `made`.
        patience_s: seconds after which no further attempt begins.
        made: is asked before a repetition; gives the answer if an attempt that was not answered did its work.

    Raises:
        ServiceError: the last attempt's.
    """
    give_up_at, longest_pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
    failure: ServiceError
    while True:
        try:
            response = yield call
        except httpx.TransportError as error:
            failure, asked_s = unreachable(error), 0.0
        else:
            if response.status_code not in TEMPORARY:
                return _accepted(response)
            failure, asked_s = refusal(response), _retry_after_s(response)
        pause_s = max(asked_s, random.uniform(longest_pause_s / 2, longest_pause_s))
        if time.monotonic() + pause_s > give_up_at:
            raise failure
        if (answer := (yield from made())) is not None:
            return answer
        call, longest_pause_s = (
            replace(call, pause_s=pause_s),
            min(2 * longest_pause_s, LONGEST_PAUSE_S),
        )


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.status_code >= 400:
        raise refusal(response)
    if response.status_code >= 300 and response.status_code != 304:
        raise stranger(response)
    return response


def _retry_after_s(response: httpx.Response) -> float:
    # The service sends seconds; a date, which the header also allows, may come from a proxy and is not worth code.
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0
