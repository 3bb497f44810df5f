"""A table of a sweep as it is answered: entries of rows and columns, and what stands where they meet."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from worker.jobs import State

UNSUCCESSFUL: Final = (State.FAILED, State.CANCELLED)
"""Ends of jobs that leave a table incomplete for good."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Interval(_Part):
    """Where a mean lies with 95 % confidence, by Student's t."""

    low: float
    """Its lower end."""
    high: float
    """Its upper end."""


class Difference(_Part):
    """How much larger a cell is than its baseline, seed by seed."""

    mean: float | None
    """Mean over the common seeds of this cell's value less the baseline's; null where there is none."""
    low: float | None
    """Lower end of the 95 % confidence interval of the mean, by Student's t; null for fewer than two common seeds."""
    high: float | None
    """Upper end of it."""
    n: int
    """How many seeds both have."""
    note: str | None = None
    """What has to be said of it."""


class PublishedValue(_Part):
    """What a paper prints for a cell."""

    mean: float
    """The value."""
    spread: float | None = None
    """What is printed behind it."""
    spread_kind: str | None = None
    """What the spread is, such as `standard deviation`."""
    n: int | None = None
    """Over how many seeds, where that is known."""
    note: str | None = None
    """What has to be known about it."""
    difference: float | None = None
    """This service's mean less the published one."""


class TableCell(_Part):
    """What the seeds of one cell of the sweep have come to in one metric."""

    cell: int
    """The number of the cell of the sweep."""
    mean: float | None
    """Over the jobs that have succeeded; null for none."""
    sd: float | None
    """Standard deviation of the sample (n - 1); null for fewer than two seeds."""
    interval: Interval | None
    """Where the mean of all seeds lies with 95 % confidence; null for fewer than two seeds."""
    n: int
    """Jobs that have succeeded."""
    n_expected: int
    """Jobs that the cell was made with, a seed each."""
    is_complete: bool
    """Whether all jobs have succeeded and none was deleted, also of the cells that were not selected."""
    best: bool = False
    """Whether its mean is the best of those it is compared with."""
    selected: dict[str, JsonValue] = Field(default_factory=dict)
    """The coordinates, by path, for which this cell was chosen among several."""
    difference: Difference | None = None
    """To the baseline; null without one, and for the baseline itself."""
    published: PublishedValue | None = None
    """The published value; null where there is none."""
    within_published: bool | None = None
    """Whether the mean lies within the published spread of the published one; null without one, and in smoke forms."""
    notes: tuple[str, ...] = ()
    """What has to be known about it, in sentences."""


class Entry(_Part):
    """A row or a column."""

    label: str
    """For people."""
    coordinates: dict[str, JsonValue]
    """Its place on the axes, by path."""
    metric: str | None = None
    """The metric it is about, where the table has several."""
    average_rank: float | None = None
    """Mean of its places among those it is compared with, 1 for the best; null where nothing can be compared."""
    ranked_over: int = 0
    """Over how many columns, or rows, that mean is: those in which everything has a value that has one anywhere."""


class Metric(_Part):
    """What is tabulated."""

    name: str
    """As results have it."""
    direction: Literal["min", "max"]
    """Whether the smallest or the largest is the best."""


class Unfinished(_Part):
    """A job that failed or was cancelled, and so is missing from the table."""

    job: str
    """Its id."""
    status: State
    """`failed` or `cancelled`."""
    label: str
    """Its cell, for people."""
    seed: int
    """Its seed."""


class Table(_Part):
    """Mean and spread over the seeds of every cell of a sweep."""

    sweep: str
    """The sweep's id."""
    title: str
    """What the table is about."""
    metrics: tuple[Metric, ...]
    """What is tabulated."""
    rows: tuple[Entry, ...]
    """From top to bottom."""
    columns: tuple[Entry, ...]
    """From left to right."""
    cells: tuple[tuple[TableCell | None, ...], ...]
    """A tuple a row; null where the sweep has no cell."""
    compared: Literal["rows", "columns"]
    """Among which the best are marked and ranks given: the rows within each column, or the columns within each row."""
    baseline: str | None = None
    """Label of what differences are taken to."""
    is_complete: bool
    """Whether every job has succeeded, but for trials that a search pruned, and none was deleted."""
    counts: dict[State, int]
    """How many jobs of the sweep are in each state."""
    pruned: int = 0
    """How many of the cancelled jobs a search gave up as hopeless, which are not missing."""
    unfinished: tuple[Unfinished, ...]
    """The first of the other jobs that failed or were cancelled; `counts` has how many there are."""
    notes: tuple[str, ...]
    """What has to be known about the table, in sentences."""
