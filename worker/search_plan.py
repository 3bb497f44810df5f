"""What a request for a search comes to: a sweep without cells as yet, once all that it may try has been looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from reinmax_core.tasks.base import Task
from worker.jobs import Reason
from worker.search import Search, SearchProgress
from worker.search_space import Space
from worker.submission import Submission
from worker.sweep_axes import flaws_of_axes, unknown_axes
from worker.sweep_grid import Flaw, InvalidSweep
from worker.sweep_plan import Plan, body_of, direction_of, flaws_of_base, flaws_of_seeds, seeds_of

if TYPE_CHECKING:
    from worker.sweep_request import SweepRequest

UNATTENDED: Final = Reason(code="waiting", message="the first trials are added by a worker, as soon as one is alive")


def plan_of_search(request: SweepRequest, search: Search, most_jobs: int) -> Plan:
    """The plan of a request that has a search.

    Raises:
        InvalidSweep: something does not fit, or there would be more than `most_jobs`.
    """
    space, seeds = Space(body_of(request), search), seeds_of(request.seeds)
    flaws = [*flaws_of_base(request), *_in_search(flaws_of_axes(space.grid)), *flaws_of_seeds(seeds)]
    flaws += [*_flaws_of_kind(request), *_too_many(search, seeds, most_jobs)]
    flaws += _in_search(unknown_axes(space.grid, space.drafts))
    if flaws:
        raise InvalidSweep(flaws)
    if invalid := list(space.invalid()):
        raise InvalidSweep((), invalid, len(space.drafts), search)
    if space.size is not None and space.size < search.trials:
        raise InvalidSweep([_too_few(search, space.size)])
    example = Submission.model_validate(space.drafts[0].body)
    axes = tuple(axis.model_copy(update={"values": ()}) for axis in space.grid.axes)
    return Plan(request, axes, (), seeds, None, is_open=True, search=_goal(search, example.task), example=example)


def space_of(request: SweepRequest) -> Space:
    """What a request may try that has a search."""
    assert request.search is not None
    return Space(body_of(request), request.search)


def _goal(search: Search, task: Task) -> SearchProgress:
    metric = search.metric or task.objective
    direction = search.direction or direction_of(task, metric)
    return SearchProgress(metric=metric, direction=direction, trials=search.trials, note=UNATTENDED)


def _in_search(flaws: Iterator[Flaw]) -> Iterator[Flaw]:
    """Flaws of axes, of which a search writes the values otherwise."""
    return (Flaw(flaw.place[:3], flaw.message) for flaw in flaws)


def _flaws_of_kind(request: SweepRequest) -> Iterator[Flaw]:
    if request.grid:
        yield Flaw(("grid",), "grid stands beside a search, which finds the cells itself; leave one of the two")
    if request.select:
        yield Flaw(
            ("select",), "select chooses among the cells of a grid, but a search finds the best itself; leave it out"
        )


def _too_many(search: Search, seeds: Sequence[int], most_jobs: int) -> Iterator[Flaw]:
    jobs = search.trials * len(seeds)
    if jobs > most_jobs:
        yield Flaw(
            ("search", "trials"),
            f"{search.trials} trials with {len(seeds)} seeds each are {jobs} jobs, but a sweep may have {most_jobs}; "
            f"ask for fewer, or raise REINMAX_SWEEP_LIMIT of the API",
        )


def _too_few(search: Search, size: int) -> Flaw:
    return Flaw(
        ("search", "trials"),
        f"trials is {search.trials}, but the fields have {size} combinations at most; ask for fewer, or use a grid",
    )
