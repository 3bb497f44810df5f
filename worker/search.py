"""A search: the cells of a sweep are chosen one after another, by what those before them have come to."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from reinmax_core.run import LARGEST_EXACT_JSON_INTEGER
from reinmax_core.value import Value
from worker.jobs import Reason
from worker.sweep_values import Number, Path

Direction: TypeAlias = Literal["min", "max"]
MOST_TRIALS: Final = 10_000


def _mistake(pointer: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{message}", {"pointer": pointer, "message": message})


class SearchedField(Value):
    """What one field of a job may be in a search: a number between two bounds, or one of some values."""

    low: Number | None = Field(default=None, description="The smallest value that may be tried.")
    high: Number | None = Field(default=None, description="The largest value that may be tried.")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="`log` where factors matter more than differences, as for learning rates."
    )
    integer: bool = Field(
        default=False, description="Whether only whole numbers are tried; a field that takes no others need not say so."
    )
    choices: tuple[JsonValue, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=1000,
        description="In place of bounds, the values that may be tried. An object with a `name` replaces what the base "
        "has there, one without is merged into it.",
    )

    @model_validator(mode="after")
    def _has_bounds_or_choices(self) -> Self:
        if self.choices is not None:
            self._check_choices(self.choices)
        elif self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise _mistake(missing, f"{missing} is missing; a searched field has low and high, or choices")
        else:
            self._check_bounds(self.low, self.high)
        return self

    @property
    def ends(self) -> tuple[JsonValue, ...]:
        """The choices, or the two bounds."""
        return (self.low, self.high) if self.choices is None else self.choices

    @property
    def size(self) -> int | None:
        """How many values there are to try; None for a continuum."""
        if self.choices is not None:
            return len(self.choices)
        assert self.low is not None and self.high is not None
        return round(self.high - self.low) + 1 if self.integer else None

    def _check_choices(self, choices: tuple[JsonValue, ...]) -> None:
        for name in ("low", "high", "scale", "integer"):
            if name in self.model_fields_set:
                raise _mistake(name, f"{name} stands beside choices, which are tried as they are; leave one of the two")
        written = [dumps(choice, sort_keys=True) for choice in choices]
        for place, choice in enumerate(written):
            if choice in written[:place]:
                raise _mistake(f"choices/{place}", "the value stands among the choices twice; leave one")

    def _check_bounds(self, low: float, high: float) -> None:
        if low >= high:
            raise _mistake("low", f"low should be less than high; found low {low:g} and high {high:g}")
        if self.scale == "log" and low <= 0:
            raise _mistake(
                "low", f"low should be above 0 on a log scale; found {low:g}. Raise it, or use a linear scale"
            )
        for name, bound in (("low", low), ("high", high)):
            if self.integer and not float(bound).is_integer():
                raise _mistake(name, f"{name} should be a whole number, as integer says; found {bound:g}")


class EarlyStopping(Value):
    """When a trial is hopeless: its best value so far is worse than what most finished trials had at its last step.

    This is the percentile rule of Optuna. Seeds are compared with the same seeds of other trials.
    """

    percentile: float = Field(
        default=50,
        gt=0,
        lt=100,
        description="A trial goes on that is among so many percent of them, the best; 50: median.",
    )
    finished: int = Field(default=5, ge=1, le=1000, description="How many trials have to be complete before.")
    warm_up: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the steps of a run, 0 to 1, before which it is not judged."
    )


def _spelled_out(value: object) -> object:
    return ({} if value else None) if isinstance(value, bool) else value


class Search(Value):
    """How the cells of a sweep are searched for that do best: so many trials, each with a job a seed.

    A trial counts by the mean, over the seeds, of the last value of the metric. What is tried next says Optuna
    (Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", 2019, arXiv 1907.10902).
    """

    sampler: Literal["tpe", "random"] = Field(
        default="tpe",
        description="`tpe`: after ten random trials, values near the best ones are likelier (Bergstra et al., "
        '"Algorithms for Hyper-Parameter Optimization", 2011); `random`: all are alike.',
    )
    trials: int = Field(ge=1, le=MOST_TRIALS, description="How many combinations of values are tried.")
    fields: dict[Path, SearchedField] = Field(
        min_length=1,
        max_length=32,
        description="What varies: for any field of a job, by its path such as `optimizer.lr`, bounds or choices.",
    )
    parallel: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="How many trials are under way at a time; with 1, each knows all before it.",
    )
    early_stopping: Annotated[
        EarlyStopping | None, BeforeValidator(_spelled_out, json_schema_input_type=EarlyStopping | bool | None)
    ] = Field(default=EarlyStopping(), description="Whether hopeless trials are cancelled, or when they are.")
    metric: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="What is to be small or large; by default the task's objective."
    )
    direction: Direction | None = Field(
        default=None, description="Which of them; by default as the task has it, and `min` for a loss."
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST_EXACT_JSON_INTEGER, description="Of the choice of values; runs have their own."
    )

    def place_of(self, path: str, end: int) -> tuple[str | int, ...]:
        """Where in the request for a sweep one of the ends of a field is written."""
        is_choice = self.fields[path].choices is not None
        return ("search", "fields", path, *(("choices", end) if is_choice else (("low", "high")[end],)))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, extra="ignore")


class BestTrial(_Record):
    """The best of the complete trials of a search."""

    cell: int
    """Number of its cell in the sweep."""
    coordinates: Mapping[str, JsonValue]
    """The values that were tried, by path."""
    value: float
    """The mean over the seeds of the last value of the metric."""


class SearchProgress(_Record):
    """How far a search is, as of a moment ago."""

    metric: str
    """What is to be small or large."""
    direction: Direction
    """Which of them."""
    trials: int
    """How many are to be tried."""
    complete: int = 0
    """Trials of which all jobs have succeeded."""
    pruned: int = 0
    """Trials that were hopeless; their jobs were cancelled with the reason `pruned`."""
    failed: int = 0
    """Trials with a job that failed, or was cancelled by somebody."""
    running: int = 0
    """Trials with jobs that have not ended."""
    best: BestTrial | None = None
    """The best complete trial so far."""
    note: Reason | None = None
    """What stands in the way."""
