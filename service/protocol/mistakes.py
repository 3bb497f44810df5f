"""What is wrong with a request, told where and how the user wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from reinmax_core.value import Value, name_of
from service.protocol.problems import Kind, Mistake, Problem
from worker.jobs import Submission

MOST_MISTAKES = 32
LONGEST_VALUE = 80
SUBJECT = re.compile("^(Input|Value|String|List|Tuple|Dictionary|Data) (?=should|must)")
"""How pydantic's sentences begin; ours begin with the name of the field."""

Path = tuple[str | int, ...]


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Exception handler: 400 for a body that is no JSON, 422 with every mistake for one that does not fit."""
    assert isinstance(error, RequestValidationError)
    return _problem(error.errors(), error.body).response(request.scope)


def _problem(errors: Sequence[Any], body: Any) -> Problem:
    if errors[0]["type"] == "json_invalid":
        return _no_json(f"{errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]}")
    if body is None and errors[0]["loc"] == ("body",):
        return _no_json("it is empty")
    mistakes = _merged(_mistake(error, body) for error in errors[:MOST_MISTAKES])
    several = f"There are {len(mistakes)} mistakes; `errors` lists them."
    return Problem(Kind.INVALID_REQUEST, several if mistakes[1:] else mistakes[0].message, mistakes=mistakes)


def _no_json(finding: str) -> Problem:
    example = '{"task": "polynomial", "estimator": "reinmax"}'
    return Problem(Kind.INVALID_JSON, f"The body should be a JSON object such as {example}, but {finding}.")


def _merged(mistakes: Iterator[Mistake]) -> tuple[Mistake, ...]:
    """One mistake a place: a value that fits no member of a union is reported once a member."""
    messages: dict[tuple[str | None, str | None], list[str]] = {}
    for mistake in mistakes:
        found = messages.setdefault((mistake.pointer, mistake.parameter), [])
        if mistake.message not in found:
            found.append(mistake.message)
    return tuple(
        Mistake(pointer=pointer, parameter=parameter, message=", or ".join(found))
        for (pointer, parameter), found in messages.items()
    )


def _mistake(error: ErrorDetails, body: Any) -> Mistake:
    place, *path = error["loc"]
    if place != "body":
        return Mistake(parameter=".".join(map(str, path)), message=_message(error, str(path[0]) if path else "value"))
    written = ("tau",) if _is_tau_at_the_top(path, body) else _as_written(error, tuple(path), body)
    return Mistake(pointer=_pointer(written), message=_message(error, str(written[-1]) if written else "body", path))


def _as_written(error: ErrorDetails, path: Path, body: Any) -> Path:
    """The path of the mistake in the body, without the names that only tell the members of a union apart."""
    written: list[str | int] = []
    for index, part in enumerate(path):
        is_last = index == len(path) - 1
        is_name = isinstance(body, Mapping) and body.get("name") == part and not is_last
        if not is_name and _holds(body, part):
            written.append(part)
            body = body[part]
        elif is_last and error["type"] == "missing" and isinstance(body, Mapping):
            written.append(part)
    if error["type"].startswith("union_tag") and isinstance(body, Mapping):
        written.append("name")
    pointer = error.get("ctx", {}).get("pointer")
    return (*written, *str(pointer).split("/")) if pointer else tuple(written)


def _holds(container: Any, part: str | int) -> bool:
    if isinstance(container, Mapping):
        return part in container
    return isinstance(container, list) and isinstance(part, int) and part < len(container)


def _is_tau_at_the_top(path: Sequence[str | int], body: Any) -> bool:
    """Whether the path leads to the estimator's `tau` and the user wrote it beside the estimator."""
    inside_estimator = (path[0], path[-1]) == ("estimator", "tau") if path else False
    return inside_estimator and _holds(body, "tau") and not _holds(body.get("estimator"), "tau")


def _pointer(path: Path) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _message(error: ErrorDetails, name: str, path: Sequence[str | int] = ()) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{error['loc'][-1]} is missing"
        case "extra_forbidden":
            return _unknown_field(str(error["loc"][-1]), tuple(path[:-1]))
        case "union_tag_invalid":
            names = context["expected_tags"].replace("'", "").split(", ")
            return f"there is no {error['loc'][-1]} {_shown(context['tag'])}{_nearest(context['tag'], names)}"
        case "union_tag_not_found":
            return f"{error['loc'][-1]} should be a name, or an object with a name; found {_shown(error['input'])}"
        case "value_error" | "inconsistent":
            return error["msg"].removeprefix("Value error, ")
        case "model_type" | "model_attributes_type":
            return f"{name} should be an object; found {_shown(error['input'])}"
    return f"{name} {SUBJECT.sub('', error['msg'])}; found {_shown(error['input'])}"


def _unknown_field(name: str, parents: Path) -> str:
    value_class = _class_at(parents)
    known = sorted({*value_class.model_fields, "tau"} if value_class is Submission else value_class.model_fields)
    if (owner := _owner(name)) and value_class is Submission:
        inside = f'{{"{owner}": {{"name": ..., "{name}": ...}}}}'
        return f"unknown field {_shown(name)}; it is a setting of the {owner} and belongs inside it: {inside}"
    return f"unknown field {_shown(name)}{_nearest(name, known)}"


def _owner(name: str) -> str | None:
    """The field of a submission one of whose possible values has a field of that name."""
    fields = Submission.model_fields
    return next((field for field in fields if any(name in value.model_fields for value in _values_of(field))), None)


def _values_of(field: str) -> tuple[type[BaseModel], ...]:
    return tuple(_classes_in(Submission.model_fields[field].annotation))


def _class_at(path: Path) -> type[BaseModel]:
    """The class that describes the object at that path; names of union members on it tell the members apart."""
    found: type[BaseModel] = Submission
    members: tuple[type[BaseModel], ...] = ()
    for part in path:
        if members and (named := [member for member in members if _name_of(member) == part]):
            found, members = named[0], ()
        elif part in found.model_fields:
            members = tuple(_classes_in(found.model_fields[str(part)].annotation))
            found = members[0] if members else found
    return found


def _name_of(value_class: type[BaseModel]) -> str | None:
    return name_of(value_class) if issubclass(value_class, Value) and "name" in value_class.model_fields else None


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes_in(argument)


def _nearest(name: Any, names: Sequence[str]) -> str:
    near = get_close_matches(str(name)[:LONGEST_VALUE], names, n=1)
    question = f"did you mean {_shown(near[0])}? Those" if near else "those"
    return f"; {question} that exist are: {', '.join(names)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
