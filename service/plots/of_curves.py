"""Curves over the steps of runs: of a sweep, as means over seeds, and of one job, as they are."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from service.curves import thinned
from service.plots.blocks import (
    MOST_COMPETITORS,
    MOST_PANELS,
    Block,
    blocks,
    left_out,
    means_of,
    numbers_of,
    on_legend,
    title_of,
)
from service.plots.drawing import Plot
from service.plots.lines import Line, LinePanel
from service.tables.layout import Unfitting
from service.tables.table import Table
from worker.jobs import State
from worker.series import Series
from worker.sweep_outcome import Outcome

Read: TypeAlias = Callable[[str], Mapping[str, Series]]
"""Gives the series of a job by its id."""
MOST_JOBS: Final = 240
MOST_POINTS: Final = 600
STEPS: Final = "optimiser steps"
TRAINING: Final = "train_"
PARTS: Final = (TRAINING, "test_", "valid_", "inner_")


def curves(table: Table, outcomes: Sequence[Outcome], read: Read, wanted: str | None = None) -> Plot:
    """A panel a column, and in it a line a row: the mean over the seeds at every step, with a band of their spread.

    Of a large sweep the first seeds of each cell are drawn, and the first panels.

    Args:
        table: says which cells stand where, and which of several are chosen.
        outcomes: of the jobs of the sweep.
        read: gives the series of a job.
        wanted: the series; by default the metric of the table, or the training loss behind it.

    Raises:
        Unfitting: no job has such a series.
    """
    whole = next(blocks(table))
    block = whole.first(MOST_COMPETITORS)
    shown = range(min(len(block.disciplines), MOST_PANELS))
    cells = {cell.cell for line in block.cells for cell in line[:MOST_PANELS] if cell}
    seeds = max(1, MOST_JOBS // max(1, len(cells)))
    jobs = {cell: found[:seeds] for cell, found in _jobs(outcomes, cells).items()}
    series = {cell: [read(job) for job in found] for cell, found in jobs.items()}
    name = _series_name([one for found in series.values() for one in found], wanted, block.metric)
    means = {
        cell: mean for cell, found in series.items() if (mean := _mean([one[name] for one in found if name in one]))
    }
    colours = numbers_of([means_of(line) for line in block.cells], block.direction)
    panels = [_panel(block, number, name, means, colours) for number in shown]
    left = left_out(
        lines=len(whole.competitors) - MOST_COMPETITORS, panels=len(block.disciplines) - MOST_PANELS
    )  # fmt: skip
    notes = (*_notes(jobs, outcomes, means), *on_legend(len(block.competitors)), *left)
    return Plot(title_of(table), panels, notes)


def curves_of_job(title: str, series: Mapping[str, Series], wanted: Sequence[str] = ()) -> Plot:
    """A panel a quantity: what is measured of training, validation and test set shares one.

    Raises:
        Unfitting: the job has no such series.
    """
    _check_known(wanted, series)
    families: dict[str, list[str]] = {}
    for name in wanted or series:
        families.setdefault(_family(name), []).append(name)
    drawn = list(families.items())[:MOST_PANELS]
    panels = [
        LinePanel(
            title="",
            x_label=STEPS,
            y_label=family,
            lines=[_single(name, number, series[name]) for number, name in enumerate(names)],
            has_legend=True,
        )
        for family, names in drawn
    ]
    left = ", ".join(name for _, names in list(families.items())[MOST_PANELS:] for name in names)
    return Plot(title, panels or [LinePanel("", STEPS, "", [])], (f"Not drawn: {left}.",) if left else ())


def _panel(
    block: Block,
    discipline: int,
    name: str,
    means: Mapping[int, tuple[Series, list[float | None]]],
    colours: Sequence[int | None],
) -> LinePanel:
    lines = []
    for number, label, cells in zip(colours, block.competitors, block.cells, strict=True):
        cell = cells[discipline]
        if cell and cell.cell in means:
            mean, spread = means[cell.cell]
            lines.append(Line(label, number, mean.step, mean.value, spread))
    return LinePanel(block.disciplines[discipline], STEPS, name, lines)


def _jobs(outcomes: Sequence[Outcome], cells: set[int]) -> dict[int, list[str]]:
    """Of each cell the jobs that have succeeded; the ones under way where none has."""
    ended: dict[int, list[str]] = {}
    under_way: dict[int, list[str]] = {}
    for outcome in outcomes:
        if outcome.cell in cells and outcome.status is State.SUCCEEDED:
            ended.setdefault(outcome.cell, []).append(outcome.job_id)
        elif outcome.cell in cells and outcome.progress > 0:
            under_way.setdefault(outcome.cell, []).append(outcome.job_id)
    return under_way | ended


def _series_name(found: Sequence[Mapping[str, Series]], wanted: str | None, metric: str) -> str:
    known = {name: max(len(one[name]) for one in found if name in one) for one in found for name in one}
    if wanted is not None:
        if known:
            _check_known([wanted], known)
        return wanted
    candidates = [name for name in (metric, metric.removeprefix(TRAINING)) if name in known]
    return max(candidates, key=lambda name: min(known[name], 2), default=next(iter(sorted(known)), metric))


def _mean(found: Sequence[Series]) -> tuple[Series, list[float | None]] | None:
    """Mean and standard deviation at the steps that all of the curves have."""
    if not found:
        return None
    columns = [dict(zip(series.step, series.value, strict=True)) for series in found]
    common = sorted(set(columns[0]).intersection(*columns[1:]))
    values = [[column[step] for column in columns] for step in common]
    mean = Series(common, [statistics.fmean(at) for at in values])
    spread = [statistics.stdev(at) if len(at) > 1 else None for at in values]
    kept = thinned(mean, MOST_POINTS)
    if len(kept) == len(mean):
        return mean, spread
    by_step = dict(zip(common, spread, strict=True))
    return kept, [by_step[step] for step in kept.step]


def _single(name: str, number: int, series: Series) -> Line:
    kept = thinned(series, MOST_POINTS)
    return Line(name, number, kept.step, kept.value, [None] * len(kept))


def _family(name: str) -> str:
    """What is measured, of whichever part of the data."""
    return next((name.removeprefix(part) for part in PARTS if name.startswith(part)), name)


def _notes(
    jobs: Mapping[int, Sequence[str]], outcomes: Sequence[Outcome], means: Mapping[int, object]
) -> Iterator[str]:
    counts = sorted({len(found) for cell, found in jobs.items() if cell in means})
    if not counts:
        yield "No values yet."
        return
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    yield "One seed each." if counts == [1] else f"Mean ± standard deviation over {span} seeds."
    if sum(map(len, _jobs(outcomes, set(jobs)).values())) > sum(map(len, jobs.values())):
        yield "Not all seeds are drawn."


def _check_known(wanted: Sequence[str], known: Mapping[str, object]) -> None:
    for name in wanted:
        if name not in known:
            there = f"those that exist are: {', '.join(sorted(known))}" if known else "there are none yet"
            raise Unfitting("metric", f"there is no series {name[:80]!r}; {there}")
