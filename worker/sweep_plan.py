"""What a request for a sweep comes to: its cells, their seeds, and how the best of them are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import JsonValue

from reinmax_core.tasks.base import Task
from worker.jobs import Submission
from worker.search import SearchProgress
from worker.sweep import Axis, Selection
from worker.sweep_grid import Cell, Draft, Flaw, InvalidSweep, cells_of, drafts
from worker.sweep_path import SHORT_FORMS, fields_beside, has_field, parts_of, unknown_field
from worker.sweep_values import Choice, Range

if TYPE_CHECKING:
    from worker.sweep_request import SweepRequest

SEEDS_REMEDY: Final = "the seeds of a sweep stand in `seeds`, as a number or a list"
LOOKED_AT: Final = 100
"""So many cells are looked at for the fields that there are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep before it is stored: its cells, all valid, and their seeds."""

    request: SweepRequest
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    select: Selection | None
    is_open: bool = False
    """Whether further cells may be added."""
    search: SearchProgress | None = None
    """What is looked for by that."""
    example: Submission | None = None
    """What the jobs are like that are added, but for the values that are tried."""

    @property
    def jobs(self) -> int:
        """How many jobs there will be."""
        return sum(count for _, count in self.kinds)

    @property
    def kinds(self) -> Sequence[tuple[Submission, int]]:
        """What there will be jobs of, and how many of each."""
        if self.search and self.example:
            return [(self.example, self.search.trials * len(self.seeds))]
        return [(cell.submission, len(self.seeds)) for cell in self.cells]


def seeds_of(given: int | Sequence[int] | None) -> tuple[int, ...]:
    """The seeds that are meant: as many as a number says, from 0 on, or those of a list; 0 alone by default."""
    if given is None:
        return (0,)
    return tuple(range(given)) if isinstance(given, int) else tuple(given)


def plan_of(request: SweepRequest, most_jobs: int) -> Plan:
    """The plan of a request without a preset, or with all that its preset says filled in.

    Raises:
        InvalidSweep: something does not fit, or there would be more than `most_jobs`.
    """
    axes = tuple(Axis(path=path, values=tuple(_listed(values))) for path, values in request.grid.items())
    seeds = seeds_of(request.seeds)
    if flaws := [*flaws_of_base(request), *flaws_of_axes(axes), *flaws_of_seeds(seeds)]:
        raise InvalidSweep(flaws)
    most_cells = max(1, most_jobs // len(seeds))
    found = drafts(body_of(request), axes, most_cells + 1)
    if flaws := [*_too_many(len(found), seeds, most_jobs), *unknown_axes(found, axes), *_flaws_of_choice(request)]:
        raise InvalidSweep(flaws)
    cells = cells_of(found, axes, [path for path, values in request.grid.items() if isinstance(values, Range)])
    return Plan(request, axes, cells, seeds, _selection(request.select, cells) if request.select else None)


def _listed(values: Sequence[JsonValue] | Range) -> Sequence[JsonValue]:
    return values.values if isinstance(values, Range) else values


def body_of(request: SweepRequest) -> Mapping[str, JsonValue]:
    """What all cells have in common."""
    own = request.base.get("labels", {})
    # What is no object stays, and is found to be none.
    return {**request.base, "labels": {**request.labels, **own}} if isinstance(own, dict) else request.base


def flaws_of_base(request: SweepRequest) -> Iterator[Flaw]:
    """What its base should not have."""
    if "seed" in request.base:
        yield Flaw(("base", "seed"), f"base should have no seed; {SEEDS_REMEDY}")


def flaws_of_seeds(seeds: Sequence[int]) -> Iterator[Flaw]:
    """A flaw for each that stands there twice."""
    first: dict[int, int] = {}
    for place, seed in enumerate(seeds):
        if first.setdefault(seed, place) != place:
            yield Flaw(("seeds", place), f"seed {seed} stands here a second time; name each seed once")


def flaws_of_axes(axes: Sequence[Axis]) -> Iterator[Flaw]:
    """What is wrong with them, whatever the base is."""
    paths: dict[tuple[str, ...], str] = {}
    for axis in axes:
        before = paths.setdefault(parts_of(axis.path), axis.path)
        if before != axis.path:
            yield Flaw(("grid", axis.path), f"{axis.path} is the same field as {before}; leave one of the two")
        if axis.path == "seed":
            yield Flaw(("grid", "seed"), f"seed cannot be an axis; {SEEDS_REMEDY}")
        yield from _flaws_of_values(axis)


def _flaws_of_values(axis: Axis) -> Iterator[Flaw]:
    first: dict[str, int] = {}
    for place, value in enumerate(axis.values):
        before = first.setdefault(json.dumps(value, sort_keys=True), place)
        if before != place:
            yield Flaw(("grid", axis.path, place), f"the value stands on this axis twice, first at {before}; leave one")


def _too_many(cells: int, seeds: Sequence[int], most_jobs: int) -> Iterator[Flaw]:
    if cells * len(seeds) > most_jobs:
        yield Flaw(
            (),
            f"the sweep has at least {cells} cells with {len(seeds)} seeds each, which are {cells * len(seeds)} jobs, "
            f"but a sweep may have {most_jobs}; make several sweeps, or raise REINMAX_SWEEP_LIMIT of the API",
        )


def unknown_axes(found: Sequence[Draft], axes: Sequence[Axis]) -> Iterator[Flaw]:
    """A flaw for each axis that applies to no cell."""
    for number, axis in enumerate(axes):
        if all(draft.places[number] is None for draft in found):
            yield Flaw(("grid", axis.path), _no_such_field(axis.path, found[:LOOKED_AT]))


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


def _flaws_of_choice(request: SweepRequest) -> Iterator[Flaw]:
    for place, path in enumerate(request.select.over if request.select else ()):
        if path not in request.grid:
            axes = f"those that exist are: {', '.join(request.grid)}" if request.grid else "the grid has none"
            yield Flaw(("select", "over", place), f'there is no axis "{path}"; {axes}')


def _selection(choice: Choice, cells: Sequence[Cell]) -> Selection:
    tasks = {cell.submission.task.name: cell.submission.task for cell in cells}
    objectives = sorted({task.objective for task in tasks.values()})
    if choice.metric is None and len(objectives) > 1:
        message = f"metric should be named, for the tasks of the cells have different ones: {', '.join(objectives)}"
        raise InvalidSweep([Flaw(("select", "metric"), message)])
    task, metric = next(iter(tasks.values())), choice.metric or objectives[0]
    return Selection(over=choice.over, metric=metric, direction=choice.direction or direction_of(task, metric))


def direction_of(task: Task, metric: str) -> Literal["min", "max"]:
    """Whether a small or a large value of a metric is good."""
    # Of a metric that is not the objective, its name alone tells.
    return "min" if metric != task.objective and "loss" in metric else task.direction
