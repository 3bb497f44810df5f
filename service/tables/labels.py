"""Coordinates of cells in words, as short as they can be without two of an axis reading the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from pydantic import JsonValue

from worker.sweep import Axis

NAME: Final = "name"
SIZE: Final = ("categories", "latents")
"""What is written `8x4` where nothing else of a task varies, as the papers do."""
NOTHING: Final = "–"
LONGEST_NUMBER: Final = 8


@final
class Labels:
    """Words for the values of the axes of a sweep."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._axes = {axis.path: axis for axis in axes}
        self._numeric = {axis.path for axis in axes if any(isinstance(value, int | float) for value in axis.values)}
        self._varying = {axis.path: _varying_fields(axis.values) for axis in axes}

    def axis(self, path: str) -> str:
        """The last word of the path where no other axis ends so."""
        last = path.rpartition(".")[2]
        others = [other for other in self._axes if other != path and other.rpartition(".")[2] == last]
        return path if others else last

    def place(self, path: str, value: JsonValue) -> int:
        """Where a value stands among those of its axis; behind them all for None."""
        values = self._axes[path].values
        return values.index(value) if value in values else len(values)

    def value(self, path: str, value: JsonValue) -> str:
        """A value of an axis: names as they are, objects by their name and what differs, numbers as `tau=0.5`."""
        if value is None:
            return NOTHING
        if isinstance(value, Mapping):
            return one_line(self._object(path, value))
        if isinstance(value, str) and path not in self._numeric:
            return one_line(value)
        return one_line(f"{self.axis(path)}={brief(value)}")

    def entry(self, coordinates: Mapping[str, JsonValue]) -> str:
        """All coordinates of a row or column; those that do not apply to it are left out."""
        return " ".join(
            self.value(path, value) for path, value in coordinates.items() if value is not None
        ) or NOTHING  # fmt: skip

    def _object(self, path: str, value: Mapping[str, JsonValue]) -> str:
        name = value.get(NAME)
        varying = self._varying.get(path, {}).get(name if isinstance(name, str) else None, tuple(value))
        fields = {field: value[field] for field in varying if field in value and field != NAME}
        words = [one_line(name)] if isinstance(name, str) else []
        if sorted(fields) == sorted(SIZE):
            words.append("x".join(brief(fields[field]) for field in SIZE))
        else:
            words += [f"{field}={brief(found)}" for field, found in fields.items()]
        return " ".join(words) or shown(dict(value))


def in_full(path: str, value: JsonValue) -> str:
    """A value of an axis where no other one stands beside it, so that all of its fields are told."""
    if not isinstance(value, Mapping):
        return Labels([Axis(path=path, values=(value,))]).value(path, value)
    rest = {field: found for field, found in value.items() if field != NAME}
    words = Labels([Axis(path=path, values=(rest,))]).value(path, rest) if rest else ""
    name = value.get(NAME)
    return f"{one_line(name)} {words}".strip() if isinstance(name, str) else words


def shown(value: JsonValue) -> str:
    """A value as a user would write it: words bare, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def brief(value: JsonValue) -> str:
    """`shown` on one line, but of a number with many digits, such as a point of a range, the first four."""
    text = one_line(shown(value))
    return f"{value:.4g}" if isinstance(value, float) and len(text) > LONGEST_NUMBER else text


def one_line(text: str) -> str:
    """What a user wrote, without what would break a line, a row of a table, or an image."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def answers_to(value: JsonValue, name: str) -> bool:
    """Whether a value is called by that name."""
    return value == name or (isinstance(value, Mapping) and value.get(NAME) == name)


def _varying_fields(values: Iterable[JsonValue]) -> dict[str | None, tuple[str, ...]]:
    """Of the values with each name: the fields in which they differ; all, of a single one without a name."""
    groups: dict[str | None, list[Mapping[str, JsonValue]]] = {}
    for value in values:
        if isinstance(value, (str, Mapping)):
            spelled_out: Mapping[str, JsonValue] = {NAME: value} if isinstance(value, str) else value
            name = spelled_out.get(NAME)
            groups.setdefault(name if isinstance(name, str) else None, []).append(spelled_out)
    return {name: _differing(group, is_named=name is not None) for name, group in groups.items()}


def _differing(group: Sequence[Mapping[str, JsonValue]], *, is_named: bool) -> tuple[str, ...]:
    fields = dict.fromkeys(field for value in group for field in value)
    if len(group) == 1:
        return () if is_named else tuple(fields)
    return tuple(
        field for field in fields if len({shown(value[field]) if field in value else None for value in group}) > 1
    )
