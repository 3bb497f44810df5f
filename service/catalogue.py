"""What can be asked for: estimators, tasks, data sets and presets, described by what they are made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from reinmax_core.data.base import Availability, Citation, DataSet, DataSource, Located
from reinmax_core.data.file import DataFile
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.estimators.from_costs import Learned
from reinmax_core.presets import Layout, Preset, Published, presets
from reinmax_core.tasks.base import Recommendation, Task
from reinmax_core.value import Value, discover
from worker.sweep_plan import Plan
from worker.sweep_request import SweepRequest

TOLD_ELSEWHERE = ("Source:", "Settings:", "Example:")
"""Headings of paragraphs that a description lacks: entries have a source and a JSON Schema, examples are Python."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """The word under which a request names it."""


class EstimatorEntry(_Entry):
    """An estimator that exists."""

    summary: str
    """What it is, in a sentence."""
    description: str
    """What it estimates, and when it is exact or biased."""
    source: str | None
    """Where it was published."""
    pathwise: bool
    """Whether its gradient passes through the draw itself, as tasks with `needs_pathwise` demand."""
    binary_only: bool
    """Whether it is for variables of two classes alone."""
    learned: bool
    """Whether it has parts of its own that are trained beside the model."""
    evaluations: int
    """How often it evaluates the cost for a row in a step, with its settings as they are by default."""
    json_schema: dict[str, JsonValue]
    """JSON Schema of its settings, with defaults and bounds."""


class TaskEntry(_Entry):
    """A task that exists."""

    summary: str
    """What it is, in a sentence."""
    description: str
    """What is trained."""
    source: str | None
    """Where it was published."""
    needs_pathwise: bool
    """Whether it draws inside its model, so that only pathwise estimators can train it."""
    objective: str
    """The metric by which runs are compared."""
    direction: Literal["min", "max"]
    """Whether a smaller or a larger objective is better."""
    default_steps: int
    """Length of the published run in optimiser steps, with the task's settings as they are by default."""
    datasets: tuple[str, ...]
    """The data sets that it reads as its defaults are."""
    recommended: dict[str, Recommendation]
    """The published settings for each estimator, with which a job is filled in; null where nothing was published."""
    json_schema: dict[str, JsonValue]
    """JSON Schema of its settings, with defaults and bounds."""


class DataSetEntry(_Entry):
    """A data set that exists, and whether its files lie on the machine of the API."""

    title: str
    """The name by which people know it."""
    summary: str
    """What it is, in a sentence."""
    licence: str
    """Licence, or what its authors say in place of one."""
    citation: Citation
    """Whom to name."""
    bytes: int | None
    """Size of its files together. Where that of one is not published, its copy here counts, or what may stand in its
    place; null where there is neither."""
    files: tuple[DataFile, ...]
    """Its files, with sizes, checksums and addresses, and what may stand in their place."""
    availability: Availability
    """Whether the files are at hand where the API runs; workers elsewhere look for themselves."""

    @classmethod
    def of(cls, dataset: DataSet, source: DataSource) -> Self:
        """The entry of a data set as that source has it now."""
        availability = dataset.availability(source)
        copies = {copy.name: copy for copy in availability.found}
        return cls(
            name=dataset.name,
            title=dataset.title,
            summary=_summary(type(dataset)),
            licence=dataset.terms,
            citation=dataset.citation,
            bytes=_sum(_size(file, copies.get(file.name)) for file in dataset.files),
            files=dataset.files,
            availability=availability,
        )


class NeededDataSet(_Entry):
    """A data set that the jobs of a preset read, and whether it lies on the machine of the API."""

    availability: Availability
    """Whether its files are at hand where the API runs, or else what to do."""


class PresetEntry(_Entry):
    """A published table or figure that a sweep may name, with its numbers."""

    title: str
    """What people know it as."""
    summary: str
    """What is trained, and how that differs from what was published where it does."""
    source: str
    """Where it was published."""
    of: str | None
    """The preset that it is the `-smoke` form of, with fewer cells, seeds and steps; null where it is none."""
    request: dict[str, JsonValue]
    """The sweep that it stands for, as a request would have it."""
    cells: int
    """Combinations of values; each has a job a seed."""
    jobs: int
    """How many jobs the sweep has."""
    steps: int
    """Optimiser steps of all its jobs together."""
    metrics: tuple[str, ...]
    """What its table shows; the first is what it is about."""
    layout: Layout
    """How its table is laid out."""
    published: tuple[Published, ...]
    """The published numbers, in the units of the metrics."""
    datasets: tuple[NeededDataSet, ...]
    """The data sets that its jobs read."""

    @classmethod
    def of_preset(cls, preset: Preset, source: DataSource) -> Self:
        """The entry of a preset, with its data sets as that source has them now."""
        plan = _plan(preset.name)
        found = ((dataset.name, dataset.availability(source)) for dataset in _read_by(plan))
        return cls(
            name=preset.name,
            title=preset.title,
            summary=preset.summary,
            source=preset.source,
            of=preset.of,
            request=preset.sweep.body,
            cells=len(plan.cells),
            jobs=plan.jobs,
            steps=sum(cell.submission.steps for cell in plan.cells) * len(plan.seeds),
            metrics=preset.layout.metrics,
            layout=preset.layout,
            published=preset.published,
            datasets=tuple(NeededDataSet(name=name, availability=now) for name, now in found),
        )


@cache
def estimators() -> tuple[EstimatorEntry, ...]:
    """Every estimator, by name."""
    return tuple(_estimator_entry(estimator()) for estimator in discover(Estimator).values())


@cache
def tasks() -> tuple[TaskEntry, ...]:
    """Every task, by name."""
    return tuple(_task_entry(task()) for task in discover(Task).values())


def datasets(source: DataSource) -> tuple[DataSetEntry, ...]:
    """Every data set, by name."""
    return tuple(DataSetEntry.of(dataset(), source) for dataset in discover(DataSet).values())


def published_sweeps(source: DataSource) -> tuple[PresetEntry, ...]:
    """Every preset, by name."""
    return tuple(PresetEntry.of_preset(preset, source) for preset in presets().values())


@cache
def _plan(preset: str) -> Plan:
    return SweepRequest.model_validate(presets()[preset].sweep.body).plan()


def _read_by(plan: Plan) -> tuple[DataSet, ...]:
    """The data sets that a preset's jobs read, by name; none of them reads a user's files."""
    found = {data.name: data for cell in plan.cells for data in cell.submission.task.datasets()}
    return tuple(data for _, data in sorted(found.items()) if isinstance(data, DataSet))


def _estimator_entry(estimator: Estimator) -> EstimatorEntry:
    return EstimatorEntry(
        name=estimator.name,
        pathwise=isinstance(estimator, Pathwise),
        binary_only=estimator.binary_only,
        learned=isinstance(estimator, Learned),
        evaluations=estimator.evaluations,
        **_about(type(estimator)),
    )


def _task_entry(task: Task) -> TaskEntry:
    return TaskEntry(
        name=task.name,
        needs_pathwise=task.needs_pathwise,
        objective=task.objective,
        direction=task.direction,
        default_steps=task.default_steps,
        datasets=tuple(dataset.name for dataset in task.datasets()),
        recommended={name: task.recommended(name) for name in discover(Estimator)},
        **_about(type(task)),
    )


def _about(value_class: type[Value]) -> dict[str, Any]:
    text = inspect.getdoc(value_class) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    sources = [paragraph for paragraph in paragraphs if paragraph.startswith("Source:")]
    return {
        "summary": paragraphs[0],
        "description": "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith(TOLD_ELSEWHERE)),
        "source": sources[0].removeprefix("Source: ") if sources else None,
        "json_schema": value_class.model_json_schema(),
    }


def _size(file: DataFile, copy: Located | None) -> int | None:
    if file.bytes is None and copy:
        with suppress(OSError):  # It may be gone by now.
            return Path(copy.path).stat().st_size
    return file.bytes or (file.alternative.bytes if file.alternative else None)


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = tuple(sizes)
    return None if None in known else sum(size for size in known if size)


def _summary(value_class: type[Value]) -> str:
    return str(_about(value_class)["summary"])
