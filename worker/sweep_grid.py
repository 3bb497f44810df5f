"""The cells of a grid: which there are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from worker.jobs import Submission
from worker.search import Search
from worker.sweep import Axis
from worker.sweep_path import Body, has_field, parts_of, placed

Place: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the values of a grid."""

    coordinates: Mapping[str, JsonValue]
    """Its value of each axis by path, as written; None where the axis does not apply to it."""
    submission: Submission
    """Its jobs, but for the seed, which is 0."""

    @property
    def request(self) -> str:
        """The body of its jobs as JSON, without the seed."""
        return self.submission.model_dump_json(exclude={"seed"})


@dataclass(frozen=True, slots=True)
class Draft:
    """A cell before it is validated."""

    places: tuple[int | None, ...]
    """Which of the values of each axis it has, from 0, in the order of the axes; None where one does not apply."""
    body: Body
    """Of its jobs."""

    def coordinates(self, axes: Sequence[Axis]) -> dict[str, JsonValue]:
        """Its values by the paths of the axes."""
        located = zip(axes, self.places, strict=True)
        return {axis.path: None if place is None else axis.values[place] for axis, place in located}


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
        axes: of the grid.
        count: how many cells there are.
        ranges: paths of the axes whose values are not written one by one.
        search: what was asked for in place of a grid; the axes are its fields.
    """

    def __init__(
        self,
        flaws: Sequence[Flaw] = (),
        cells: Sequence[InvalidCell] = (),
        axes: Sequence[Axis] = (),
        count: int = 0,
        ranges: Collection[str] = (),
        search: Search | None = None,
    ) -> None:
        super().__init__(f"{len(flaws)} mistakes in the request, {len(cells)} invalid cells of {count}")
        self.flaws, self.cells, self.axes, self.count = tuple(flaws), tuple(cells), tuple(axes), count
        self.ranges, self.search = frozenset(ranges), search


def drafts(base: Body, axes: Sequence[Axis], most: int) -> list[Draft]:
    """The cells of a grid in its order, no more than `most`.

    An axis applies to the cells that have its field. For the others it counts as one value.
    """
    # What stands in an estimator is known only once it is; so short paths come first, and names before all else.
    paths = [parts_of(axis.path) for axis in axes]
    order = sorted(range(len(axes)), key=lambda number: (len(paths[number]), paths[number][-1] != "name"))

    def combinations(body: Body, places: dict[int, int], left: Sequence[int]) -> Iterator[Draft]:
        if not left:
            yield Draft(tuple(places.get(number) for number in range(len(axes))), body)
        elif not has_field(body, paths[left[0]]):
            yield from combinations(body, places, left[1:])
        else:
            for place, value in enumerate(axes[left[0]].values):
                filled = placed(body, paths[left[0]], value)
                yield from combinations(filled, places | {left[0]: place}, left[1:])

    found = list(islice(combinations(base, {}, order), most))
    return sorted(found, key=lambda draft: [-1 if place is None else place for place in draft.places])


def cells_of(found: Sequence[Draft], axes: Sequence[Axis], ranges: Collection[str] = ()) -> tuple[Cell, ...]:
    """The cells that drafts describe; `ranges` as `InvalidSweep` has it.

    Raises:
        InvalidSweep: some are invalid, or two are the same.
    """
    cells: list[Cell] = []
    invalid: list[InvalidCell] = []
    for number, draft in enumerate(found):
        try:
            cells.append(Cell(draft.coordinates(axes), Submission.model_validate(draft.body)))
        except ValidationError as error:
            invalid.append(InvalidCell(number, draft, error.errors(include_url=False)))
    flaws = () if invalid else tuple(_doubles(found, cells, axes))
    if invalid or flaws:
        raise InvalidSweep(flaws, invalid, axes, len(found), ranges)
    return tuple(cells)


def _doubles(found: Sequence[Draft], cells: Sequence[Cell], axes: Sequence[Axis]) -> Iterator[Flaw]:
    """A flaw for each cell that is the same as one before it."""
    first: dict[str, int] = {}
    for number, cell in enumerate(cells):
        before = first.setdefault(cell.request, number)
        if before != number:
            yield _double(found[before], found[number], axes, before, number)


def _double(one: Draft, other: Draft, axes: Sequence[Axis], before: int, number: int) -> Flaw:
    compared = enumerate(zip(one.places, other.places, strict=True))
    different = [(axes[axis].path, mine) for axis, (its, mine) in compared if its != mine]
    path, place = different[-1]
    return Flaw(
        ("grid", path, place or 0),
        f"cell {number} would be the same as cell {before}, with all that is filled in; leave one of them out",
    )
