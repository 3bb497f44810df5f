"""What stands where in a table: which axes make rows and columns, which metrics are shown, what is chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from reinmax_core.presets import Preset
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover
from service.tables.statistics import Direction
from worker.sweep import Selection, Sweep

ESTIMATOR: Final = "estimator"
SPARSE: Final = 4
"""Where the cells fill less than one in so many places of a table, each is a row."""
LOWER: Final = ("loss", "time", "memory", "gap", "kl", "reconstruction", "bias", "variance", "error", "deviation")
HIGHER: Final = ("accuracy", "cosine")


class Unfitting(Exception):
    """A wish that the sweep cannot fulfil."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user asked for; None where nothing was said."""

    rows: tuple[str, ...] | None = None
    """Paths of axes."""
    columns: tuple[str, ...] | None = None
    """Paths of axes."""
    metrics: tuple[str, ...] | None = None
    """Names of metrics."""
    baseline: str | None = None
    """A value of an axis in rows or columns, such as the name of an estimator."""
    select: tuple[str, ...] | None = None
    """Paths of axes along which only the best cell is shown."""

    def without_metrics(self) -> Wishes:
        """The same, of the usual metrics."""
        return replace(self, metrics=None)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the cells of a sweep stand."""

    rows: tuple[str, ...]
    """Paths of the axes of the rows; of several metrics, each has rows of its own."""
    columns: tuple[str, ...]
    """Paths of the axes of the columns; none where the metrics are the columns."""
    metrics: tuple[str, ...]
    """What is shown; at least one."""
    select: Selection | None
    """How one of several cells is chosen; None where each has a place of its own."""

    @property
    def compares_rows(self) -> bool:
        """Whether rows are compared within each column, rather than columns within each row."""
        return ESTIMATOR in self.rows or (bool(self.rows) and ESTIMATOR not in self.columns)


def layout_of(sweep: Sweep, preset: Preset | None, wishes: Wishes, known_metrics: Sequence[str]) -> Layout:
    """What is wished, else what the preset says, else the estimators below each other and all else side by side.

    Args:
        sweep: whose axes there are.
        preset: that it was made from.
        wishes: what the user asked for.
        known_metrics: that any job has a value of; empty while none has, when any name is taken.

    Raises:
        Unfitting: a wish names what the sweep does not have, or leaves an axis without a place.
    """
    paths = tuple(axis.path for axis in sweep.axes)
    for parameter, wished in (("rows", wishes.rows), ("columns", wishes.columns), ("select", wishes.select)):
        _check_known(parameter, wished or (), paths, "axis", "axes")
    _check_known("metric", wishes.metrics or (), known_metrics or wishes.metrics or (), "metric", "metrics")
    metrics = wishes.metrics or _usual_metrics(sweep, preset)
    select = _selection(sweep, preset, wishes, metrics[0])
    free = tuple(path for path in paths if not select or path not in select.over)
    rows, columns = _places(sweep, preset, wishes, free)
    return Layout(rows, columns, metrics, select)


def direction_of(metric: str, sweep: Sweep, preset: Preset | None) -> Direction:
    """Whether the smallest or the largest value of a metric is the best, by preset, by its name, and by the task."""
    if preset and metric in preset.layout.metrics:
        return "min" if preset.layout.is_lower_better(metric) else "max"
    if (goal := sweep.select or sweep.search) and goal.metric == metric:
        return goal.direction
    if any(word in metric for word in HIGHER):
        return "max"
    task = _task(sweep)
    return "min" if task is None or any(word in metric for word in LOWER) else task.direction


def _usual_metrics(sweep: Sweep, preset: Preset | None) -> tuple[str, ...]:
    if preset:
        return preset.layout.metrics
    if goal := sweep.select or sweep.search:
        return (goal.metric,)
    task = _task(sweep)
    return (task.objective if task else "loss",)


def _selection(sweep: Sweep, preset: Preset | None, wishes: Wishes, metric: str) -> Selection | None:
    """How cells are chosen: axes that were wished for rows or columns are not chosen from."""
    over = wishes.select if wishes.select is not None else sweep.select.over if sweep.select else ()
    shown = (*(wishes.rows or ()), *(wishes.columns or ()))
    if doubled := [path for path in wishes.select or () if path in shown]:
        raise Unfitting("select", f"{doubled[0]} cannot be selected over and shown in rows or columns; leave one out")
    over = tuple(path for path in over if path not in shown)
    if not over:
        return None
    if sweep.select:
        return sweep.select.model_copy(update={"over": over})
    return Selection(over=over, metric=metric, direction=direction_of(metric, sweep, preset))


def _places(
    sweep: Sweep, preset: Preset | None, wishes: Wishes, free: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rows and columns, in which every free axis stands once."""
    if wishes.rows is None and wishes.columns is None:
        return _usual_places(sweep, preset, free)
    if doubled := [path for path in wishes.rows or () if path in (wishes.columns or ())]:
        raise Unfitting("columns", f"{doubled[0]} cannot stand in rows and in columns; leave one out")
    named = (*(wishes.rows or ()), *(wishes.columns or ()))
    left = tuple(path for path in free if path not in named)
    if wishes.columns is None:
        return wishes.rows or (), left
    if wishes.rows is None:
        return left, wishes.columns
    if left:
        raise Unfitting("rows", f"{left[0]} has no place; add it to rows or columns, or say select={left[0]}")
    return wishes.rows, wishes.columns


def _usual_places(
    sweep: Sweep, preset: Preset | None, free: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if preset and set(preset.layout.rows + preset.layout.columns) == set(free):
        return preset.layout.rows, preset.layout.columns
    rows = (ESTIMATOR,) if ESTIMATOR in free else free[:1]
    columns = tuple(path for path in free if path not in rows)
    is_sparse = SPARSE * sweep.cells < math.prod(max(1, len(axis.values)) for axis in sweep.axes)
    return (free, ()) if sweep.search or is_sparse else (rows, columns)


def _check_known(parameter: str, wished: Sequence[str], known: Sequence[str], kind: str, kinds: str) -> None:
    for name in wished:
        if name not in known:
            near = get_close_matches(name[:80], known, n=1)
            question = f"did you mean {near[0]!r}? Those" if near else "those"
            there = f"{question} that exist are: {', '.join(known)}" if known else f"there are no {kinds}"
            raise Unfitting(parameter, f"the sweep has no {kind} {name[:80]!r}; {there}")


def _task(sweep: Sweep) -> type[Task] | None:
    """The task of the sweep; of several, the first."""
    axes = {axis.path: axis.values for axis in sweep.axes}
    base = sweep.request.get("base")
    candidates = (
        *axes.get("task", ()),
        *axes.get("task.name", ()),
        base.get("task") if isinstance(base, Mapping) else None,
    )
    names = (value.get("name") if isinstance(value, Mapping) else value for value in candidates)
    return next((discover(Task)[name] for name in names if isinstance(name, str) and name in discover(Task)), None)
