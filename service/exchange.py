"""Calls of the HTTP API as generators that say what they need, so that one text serves blocking and asyncio programs.

What can go wrong:

    ServiceError
      Unreachable           nothing answers at the address
      NotThisService        something else answers there
      ApiError              the service refused the call, with a problem document that says why
        InvalidRequest        400, 413, 415, 422: the body or a parameter is wrong
        Unauthorized          401: no key, or one that the service does not know
        Forbidden             403: the key does not allow it
        NotFound              404, 410: there is no such job, artefact or page
        Conflict              409: not in this state
        Overloaded            429, 503: come back later
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

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


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    pointer: str | None = None
    """JSON pointer to the place in the body; empty for the body as a whole."""
    parameter: str | None = None
    """The query parameter, path parameter or header that it is about."""
    message: str

    def __str__(self) -> str:
        return f"{self.parameter or self.pointer or 'the request'}: {self.message}"


class Problem(BaseModel):
    """What the service says of a call that it refused (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    type: str = "about:blank"
    """Identifies the kind of problem."""
    title: str = ""
    status: int
    """The HTTP status."""
    detail: str = ""
    """What is expected, what was found and what to do."""
    instance: str | None = None
    code: str = ""
    """The kind of problem as a word."""
    request_id: str | None = None
    """Finds the request in the service's log."""
    errors: tuple[Mistake, ...] | None = None
    """Every single mistake, where there are several."""
    job_status: str | None = None
    """The state of the job that does not allow what was asked."""


class ServiceError(Exception):
    """A call did not come to what was asked for."""


class Unreachable(ServiceError):
    """No service answers at the address."""


class NotThisService(ServiceError):
    """What answers at the address is not this service."""


class ApiError(ServiceError):
    """The service refused the call; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(_sentences(problem))


class InvalidRequest(ApiError):
    """The body or a parameter is wrong; `problem.errors` points at each mistake."""


class Unauthorized(ApiError):
    """The service asks for a key and got none that it knows."""


class Forbidden(ApiError):
    """The key does not allow this."""


class NotFound(ApiError):
    """What was asked for does not exist."""


class Conflict(ApiError):
    """The job is not in a state that allows this."""


class Overloaded(ApiError):
    """The service cannot answer now, and did not for as long as the client waited."""


KINDS: Final[Mapping[int, type[ApiError]]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
    401: Unauthorized,
    403: Forbidden,
    **dict.fromkeys((404, 410), NotFound),
    409: Conflict,
    **dict.fromkeys((429, 503), Overloaded),
}


def _sentences(problem: Problem) -> str:
    lines = [problem.detail or problem.title or f"the service answered {problem.status}"]
    lines += [f"  {mistake}" for mistake in problem.errors or ()]
    if problem.status >= 500 and problem.request_id:
        lines.append(f"  The service's log has more under request id {problem.request_id}.")
    return "\n".join(lines)


def _refusal(response: httpx.Response) -> ServiceError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return _stranger(response)
    return KINDS.get(response.status_code, ApiError)(problem)


def _stranger(response: httpx.Response) -> NotThisService:
    return NotThisService(
        f"{response.url} answered {response.status_code} with {response.headers.get('Content-Type', 'no content type')}, "
        f"not with what the service would; is REINMAX_URL the address of the service?"
    )


def answered(call: Call, patience_s: float) -> Exchange[httpx.Response]:
    """The answer to a call that may be repeated: overload and lost connections are waited out.

    Args:
        call: what is asked; doing it twice must come to the same as doing it once.
        patience_s: seconds after which no further attempt begins.

    Raises:
        ServiceError: the last attempt's.
    """
    give_up_at, longest_pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
    failure: ServiceError
    while True:
        try:
            response = yield call
        except httpx.TransportError as error:
            failure, asked_s = _unreachable(error), 0.0
        else:
            if response.status_code not in TEMPORARY:
                return _accepted(response)
            failure, asked_s = _refusal(response), _retry_after_s(response)
        pause_s = max(asked_s, random.uniform(longest_pause_s / 2, longest_pause_s))
        if time.monotonic() + pause_s > give_up_at:
            raise failure
        call, longest_pause_s = (
            replace(call, pause_s=pause_s),
            min(2 * longest_pause_s, LONGEST_PAUSE_S),
        )


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.status_code >= 400:
        raise _refusal(response)
    if response.status_code >= 300 and response.status_code != 304:
        raise _stranger(response)
    return response


def _unreachable(error: httpx.TransportError) -> Unreachable:
    url = error.request.url
    return Unreachable(
        f"no service answers at {url.scheme}://{url.netloc.decode()} ({error or type(error).__name__}); "
        f"start one with `reinmax up`, or set REINMAX_URL to the address of one"
    )


def _retry_after_s(response: httpx.Response) -> float:
    # The service sends seconds; a date, which the header also allows, may come from a proxy and is not worth code.
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0
