"""What can go wrong with a call of the HTTP API, as exceptions.

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

from collections.abc import Mapping
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError


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


KEY_REMEDY: Final = (
    "  Set REINMAX_API_KEY to such a key. Where the service made its own, as with docker compose, it is in the file\n"
    "  that REINMAX_API_KEYS_FILE of the API names: docker compose exec api cat /var/lib/reinmax/state/api-keys"
)


def _sentences(problem: Problem) -> str:
    # With several mistakes the detail is their enumeration.
    lines = [(problem.title if problem.errors else problem.detail) or f"the service answered {problem.status}"]
    lines += [f"  {mistake}" for mistake in problem.errors or ()]
    if problem.status == 401:
        lines.append(KEY_REMEDY)
    if problem.status >= 500 and problem.request_id:
        lines.append(f"  The service's log has more under request id {problem.request_id}.")
    return "\n".join(lines)


def refusal(response: httpx.Response) -> ServiceError:
    """The error that an answer with a status of 400 or more stands for."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return stranger(response)
    return KINDS.get(response.status_code, ApiError)(problem)


def stranger(response: httpx.Response) -> NotThisService:
    """The error that an answer stands for which the service would not give."""
    kind = response.headers.get("Content-Type", "no content type")
    return NotThisService(
        f"{response.url} answered {response.status_code} with {kind}, which the service would not; "
        "is REINMAX_URL the address of the service?"
    )


def unreachable(error: httpx.TransportError) -> Unreachable:
    """The error that a failed connection stands for."""
    url = error.request.url
    return Unreachable(
        f"no service answers at {url.scheme}://{url.netloc.decode()} ({str(error) or type(error).__name__}); "
        f"start one with `reinmax up`, or set REINMAX_URL to the address of one"
    )
