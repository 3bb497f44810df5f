"""What varies in a sweep, as it is written: axes by the paths of their fields, or a list of such grids."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, JsonValue

Axes: TypeAlias = dict[str, JsonValue]
"""A list of values, or a range, for each axis, by the path of the field that it varies."""
Grid: TypeAlias = Axes | Annotated[list[Axes], Field(min_length=1)]
"""The axes of which all combinations are cells, or several such grids."""


def changed(grid: Grid, over: Grid) -> Grid:
    """A grid with what another has: axis by axis, or all of it where the other is a list.

    Of several grids each is changed that has an axis; one that none of them has is added to all.
    """
    if isinstance(over, list):
        return over
    if isinstance(grid, dict):
        return grid | over
    known = {path for axes in grid for path in axes}
    return [axes | {path: over[path] for path in over if path in axes or path not in known} for axes in grid]


def joined(grid: Grid) -> Axes:
    """The axes of all grids, each with all the values that it has in any; one that is a range somewhere is that."""
    found: Axes = {}
    for axes in [grid] if isinstance(grid, dict) else grid:
        for path, values in axes.items():
            known = found.setdefault(path, [])
            if isinstance(known, list) and isinstance(values, list):
                found[path] = known + [value for value in values if value not in known]
            else:
                found[path] = values
    return found
