"""Query parameters: those that no route declares are refused, as unknown fields of a body are."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Path, Request

from service.mistakes import Mistake
from service.protocol.problems import Kind, Problem

LABEL: Final = "label."
MOST_MISTAKES: Final = 32

LABELS: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "label.KEY",
            "in": "query",
            "description": "Only jobs whose label KEY has this value; may be given for several keys.",
            "schema": {"type": "string", "maxLength": 128},
        }
    ]
}
"""What OpenAPI says of `label.KEY=VALUE`, a family of parameters."""

JobId: TypeAlias = Annotated[
    str, Path(description="The job's `id`.", examples=["job_01993b5e7c6f7a3d8b1c2d3e4f506172"])
]

SweepId: TypeAlias = Annotated[
    str, Path(description="The sweep's `id`.", examples=["sweep_01993b5e7c6f7a3d8b1c2d3e4f506172"])
]


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of every route under `/v1`."""
    if not request.scope["query_string"]:
        return
    known = _declared(request)
    unknown = [name for name in request.query_params if name not in known and not _is_label(name, known)]
    if unknown:
        mistakes = tuple(Mistake(parameter=name, message=_message(name, known)) for name in unknown[:MOST_MISTAKES])
        raise Problem(Kind.INVALID_REQUEST, "; ".join(mistake.message for mistake in mistakes), mistakes=mistakes)


def labels_in(request: Request) -> dict[str, str]:
    """What the parameters `label.KEY=VALUE` say."""
    return {name.removeprefix(LABEL): value for name, value in request.query_params.items() if name.startswith(LABEL)}


def _declared(request: Request) -> frozenset[str]:
    operation = request.app.openapi()["paths"][request.scope["route"].path_format][request.method.lower()]
    return frozenset(parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query")


def _is_label(name: str, known: frozenset[str]) -> bool:
    return name.startswith(LABEL) and any(declared.startswith(LABEL) for declared in known)


def _message(name: str, known: frozenset[str]) -> str:
    if not known:
        return f"unknown query parameter {name[:80]!r}; there are none here"
    near = get_close_matches(name[:80], known, n=1)
    question = f"did you mean {near[0]!r}? Those" if near else "those"
    return f"unknown query parameter {name[:80]!r}; {question} that exist are: {', '.join(sorted(known))}"
