"""What a search may try: combinations of values that make jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice, product
from math import prod
from typing import Final, TypeAlias, final

from pydantic import BaseModel, JsonValue, ValidationError

from worker.search import Search, SearchedField
from worker.submission import Submission
from worker.sweep import Axis
from worker.sweep_grid import Cell, Draft, Grid, InvalidCell
from worker.sweep_path import Body, Parts, has_field, parts_of, placed

MOST_PROBES: Final = 1000
"""So many cells are looked at before a search starts. Others that make no job are passed over when it comes to them."""

Places: TypeAlias = tuple[int, ...]


@final
class Space:
    """The values that a search may try.

    Args:
        base: the body of a job, without the seed.
        search: what was asked for.
    """

    def __init__(self, base: Body, search: Search) -> None:
        self._base, self.search = base, search
        axes = tuple(Axis(path=path, values=field.ends) for path, field in search.fields.items())
        self.grid = Grid(axes, ("search", "fields"))
        """The fields in order, each with its choices or its two bounds."""

    @cached_property
    def fields(self) -> Mapping[str, SearchedField]:
        """The fields by path; those that take whole numbers alone say so."""
        jobs = list(_valid(self.drafts))
        whole = {axis.path: _is_whole(parts_of(axis.path), number, jobs) for number, axis in enumerate(self.grid.axes)}
        return {
            path: field.model_copy(update={"integer": True}) if field.choices is None and whole[path] else field
            for path, field in self.search.fields.items()
        }

    @property
    def size(self) -> int | None:
        """How many combinations there are at most; None for a continuum."""
        sizes = [field.size for field in self.fields.values()]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def cell(self, values: Mapping[str, JsonValue]) -> Cell:
        """The cell with these values; None stands in it for those of fields that it lacks, as some estimators do.

        Raises:
            ValidationError: they make no job.
        """
        body, _ = self._filled(values)
        return Cell(self.coordinates(values), Submission.model_validate(body))

    def coordinates(self, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """The values by path, None in place of those of fields that the cell with these values lacks."""
        _, applying = self._filled(values)
        return {path: values[path] if path in applying else None for path in self.search.fields}

    def axes_of(self, tried: Sequence[Mapping[str, JsonValue]]) -> tuple[Axis, ...]:
        """The fields with the values that have been tried: numbers ascending, choices in their order."""
        return tuple(
            Axis(path=path, values=_in_order(field, [coordinates[path] for coordinates in tried]))
            for path, field in self.search.fields.items()
        )

    def invalid(self) -> Iterator[InvalidCell]:
        """What is wrong with the choices, and with the bounds of the other fields, those of one field at a time."""
        for number, draft in enumerate(self.drafts):
            try:
                Submission.model_validate(draft.body)
            except ValidationError as error:
                yield InvalidCell(number, draft, error.errors(include_url=False))

    @cached_property
    def drafts(self) -> Sequence[Draft]:
        """Cells at the ends of the fields: with each combination of choices all lower bounds, then each upper one."""
        probes = islice(_probes(list(self.search.fields.values())), MOST_PROBES)
        return [self._draft(places) for places in probes]

    def _draft(self, places: Places) -> Draft:
        values = {axis.path: axis.values[place] for axis, place in zip(self.grid.axes, places, strict=True)}
        body, applying = self._filled(values)
        located = zip(self.grid.axes, places, strict=True)
        return Draft(self.grid, tuple(place if axis.path in applying else None for axis, place in located), body)

    def _filled(self, values: Mapping[str, JsonValue]) -> tuple[Body, set[str]]:
        """The body with these values, and the paths of those that it has a field for."""
        body, applying = self._base, set[str]()
        for path in sorted(self.search.fields, key=_precedence):
            if has_field(body, parts_of(path)):
                applying.add(path)
                body = placed(body, parts_of(path), values[path])
        return body, applying


def _precedence(path: str) -> tuple[int, bool]:
    # What stands in an estimator is known only once it is; so short paths come first, and names before all else.
    parts = parts_of(path)
    return len(parts), parts[-1] != "name"


def _probes(fields: Sequence[SearchedField]) -> Iterator[Places]:
    """Places on the axes: for every combination of choices all lower bounds, then each upper one in turn."""
    options = [range(len(field.ends)) if field.choices is not None else range(1) for field in fields]
    for places in product(*options):
        yield places
        for number, field in enumerate(fields):
            if field.choices is None:
                yield (*places[:number], 1, *places[number + 1 :])


def _in_order(field: SearchedField, values: Sequence[JsonValue]) -> tuple[JsonValue, ...]:
    if field.choices is not None:
        return tuple(choice for choice in field.choices if choice in values)
    return tuple(sorted({value for value in values if isinstance(value, int | float)}))


def _valid(drafts: Sequence[Draft]) -> Iterator[tuple[Draft, Submission]]:
    for draft in drafts:
        with suppress(ValidationError):
            yield draft, Submission.model_validate(draft.body)


def _is_whole(parts: Parts, axis: int, jobs: Sequence[tuple[Draft, Submission]]) -> bool:
    """Whether all jobs that have the field have a whole number there, also those that were given it as another."""
    found = [_value_at(job, parts) for draft, job in jobs if draft.places[axis] is not None]
    return bool(found) and all(isinstance(value, int) for value in found)


def _value_at(job: BaseModel, parts: Parts) -> object:
    value: object = job
    for name in parts:
        value = getattr(value, name, None)
    return value
