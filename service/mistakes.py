"""What is wrong with settings, told where and how the user wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from reinmax_core.run import RunSpec
from reinmax_core.value import Value, name_of
from worker.submission import Submission

MOST_MISTAKES = 32
LONGEST_VALUE = 80
SUBJECT = re.compile("^(Input|Value|String|List|Tuple|Dictionary|Data) (?=should|must)")
"""How pydantic's sentences begin; ours begin with the name of the field."""
BEGINNING = re.compile(r"^\S+ should (be )?")
FOUND = "; found "

Path = tuple[str | int, ...]


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(
        default=None, description="JSON pointer (RFC 6901) to the place in the body; empty for the body as a whole."
    )
    parameter: str | None = Field(default=None, description="The query or path parameter, or header, it is about.")
    message: str = Field(description="What is expected, what was found, and the remedy where there is one.")


@dataclass(frozen=True, slots=True)
class Written:
    """Settings as the user wrote them, and what they were to describe."""

    settings: Any
    """As read from JSON; they need not be an object."""
    described: type[BaseModel]
    """The class of what they were to describe, such as `RunSpec`."""

    def mistakes(self, errors: Sequence[ErrorDetails]) -> tuple[Mistake, ...]:
        """One mistake for each place that pydantic's errors are about, whose paths begin at the settings."""
        return _merged(self._mistake(error) for error in errors[:MOST_MISTAKES])

    def _mistake(self, error: ErrorDetails) -> Mistake:
        path = error["loc"]
        written = ("tau",) if self._is_tau_at_the_top(path) else self._place(error)
        name = str(written[-1]) if written else "body"
        message = self._unknown_field(path) if error["type"] == "extra_forbidden" else _message(error, name)
        return Mistake(pointer=_pointer(written), message=message)

    def _place(self, error: ErrorDetails) -> Path:
        """The path of the mistake as written, without the names that only tell the members of a union apart."""
        written: list[str | int] = []
        settings, path = self.settings, error["loc"]
        for index, part in enumerate(path):
            is_last = index == len(path) - 1
            is_name = isinstance(settings, Mapping) and settings.get("name") == part and not is_last
            if not is_name and _holds(settings, part):
                written.append(part)
                settings = settings[part]
            elif is_last and error["type"] == "missing" and isinstance(settings, Mapping):
                written.append(part)
        if error["type"].startswith("union_tag") and isinstance(settings, Mapping):
            written.append("name")
        pointer = error.get("ctx", {}).get("pointer")
        return (*written, *str(pointer).split("/")) if pointer else tuple(written)

    def _is_tau_at_the_top(self, path: Path) -> bool:
        """Whether the path leads to the estimator's `tau` and the user wrote it beside the estimator."""
        inside_estimator = (path[0], path[-1]) == ("estimator", "tau") if path else False
        written = self.settings
        return inside_estimator and _holds(written, "tau") and not _holds(written.get("estimator"), "tau")

    def _unknown_field(self, path: Path) -> str:
        name, (value_class, members) = str(path[-1]), self._class_at(path[:-1])
        unknown = f"unknown field {_shown(name)}"
        known = {field.alias or field_name for field_name, field in value_class.model_fields.items()}
        if value_class is not self.described:
            return f"{unknown}{_nearest(name, sorted(known))}{_having(name, members)}"
        if not issubclass(self.described, RunSpec):
            base = "base" in known and name in {*Submission.model_fields, "tau"}
            hint = f'; it is a field of a job and belongs inside base: {{"base": {{"{name}": ...}}}}'
            return f"{unknown}{hint if base else _nearest(name, sorted(known))}"
        if owner := self._owner(name):
            inside = f'{{"{owner}": {{"name": ..., "{name}": ...}}}}'
            return f"{unknown}; it is a setting of the {owner} and belongs inside it: {inside}"
        return f"{unknown}{_nearest(name, sorted(known | {'tau'}))}"

    def _owner(self, name: str) -> str | None:
        """The field one of whose possible values has a field of that name."""
        for field, described in self.described.model_fields.items():
            if any(name in value.model_fields for value in _classes_in(described.annotation)):
                return field
        return None

    def _class_at(self, path: Path) -> tuple[type[BaseModel], tuple[type[BaseModel], ...]]:
        """The class of the object at that path, and all that might stand there; names on the path tell them apart."""
        found, members = self.described, tuple[type[BaseModel], ...]()
        for part in path:
            if named := [member for member in members if _name_of(member) == part]:
                found = named[0]
            elif part in found.model_fields:
                members = tuple(_classes_in(found.model_fields[str(part)].annotation))
                found = members[0] if members else found
        return found, members


def mistakes_in_parameters(errors: Sequence[ErrorDetails]) -> tuple[Mistake, ...]:
    """One mistake for each parameter of a request that pydantic's errors are about, whose paths begin at its place."""
    return _merged(_of_parameter(error) for error in errors[:MOST_MISTAKES])


def _of_parameter(error: ErrorDetails) -> Mistake:
    path = error["loc"][1:]
    return Mistake(parameter=".".join(map(str, path)), message=_message(error, str(path[0]) if path else "value"))


def _merged(mistakes: Iterator[Mistake]) -> tuple[Mistake, ...]:
    """One mistake a place: a value that fits no member of a union is reported once a member."""
    messages: dict[tuple[str | None, str | None], list[str]] = {}
    for mistake in mistakes:
        found = messages.setdefault((mistake.pointer, mistake.parameter), [])
        if mistake.message not in found:
            found.append(mistake.message)
    return tuple(
        Mistake(pointer=pointer, parameter=parameter, message=_in_one(found))
        for (pointer, parameter), found in messages.items()
    )


def _in_one(messages: Sequence[str]) -> str:
    """Alternatives in a sentence, in which the beginning `c should be` and the end `; found 3` stand once."""
    parts = [message.rpartition(FOUND) for message in messages]
    if len({end for _, _, end in parts}) > 1 or not parts[0][1]:
        return ", or ".join(messages)
    expected, end = [expectation for expectation, _, _ in parts], parts[0][2]
    beginnings = {match.group() if (match := BEGINNING.match(text)) else "" for text in expected}
    shared = len(beginnings.pop()) if len(beginnings) == 1 else 0
    return f"{', or '.join((expected[0], *(text[shared:] for text in expected[1:])))}{FOUND}{end}"


def _message(error: ErrorDetails, name: str) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing" if isinstance(error["loc"][-1], int):
            return f"{name} should have more items than {len(error['input'])}{FOUND}{_shown(error['input'])}"
        case "missing":
            return f"{error['loc'][-1]} is missing"
        case "union_tag_invalid":
            names = context["expected_tags"].replace("'", "").split(", ")
            return f"there is no {error['loc'][-1]} {_shown(context['tag'])}{_nearest(context['tag'], names)}"
        case "union_tag_not_found":
            return f"{error['loc'][-1]} should be a name, or an object with a name{FOUND}{_shown(error['input'])}"
        case "value_error" | "inconsistent":
            return error["msg"].removeprefix("Value error, ")
        case "model_type" | "model_attributes_type":
            return f"{name} should be an object{FOUND}{_shown(error['input'])}"
    return f"{name} {SUBJECT.sub('', error['msg'])}{FOUND}{_shown(error['input'])}"


def _having(name: str, classes: Sequence[type[BaseModel]]) -> str:
    """Which of the classes have a field of that name, in words; nothing for none."""
    names = [str(_name_of(value_class)) for value_class in classes if name in value_class.model_fields]
    return f"; {', '.join(names)} {'have' if names[1:] else 'has'} it" if names else ""


def _holds(container: Any, part: str | int) -> bool:
    if isinstance(container, Mapping):
        return part in container
    return isinstance(container, list) and isinstance(part, int) and part < len(container)


def _pointer(path: Path) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


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
