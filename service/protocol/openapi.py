"""The service's description of itself, as `/openapi.json` has it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.protocol.problems import ProblemDetails

REFERENCES = "#/components/schemas/{model}"

TAGS = (
    {"name": "jobs", "description": "Submit training jobs, look at them, wait for them, pause and end them."},
    {"name": "sweeps", "description": "Grids of jobs over seeds, and published tables: submit, follow, end, extend."},
    {"name": "outputs", "description": "What jobs leave behind: metrics, logs and artefacts."},
    {"name": "catalogue", "description": "What exists: estimators, tasks, data sets and workers."},
    {"name": "health", "description": "For whoever runs the service."},
)

DESCRIPTION = """\
Send a training job (task, estimator, temperature, hardware); a worker on a matching machine trains it, and
status, metrics, results and the trained model come back here.

Errors are problem details (RFC 9457) with a `code`. Every answer carries `X-Request-Id`. Clients ignore fields
that they do not know; the service refuses them.
"""


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the application."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=list(TAGS),
    )
    schemas = document["components"]["schemas"]
    schemas |= _problem_schemas()
    for schema in list(schemas.values()):
        _describe_names(schema)
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "One of `REINMAX_API_KEYS`, where there are any."}
    }
    document["security"] = [{"key": []}, {}]
    return document


def _problem_schemas() -> dict[str, Any]:
    schema = ProblemDetails.model_json_schema(ref_template=REFERENCES)
    return {**schema.pop("$defs", {}), ProblemDetails.__name__: schema}


def _describe_names(schema: dict[str, Any]) -> None:
    """Says of the field that tells the members of a union apart what it is, which is the same for all."""
    for field in schema.get("properties", {}).values():
        if "const" in field:
            field.setdefault("description", f"Always `{field['const']}`.")
