"""The axes of grids: those of the sweep that has several, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from worker.sweep import Axis
from worker.sweep_grid import Draft, Flaw, Grid, Place
from worker.sweep_path import SHORT_FORMS, fields_beside, has_field, parts_of, unknown_field
from worker.sweep_values import Range

SEEDS_REMEDY: Final = "the seeds of a sweep stand in `seeds`, as a number or a list"
LOOKED_AT: Final = 100
"""So many cells are looked at for the fields that there are."""


def grid_of(written: Mapping[str, list[JsonValue] | Range], place: Place) -> Grid:
    """A grid as it is written at a place of a request."""
    ranges = {path: values.values for path, values in written.items() if isinstance(values, Range)}
    listed = ((path, ranges.get(path, values)) for path, values in written.items())
    axes = (Axis(path=path, values=tuple(values)) for path, values in listed if not isinstance(values, Range))
    return Grid(tuple(axes), place, frozenset(ranges))


def in_common(grids: Sequence[Grid]) -> tuple[tuple[Axis, ...], tuple[Grid, ...]]:
    """The axes of all grids, each with all its values, and the grids with those values as they are written first.

    Numbers that ascend in every grid do so together; all else is in the order in which it is written.
    """
    values: dict[str, dict[Hashable, JsonValue]] = {}
    ascending: dict[str, bool] = {}
    for axis in (axis for grid in grids for axis in grid.axes):
        known = values.setdefault(axis.path, {})
        for value in axis.values:
            known.setdefault(_key(value), value)
        ascending[axis.path] = ascending.get(axis.path, True) and _ascend(axis.values)
    axes = tuple(
        Axis(path=path, values=tuple(sorted(known.values(), key=_number) if ascending[path] else known.values()))
        for path, known in values.items()
    )
    return axes, tuple(_spelled(grid, values) for grid in grids)


def flaws_of_grids(grids: Sequence[Grid]) -> Iterator[Flaw]:
    """What is wrong with their axes, whatever the base is."""
    first: dict[tuple[str, ...], str] = {}
    for grid in grids:
        yield from flaws_of_axes(grid)
        for axis in grid.axes:
            known = first.setdefault(parts_of(axis.path), axis.path)
            if known != axis.path and all(own.path != known for own in grid.axes):
                yield Flaw((*grid.place, axis.path), f"{axis.path} is {known} elsewhere in the grid; write it so, too")


def flaws_of_axes(grid: Grid) -> Iterator[Flaw]:
    """What is wrong with the axes of one grid, whatever the base is."""
    paths: dict[tuple[str, ...], str] = {}
    for axis in grid.axes:
        before = paths.setdefault(parts_of(axis.path), axis.path)
        if before != axis.path:
            yield Flaw((*grid.place, axis.path), f"{axis.path} is the same field as {before}; leave one of the two")
        if axis.path == "seed":
            yield Flaw((*grid.place, "seed"), f"seed cannot be an axis; {SEEDS_REMEDY}")
        yield from _flaws_of_values(grid, axis)


def unknown_axes(grid: Grid, found: Sequence[Draft]) -> Iterator[Flaw]:
    """A flaw for each axis of a grid that applies to none of its cells."""
    for number, axis in enumerate(grid.axes):
        if all(draft.places[number] is None for draft in found):
            yield Flaw((*grid.place, axis.path), _no_such_field(axis.path, found[:LOOKED_AT]))


def _key(value: JsonValue) -> Hashable:
    """The same for two values that JSON has as the same, such as 1 and 1.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return json.dumps(value, sort_keys=True)


def _ascend(values: Sequence[JsonValue]) -> bool:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return len(numbers) == len(values) and numbers == sorted(numbers)


def _number(value: JsonValue) -> float:
    assert isinstance(value, (int, float))
    return value


def _spelled(grid: Grid, known: Mapping[str, Mapping[Hashable, JsonValue]]) -> Grid:
    axes = (
        Axis(path=axis.path, values=tuple(known[axis.path][_key(value)] for value in axis.values)) for axis in grid.axes
    )
    return replace(grid, axes=tuple(axes))


def _flaws_of_values(grid: Grid, axis: Axis) -> Iterator[Flaw]:
    first: dict[str, int] = {}
    for number, value in enumerate(axis.values):
        before = first.setdefault(json.dumps(value, sort_keys=True), number)
        if before != number:
            place = (*grid.place, axis.path, number)
            yield Flaw(place, f"the value stands on this axis twice, first at {before}; leave one")


def _no_such_field(path: str, found: Sequence[Draft]) -> str:
    parts = parts_of(path)
    lengths = range(1, len(parts) + 1)
    missing = (length for length in lengths if not any(has_field(draft.body, parts[:length]) for draft in found))
    wrong = next(missing, len(parts))
    fields = {field for draft in found for field in fields_beside(draft.body, parts[:wrong]) or ()}
    if wrong == 1:
        return unknown_field(parts[0], sorted(fields - {"seed"} | set(SHORT_FORMS)))
    inside = ".".join(parts[: wrong - 1])
    if not fields:
        return f"{inside} has no fields of its own, so there is no {path}; leave it out"
    return unknown_field(parts[wrong - 1], sorted(fields), f" in {inside} of the cells")
