"""Answers to requests that do not fit, with every mistake in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel

from service.mistakes import Written, mistakes_in_parameters
from service.protocol.problems import Kind, Problem
from worker.submission import Submission


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Exception handler: 400 for a body that is no JSON, 422 with every mistake for one that does not fit."""
    assert isinstance(error, RequestValidationError)
    return _problem(error.errors(), error.body, _described_at(request)).response(request.scope)


def _described_at(request: Request) -> type[BaseModel]:
    """What the body of a request to that route describes."""
    field = request.scope["route"].body_field
    return Submission if field is None else field.field_info.annotation


def _problem(errors: Sequence[Any], body: Any, described: type[BaseModel]) -> Problem:
    if errors[0]["type"] == "json_invalid":
        return _no_json(f"{errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]}")
    if body is None and errors[0]["loc"] == ("body",):
        return _no_json("it is empty")
    in_body: list[Any] = [{**error, "loc": error["loc"][1:]} for error in errors if error["loc"][0] == "body"]
    elsewhere = [error for error in errors if error["loc"][0] != "body"]
    mistakes = mistakes_in_parameters(elsewhere) + Written(body, described).mistakes(in_body)
    several = f"There are {len(mistakes)} mistakes; `errors` lists them."
    return Problem(Kind.INVALID_REQUEST, several if mistakes[1:] else mistakes[0].message, mistakes=mistakes)


def _no_json(finding: str) -> Problem:
    example = '{"task": "polynomial", "estimator": "reinmax"}'
    return Problem(Kind.INVALID_JSON, f"The body should be a JSON object such as {example}, but {finding}.")
