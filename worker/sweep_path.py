"""Paths to the fields of a job's body, such as `estimator.tau`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError

from reinmax_core.optimizers import Adam
from reinmax_core.value import name_of
from worker.submission import Submission

Body: TypeAlias = Mapping[str, JsonValue]
Parts: TypeAlias = tuple[str, ...]

SHORT_FORMS: Final = {"tau": ("estimator", "tau")}
"""What may be written at the top of a body though it belongs elsewhere."""
DEVICE: Final = {"hardware": "device"}
"""Where a bare word stands for an object, the field that it gives; `name` elsewhere."""


def parts_of(path: str) -> Parts:
    """The names on a path, from the top of the body."""
    return SHORT_FORMS.get(path, tuple(path.split(".")))


def placed(body: Body, parts: Parts, value: JsonValue) -> Body:
    """The body with a value at a path. An object without a `name` is merged into what stands there."""
    name, inner = parts[0], parts[1:]
    known = _spelled_out(body.get(name), name)
    found: JsonValue = value
    if inner or (isinstance(value, dict) and "name" not in value):
        if not isinstance(known, dict):
            return body  # which is invalid, and found to be so
        found = dict(placed(known, inner, value)) if inner else merged(known, value)
    filled = {**body, name: found}
    if parts == SHORT_FORMS["tau"]:
        filled.pop("tau", None)
    return filled


def merged(body: Body, over: JsonValue) -> dict[str, JsonValue]:
    """The body with the fields of another, objects field by field unless they have a `name`."""
    assert isinstance(over, dict)
    for name, value in over.items():
        body = placed(body, (name,), value)
    return dict(body)


def has_field(body: Body, parts: Parts) -> bool:
    """Whether the job of that body has a field there, whatever else is wrong with it."""
    known = fields_beside(body, parts)
    return known is None or parts[-1] in known


def fields_beside(body: Body, parts: Parts) -> frozenset[str] | None:
    """The fields that there are in the object in which a path ends; None where any name is one."""
    classes: list[type[BaseModel]] = [Submission]
    inside: JsonValue = dict(body)
    for name in parts[:-1]:
        annotations = [known.model_fields[name].annotation for known in classes if name in known.model_fields]
        if any(get_origin(annotation) is dict for annotation in annotations):
            return None
        inside = inside.get(name) if isinstance(inside, dict) else None
        classes = _meant(inside, [found for annotation in annotations for found in _classes_in(annotation)])
        if name == "optimizer" and len(classes) > 1:
            classes = _meant(_default_optimizer(body), classes)
    return frozenset(field for known in classes for field in known.model_fields)


def unknown_field(name: str, known: Sequence[str], where: str = "") -> str:
    """That there is no such field, with those that there are."""
    return f"unknown field {nearest(name, known, where)}"


def nearest(name: str, known: Sequence[str], where: str = "") -> str:
    """A name that is none of those known, with the one that may have been meant, and all of them."""
    near = get_close_matches(name, known, n=1)
    question = f'did you mean "{near[0]}"? Those' if near else "those"
    return f'"{name}"{where}; {question} that exist are: {", ".join(known)}'


def _spelled_out(value: JsonValue, name: str) -> JsonValue:
    """The object that may be written as a word, or left out."""
    if isinstance(value, str):
        return {DEVICE.get(name, "name"): value}
    return {} if value is None else value


def _meant(value: JsonValue, classes: Sequence[type[BaseModel]]) -> list[type[BaseModel]]:
    """Those of the classes that the value names; all if it names none."""
    name = value.get("name") if isinstance(value, dict) else value
    return [known for known in classes if "name" in known.model_fields and _name_of(known) == name] or list(classes)


def _name_of(known: type[BaseModel]) -> object:
    return known.model_fields["name"].default


def _default_optimizer(body: Body) -> str:
    try:
        return str(Submission.model_validate({name: body.get(name) for name in ("task", "estimator")}).optimizer.name)
    except ValidationError:
        return name_of(Adam)


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes_in(argument)
