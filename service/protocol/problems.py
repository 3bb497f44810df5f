"""Every error as the service answers it: problem details (RFC 9457), never a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, final

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service.mistakes import Mistake

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class Kind(Enum):
    """What can go wrong: the HTTP status, and a title that stays the same from one occurrence to the next.

    The member's name in lower case is the `code` that clients may tell problems apart by.
    """

    BAD_REQUEST = 400, "The request is malformed"
    INVALID_JSON = 400, "The body is not JSON"
    INVALID_CURSOR = 400, "The cursor is not one of this list"
    INVALID_IDEMPOTENCY_KEY = 400, "The idempotency key is malformed"
    UNAUTHORIZED = 401, "A valid API key is required"
    CROSS_SITE = 403, "Requests from other sites are refused"
    NOT_FOUND = 404, "There is nothing at this address"
    JOB_NOT_FOUND = 404, "There is no such job"
    SWEEP_NOT_FOUND = 404, "There is no such sweep"
    ARTIFACT_NOT_FOUND = 404, "The job has no such artifact"
    METHOD_NOT_ALLOWED = 405, "The method is not allowed here"
    INVALID_STATE = 409, "The state of the job or sweep does not allow this"
    BODY_TOO_LARGE = 413, "The body is too large"
    UNSUPPORTED_MEDIA_TYPE = 415, "The body must be JSON"
    RANGE_NOT_SATISFIABLE = 416, "The range lies outside the file"
    UNKNOWN_HOST = 421, "The service is not known under this host name"
    INVALID_REQUEST = 422, "The request does not fit"
    DATA_MISSING = 422, "Data that is needed is not at hand"
    IDEMPOTENCY_MISMATCH = 422, "The idempotency key was used for another request"
    INTERNAL_ERROR = 500, "The service made a mistake"
    RECORD_UNREADABLE = 500, "What is stored of the job or sweep cannot be read"
    UNAVAILABLE = 503, "The service is not available at the moment"
    NOT_READY = 503, "The service is not ready"

    def __init__(self, status: int, title: str) -> None:
        self.status = status
        self.title = title

    @property
    def code(self) -> str:
        """The word for programs, such as `job_not_found`."""
        return self.name.lower()

    @property
    def type(self) -> str:
        """The URI that identifies the problem, the same wherever the service runs."""
        return f"urn:reinmax:problem:{self.code}"

    @classmethod
    def of(cls, status: int) -> Kind:
        """The most general kind with that HTTP status."""
        return next((kind for kind in cls if kind.status == status), cls.BAD_REQUEST)


ALWAYS_POSSIBLE = (Kind.UNAUTHORIZED, Kind.INVALID_REQUEST, Kind.INTERNAL_ERROR, Kind.UNAVAILABLE)


class ProblemDetails(BaseModel):
    """What went wrong with a request (RFC 9457)."""

    type: str = Field(description="URI that identifies the kind of problem.", examples=[Kind.JOB_NOT_FOUND.type])
    title: str = Field(description="The kind of problem in words, the same in every occurrence.")
    status: int = Field(ge=400, le=599, description="The HTTP status code.")
    detail: str = Field(description="What happened this time, with the remedy where there is one.")
    instance: str = Field(description="The path of the request.")
    code: str = Field(
        description="The kind of problem as a word for programs.",
        json_schema_extra={"enum": [kind.code for kind in Kind]},
    )
    request_id: str = Field(description="Names the request in the service's log; also sent as `X-Request-Id`.")
    errors: tuple[Mistake, ...] | None = Field(default=None, description="Every mistake in the request.")
    job_status: str | None = Field(
        default=None,
        description="With code `invalid_state`: the state of the job or sweep, which does not allow the action.",
    )


@final
class Problem(HTTPException):
    """A request that is answered with a problem.

    It is an HTTPException so that the framework lets it pass where it turns other errors into its own.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        mistakes: tuple[Mistake, ...] | None = None,
        job_status: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind.status, detail, headers)
        self.kind = kind
        self.mistakes = mistakes
        self.job_status = job_status

    def response(self, scope: Mapping[str, Any]) -> Response:
        """The answer to the request of that ASGI scope."""
        details = ProblemDetails(
            type=self.kind.type,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=scope["path"],
            code=self.kind.code,
            request_id=request_id(scope),
            errors=self.mistakes,
            job_status=self.job_status,
        )
        content = details.model_dump_json(exclude_none=True)
        return Response(content, self.kind.status, self.headers, MEDIA_TYPE)


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an operation that may end in these problems, or in one that any may end in."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}
    titles: dict[int | str, list[str]] = {}
    for kind in (*kinds, *ALWAYS_POSSIBLE):
        titles.setdefault(kind.status, []).append(f"{kind.title}: `{kind.code}`.")
    return {
        status: {"description": " ".join(sentences), "content": {MEDIA_TYPE: schema}}
        for status, sentences in sorted(titles.items())
    }


def request_id(scope: Mapping[str, Any]) -> str:
    """The id under which the request is logged."""
    return str(scope.get("state", {}).get("request_id", ""))


def unavailable(detail: str, kind: Kind = Kind.UNAVAILABLE) -> Problem:
    """A problem that passes by itself, so that trying again makes sense."""
    return Problem(kind, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


async def answer_problem(request: Request, problem: Exception) -> Response:
    """Exception handler for `Problem`."""
    assert isinstance(problem, Problem)
    return problem.response(request.scope)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the framework itself refuses: unknown paths, methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_here(request))
    details = {
        404: f"There is nothing at {request.url.path}; GET /openapi.json lists every path.",
        405: f"{request.method} is not possible at {request.url.path}; the header Allow says what is.",
        400: "The body could not be read as JSON in UTF-8.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return Problem(Kind.of(error.status_code), detail, headers=headers).response(request.scope)


def _methods_here(request: Request) -> list[str]:
    """All methods of the path that was found; the framework names those of one route only."""
    operations = request.app.openapi()["paths"].get(request.scope["route"].path_format, ("get",))
    methods = {method.upper() for method in operations}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
