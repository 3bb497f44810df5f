"""What a request for a sweep comes to: its cells, their seeds, and how the best of them are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from reinmax_core.tasks.base import Task
from worker.search import SearchProgress
from worker.submission import Submission
from worker.sweep import Axis, Selection
from worker.sweep_axes import SEEDS_REMEDY, flaws_of_grids, in_common, unknown_axes
from worker.sweep_grid import Cell, Draft, Flaw, Grid, InvalidSweep, cells_of, drafts
from worker.sweep_values import Choice

if TYPE_CHECKING:
    from worker.sweep_request import SweepRequest


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
    seeds = seeds_of(request.seeds)
    if flaws := [*flaws_of_base(request), *flaws_of_grids(request.grids), *flaws_of_seeds(seeds)]:
        raise InvalidSweep(flaws)
    axes, grids = in_common(request.grids)
    found = _drafts(request, grids, max(1, most_jobs // len(seeds)) + 1)
    if flaws := [*_too_many(sum(map(len, found)), seeds, most_jobs)]:
        raise InvalidSweep(flaws)
    unknown = (flaw for grid, own in zip(grids, found, strict=True) for flaw in unknown_axes(grid, own))
    if flaws := [*unknown, *_flaws_of_choice(request, axes)]:
        raise InvalidSweep(flaws)
    cells = cells_of(_each_once(found), axes)
    return Plan(request, axes, cells, seeds, _selection(request.select, cells) if request.select else None)


def _drafts(request: SweepRequest, grids: Sequence[Grid], most: int) -> list[list[Draft]]:
    """The cells of each grid, no more than `most` in all."""
    base, found = body_of(request), list[list[Draft]]()
    for grid in grids:
        found.append(drafts(base, grid, most - sum(map(len, found))))
    return found


def _each_once(found: Sequence[Sequence[Draft]]) -> list[Draft]:
    """The cells of all grids, without those whose values an earlier grid has, too."""
    first: dict[str, Grid] = {}
    each = ((json.dumps(draft.coordinates, sort_keys=True), draft) for own in found for draft in own)
    return [draft for values, draft in each if first.setdefault(values, draft.grid) is draft.grid]


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


def _too_many(cells: int, seeds: Sequence[int], most_jobs: int) -> Iterator[Flaw]:
    if cells * len(seeds) > most_jobs:
        yield Flaw(
            (),
            f"the sweep has at least {cells} cells with {len(seeds)} seeds each, which are {cells * len(seeds)} jobs, "
            f"but a sweep may have {most_jobs}; make several sweeps, or raise REINMAX_SWEEP_LIMIT of the API",
        )


def _flaws_of_choice(request: SweepRequest, axes: Sequence[Axis]) -> Iterator[Flaw]:
    paths = [axis.path for axis in axes]
    for place, path in enumerate(request.select.over if request.select else ()):
        if path not in paths:
            known = f"those that exist are: {', '.join(paths)}" if paths else "the grid has none"
            yield Flaw(("select", "over", place), f'there is no axis "{path}"; {known}')


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
