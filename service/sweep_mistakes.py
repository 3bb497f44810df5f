"""What is wrong with a request for a sweep, told where and how the user wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from service.mistakes import Mistake, Written
from worker.submission import Submission
from worker.sweep_grid import Draft, InvalidCell, InvalidSweep, Place
from worker.sweep_path import parts_of
from worker.sweep_preset import DataMissing

MOST_LISTED: Final = 100
NAMED: Final = 3
LONGEST: Final = 120


def mistakes_in_sweep(invalid: InvalidSweep) -> tuple[tuple[Mistake, ...], int]:
    """Its mistakes, one a place and sentence, and how many more there are than are listed."""
    flaws = [Mistake(pointer=pointer_to(flaw.place), message=flaw.message) for flaw in invalid.flaws]
    found = [*flaws, *_of_cells(invalid)]
    return tuple(found[:MOST_LISTED]), max(0, len(found) - MOST_LISTED)


def mistakes_in_data(missing: DataMissing) -> tuple[Mistake, ...]:
    """One for each data set."""
    remedy = (
        "Where the workers have it, though the API has not, send the request of the preset that `/v1/presets` shows in "
        "place of its name"
    )
    return tuple(
        Mistake(pointer="/preset", message=f"{name}: {reason}. {remedy}") for name, reason in missing.reasons.items()
    )


def pointer_to(place: Place) -> str:
    """The JSON pointer (RFC 6901) to a place."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)


def _of_cells(invalid: InvalidSweep) -> Iterator[Mistake]:
    """What is the same in several cells is one mistake."""
    cells: dict[tuple[str, str], list[InvalidCell]] = {}
    for cell in invalid.cells:
        for mistake in Written(dict(cell.draft.body), Submission).mistakes(cell.errors):
            place = _place(mistake.pointer or "", cell.draft, invalid)
            cells.setdefault((pointer_to(place), mistake.message), []).append(cell)
    for (pointer, message), found in cells.items():
        yield Mistake(pointer=pointer, message=f"{message}{_where(found, invalid)}")


def _place(pointer: str, draft: Draft, invalid: InvalidSweep) -> Place:
    """Where in the request that stands which is wrong in the body of a cell: on an axis, or else in the base."""
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    covering = [one for one in draft.located if parts_of(one[0].path) == parts[: len(parts_of(one[0].path))]]
    if not covering:
        return ("base", *parts)
    axis, place = max(covering, key=lambda one: len(parts_of(one[0].path)))
    if invalid.search:
        return invalid.search.place_of(axis.path, place)
    return draft.grid.place_of(axis, place, tuple(_held(axis.values[place], parts[len(parts_of(axis.path)) :])))


def _held(value: JsonValue, parts: Sequence[str]) -> Iterator[str]:
    """As much of a path as leads to something that is written there."""
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return
        yield part
        value = value[part]


def _where(cells: Sequence[InvalidCell], invalid: InvalidSweep) -> str:
    """Which cells a mistake is in, unless it is in all."""
    if len(cells) == invalid.count or invalid.search:
        return ""
    first = cells[0]
    if len(cells) == 1:
        return f" (cell {first.number}: {_coordinates(first.draft)})"
    numbers = ", ".join(str(cell.number) for cell in cells[:NAMED])
    others = f" and {len(cells) - NAMED} others" if len(cells) > NAMED else ""
    return f" (cells {numbers}{others})"


def _coordinates(draft: Draft) -> str:
    values = (f"{path} {json.dumps(value, ensure_ascii=False)}" for path, value in draft.coordinates.items())
    text = ", ".join(values)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
