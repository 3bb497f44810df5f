"""The cells of grids: which there are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from worker.search import Search
from worker.submission import Submission
from worker.sweep import Axis
from worker.sweep_path import Body, has_field, parts_of, placed

Place: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Axes of which all combinations are cells."""

    axes: tuple[Axis, ...]
    place: Place = ("grid",)
    """Where it stands in the request."""
    ranges: frozenset[str] = frozenset()
    """Paths of the axes whose values are not written one by one."""

    def place_of(self, axis: Axis, number: int, inside: Place = ()) -> Place:
        """Where a value of an axis stands in the request, or something inside it."""
        return (*self.place, axis.path, *(() if axis.path in self.ranges else (number, *inside)))


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the values of a grid."""

    coordinates: Mapping[str, JsonValue]
    """Its value of each axis of the sweep by path, as written; None where the axis does not apply to it."""
    submission: Submission
    """Its jobs, but for the seed, which is 0."""

    @property
    def request(self) -> str:
        """The body of its jobs as JSON, without the seed."""
        return self.submission.model_dump_json(exclude={"seed"})


@dataclass(frozen=True, slots=True)
class Draft:
    """A cell before it is validated."""

    grid: Grid
    """Whose combination it is."""
    places: tuple[int | None, ...]
    """Which of the values of each axis of the grid it has, from 0, in their order; None where one does not apply."""
    body: Body
    """Of its jobs."""

    @property
    def located(self) -> Sequence[tuple[Axis, int]]:
        """The axes that apply to it, and which of their values it has."""
        each = zip(self.grid.axes, self.places, strict=True)
        return [(axis, place) for axis, place in each if place is not None]

    @property
    def coordinates(self) -> dict[str, JsonValue]:
        """Its values of those axes by path."""
        return {axis.path: axis.values[place] for axis, place in self.located}


@dataclass(frozen=True, slots=True)
class InvalidCell:
    """A cell that makes no job."""

    number: int
    draft: Draft
    errors: Sequence[ErrorDetails]
    """What pydantic says of its body."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A mistake in the request for a sweep, besides those in single cells."""

    place: Place
    """Where in the request."""
    message: str


class InvalidSweep(ValueError):
    """A request for a sweep does not fit; nothing was started.

    Args:
        flaws: of the request as a whole.
        cells: those that are invalid.
        count: how many cells there are.
        search: what was asked for in place of a grid; the axes of the cells' grid are its fields.
    """

    def __init__(
        self,
        flaws: Sequence[Flaw] = (),
        cells: Sequence[InvalidCell] = (),
        count: int = 0,
        search: Search | None = None,
    ) -> None:
        super().__init__(f"{len(flaws)} mistakes in the request, {len(cells)} invalid cells of {count}")
        self.flaws, self.cells, self.count, self.search = tuple(flaws), tuple(cells), count, search


def drafts(base: Body, grid: Grid, most: int) -> list[Draft]:
    """The cells of a grid in its order, no more than `most`.

    An axis applies to the cells that have its field. For the others it counts as one value.
    """
    # What stands in an estimator is known only once it is; so short paths come first, and names before all else.
    axes, paths = grid.axes, [parts_of(axis.path) for axis in grid.axes]
    order = sorted(range(len(axes)), key=lambda number: (len(paths[number]), paths[number][-1] != "name"))

    def combinations(body: Body, places: dict[int, int], left: Sequence[int]) -> Iterator[Draft]:
        if not left:
            yield Draft(grid, tuple(places.get(number) for number in range(len(axes))), body)
        elif not has_field(body, paths[left[0]]):
            yield from combinations(body, places, left[1:])
        else:
            for place, value in enumerate(axes[left[0]].values):
                filled = placed(body, paths[left[0]], value)
                yield from combinations(filled, places | {left[0]: place}, left[1:])

    found = list(islice(combinations(base, {}, order), most))
    return sorted(found, key=lambda draft: [-1 if place is None else place for place in draft.places])


def cells_of(found: Sequence[Draft], axes: Sequence[Axis]) -> tuple[Cell, ...]:
    """The cells that drafts describe, of a sweep with these axes.

    Raises:
        InvalidSweep: some are invalid, or two are the same.
    """
    cells: list[Cell] = []
    invalid: list[InvalidCell] = []
    nowhere: dict[str, JsonValue] = {axis.path: None for axis in axes}
    for number, draft in enumerate(found):
        try:
            cells.append(Cell(nowhere | draft.coordinates, Submission.model_validate(draft.body)))
        except ValidationError as error:
            invalid.append(InvalidCell(number, draft, error.errors(include_url=False)))
    flaws = () if invalid else tuple(_doubles(found, cells))
    if invalid or flaws:
        raise InvalidSweep(flaws, invalid, len(found))
    return tuple(cells)


def _doubles(found: Sequence[Draft], cells: Sequence[Cell]) -> Iterator[Flaw]:
    """A flaw for each cell that is the same as one before it."""
    first: dict[str, int] = {}
    for number, cell in enumerate(cells):
        before = first.setdefault(cell.request, number)
        if before != number:
            yield Flaw(
                _apart(found[before], found[number]),
                f"cell {number} would be the same as cell {before}, with all that is filled in; leave one of them out",
            )


def _apart(one: Draft, other: Draft) -> Place:
    """Where the other is written otherwise than the one."""
    if one.grid is not other.grid:
        return other.grid.place
    axis, place = [located for located in other.located if located not in one.located][-1]
    return other.grid.place_of(axis, place)
