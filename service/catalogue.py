"""What can be asked for: estimators, tasks and data sets, described by the classes themselves."""

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
from reinmax_core.tasks.base import Recommendation, Task
from reinmax_core.value import Value, discover

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
