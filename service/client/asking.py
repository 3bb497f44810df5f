"""How calls of the API are asked, whatever they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, TypeVar, Unpack

import httpx
from pydantic import BaseModel

from service.answers import Listing
from service.client.exchange import Call, Exchange, answered

M = TypeVar("M", bound=BaseModel)


class Details(TypedDict, total=False):
    """What a call has besides method and path."""

    params: Mapping[str, str | int]
    headers: Mapping[str, str]
    body: bytes
    hold_s: float


class Asking:
    """Asks the service, again while it is overloaded or cannot be reached.

    Args:
        patience_s: seconds after which a call is not repeated any more.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    def _answer(self, method: str, path: str, **details: Unpack[Details]) -> Exchange[httpx.Response]:
        return answered(Call(method, path, **details), self._patience_s)

    def _data(self, path: str, kind: type[M]) -> Exchange[tuple[M, ...]]:
        response = yield from self._answer("GET", path)
        return Listing[kind].model_validate_json(response.content).data  # type: ignore[valid-type]
