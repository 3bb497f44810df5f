"""The language of a sweep: a base, a grid over any of its fields, and seeds."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Discriminator, Field, JsonValue, StrictInt, Tag

from reinmax_core.run import LARGEST_EXACT_JSON_INTEGER
from reinmax_core.value import Value
from worker.search import Search
from worker.search_plan import plan_of_search
from worker.submission import Label, LabelKey
from worker.sweep_axes import grid_of
from worker.sweep_grid import Cell, Grid
from worker.sweep_plan import Plan, plan_of
from worker.sweep_values import Choice, Path, Values

MOST_JOBS: Final = 10**6
MOST_GRIDS: Final = 100

Seed: TypeAlias = Annotated[StrictInt, Field(ge=0, le=LARGEST_EXACT_JSON_INTEGER)]
Seeds: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=1, le=MOST_JOBS), Tag("count")]
    | Annotated[list[Seed], Field(min_length=1, max_length=MOST_JOBS), Tag("list")],
    Discriminator(lambda seeds: "list" if isinstance(seeds, list | tuple) else "count"),
]
"""How many there are, from 0 on, or which."""


Axes: TypeAlias = Annotated[dict[Path, Values], Field(max_length=32)]
Grids: TypeAlias = Annotated[
    Annotated[Axes, Tag("one grid")]
    | Annotated[list[Axes], Field(min_length=1, max_length=MOST_GRIDS), Tag("several grids")],
    Discriminator(lambda grid: "several grids" if isinstance(grid, list | tuple) else "one grid"),
]
"""Axes by the paths of their fields, or a list of such grids."""


class Extension(Value):
    """Further seeds of a sweep."""

    seeds: Seeds = Field(
        description="How many each cell is to have, from 0 on, or some to add. Jobs that are there already stay, and "
        "those that were deleted are made again."
    )


class SweepRequest(Value):
    """A request for a sweep: a job for each cell of a grid and each seed, or a preset that says which."""

    preset: str | None = Field(
        default=None,
        max_length=256,
        description="A published table or figure, as `/v1/presets` lists them. What stands beside it changes it: "
        "`base` field by field, `grid` axis by axis or, by a list, as a whole.",
    )
    base: dict[str, JsonValue] = Field(
        default_factory=dict, description="The body of a job without its seed: what all cells have in common."
    )
    grid: Grids = Field(
        default_factory=dict,
        description="What varies: for any field of a job, by its path such as `estimator.tau`, a list of values or a "
        "range. Cells are all combinations, in this order. An object with a `name` replaces what the base has there, "
        "one without is merged into it. An axis that some estimators lack applies to the others. A list has several "
        "grids, each with combinations of its own, of which those that several have count once; where one lacks an "
        "axis of another, the base decides.",
    )
    search: Search | None = Field(
        default=None, description="In place of a grid: fields whose best values are looked for, cell after cell."
    )
    seeds: Seeds | None = Field(
        default=None, description="How many seeds each cell has, from 0 on, or which; 1 by default."
    )
    select: Choice | None = Field(default=None, description="How tables choose the best of some cells.")
    name: str | None = Field(default=None, max_length=256, description="A name for people; need not be unique.")
    labels: dict[LabelKey, Label] = Field(
        default_factory=dict, max_length=32, description="Key-value pairs that all of its jobs get, too."
    )

    def cells(self) -> tuple[Cell, ...]:
        """The combinations, in order; those of a search are found later.

        Raises:
            InvalidSweep: some are invalid.
        """
        return self.plan().cells

    def plan(self, most_jobs: int = MOST_JOBS) -> Plan:
        """What is to be stored.

        Raises:
            InvalidSweep: something does not fit, or there would be more than `most_jobs`.
        """
        return plan_of(self, most_jobs) if self.search is None else plan_of_search(self, self.search, most_jobs)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """What varies: one grid, or those of a list."""
        if isinstance(self.grid, dict):
            return (grid_of(self.grid, ("grid",)),)
        return tuple(grid_of(written, ("grid", number)) for number, written in enumerate(self.grid))

    @property
    def written(self) -> dict[str, JsonValue]:
        """The request as it was written, without what was left out."""
        return self.model_dump(mode="json", exclude_unset=True)
