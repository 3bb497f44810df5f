"""The language of a run: everything that a training run depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from reinmax_core.estimators.base import Estimator
from reinmax_core.optimizers import OPTIMIZERS, Adam, Optimizer
from reinmax_core.tasks.base import Recommendation, Task
from reinmax_core.value import Value, discover, name_of, one_of, one_of_classes

LARGEST_EXACT_JSON_INTEGER = 2**53 - 1
LOG_POINTS = 500
EVALUATIONS = 10
MOST_POINTS = 1_000_000

TAU_SCHEMA: JsonSchemaValue = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1000}, {"type": "null"}],
    "default": None,
    "title": "Tau",
    "description": "Short for the estimator's `tau`, its temperature.",
}

_task: TypeAdapter[Task] = TypeAdapter(one_of(Task))


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    """Steps done."""
    steps: int
    """Steps of the whole run."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Series that got a value at this step: losses as means since the last one, evaluations as they are."""


class Best(Value):
    """The best evaluation of a run."""

    metric: str
    """The task's objective."""
    step: int
    """Steps done when it was evaluated."""
    value: float
    """The objective there."""


class Result(Value):
    """What a run came to."""

    metrics: dict[str, float]
    """Last value of every series; those that begin with `train_` are means over the last epoch."""
    best: Best | None
    """The best value of the task's objective among the evaluations; null before the first."""
    wall_time_s: float
    """Seconds spent in steps, evaluations included, over all attempts whose work was kept."""
    epoch_time_s: float | None = None
    """Of them, those of an epoch on average; an epoch is what the means that begin with `train_` are taken over."""
    peak_memory_mb: float | None = None
    """By how many megabytes (10^6 bytes) memory in use grew from the last attempt's first step to its peak: on a GPU
    what tensors take there, elsewhere what the process does. What stood there before is not counted, such as the data
    set, the model and the program. Null where it is not known, as of runs trained side by side in one program."""
    notes: dict[str, str] = Field(default_factory=dict)
    """What numbers do not tell, in words by name, such as the data that stood in for others or the cell found."""


class RunSpec(Value):
    """A training run: task, estimator, optimiser, budget and seed.

    Written short, `{"task": "categorical_vae", "estimator": "reinmax", "tau": 1.3}`, or in full. Whatever
    is left out is filled in: the estimator's settings, optimiser and learning rate from the published table of
    the task where it has a row for the estimator, the number of steps from the published protocol.
    Two equal specs give the same result, to the last bit, on the same kind of machine and from the same data files.
    """

    task: Annotated[one_of(Task), Field(description="What is trained: model, data, loss and metrics.")]  # type: ignore[valid-type]
    estimator: Annotated[one_of(Estimator), Field(description="How the gradient passes a discrete draw.")]  # type: ignore[valid-type]
    optimizer: Annotated[
        one_of_classes(OPTIMIZERS),  # type: ignore[valid-type]
        Field(description="How parameters follow the gradient; by default as published for task and estimator."),
    ] = Adam()
    steps: int = Field(ge=1, le=10**9, description="Optimiser steps; by default the length of the published run.")
    seed: int = Field(
        default=0,
        ge=0,
        le=LARGEST_EXACT_JSON_INTEGER,
        description="Seed of initial parameters, data order and draws.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Of the matrix products of a step. bfloat16 is mixed precision: parameters, optimiser, estimators "
        "and evaluations stay in float32.",
    )
    log_every: int = Field(
        ge=1, le=10**9, description=f"Steps between two logged losses; by default the steps over {LOG_POINTS}."
    )
    evaluate_every: int = Field(
        ge=1,
        le=10**9,
        description=f"Steps between evaluations, besides the one at the end; by default as published, or the steps "
        f"over {EVALUATIONS}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, settings: object) -> object:
        """Fills in what the settings leave out, before the fields are validated."""
        if not isinstance(settings, Mapping):
            return settings
        return _with_intervals(_with_recommendations(_with_tau(dict(settings))))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As a spec may be written: with `tau` at the top, and without what is filled in."""
        schema = handler(core_schema)
        if handler.mode == "validation":
            written = handler.resolve_ref_schema(schema)
            written["required"] = ["task", "estimator"]
            written["properties"]["tau"] = TAU_SCHEMA
        return schema

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if objection := self.task.objection(self.estimator):
            raise _mistake("estimator", "{objection}", objection=objection)
        for name in ("log_every", "evaluate_every"):
            self._check_points(name)
        return self

    def _check_points(self, interval: str) -> None:
        """Curves are kept whole, in memory while the run is live, so their length has a limit."""
        if (points := self.steps // getattr(self, interval)) > MOST_POINTS:
            raise _mistake(
                interval,
                "{interval} of {found} makes {points} points of {steps} steps, more than {most}; raise it to {least}",
                interval=interval,
                found=getattr(self, interval),
                points=points,
                steps=self.steps,
                most=MOST_POINTS,
                least=-(-self.steps // MOST_POINTS),
            )


def _with_tau(settings: dict[str, Any]) -> dict[str, Any]:
    """Moves a `tau` at the top into the estimator."""
    tau = settings.pop("tau", None)
    estimator = _spelled_out(settings.get("estimator"))
    if tau is None or not isinstance(estimator, Mapping):
        return settings
    if "tau" in estimator and estimator["tau"] != tau:
        message = "tau is {tau} but the estimator's tau is {other}; give one of the two"
        raise _mistake("tau", message, tau=tau, other=estimator["tau"])
    if _is_known(estimator) and not _has_tau(estimator["name"]):
        raise _mistake("tau", "estimator '{name}' has no temperature; leave tau out", name=estimator["name"])
    return settings | {"estimator": {**estimator, "tau": tau}}


def _with_recommendations(settings: dict[str, Any]) -> dict[str, Any]:
    """Fills in what the task's published table says of the estimator."""
    try:
        task = _task.validate_python(settings.get("task"))
    except ValidationError:
        return {"steps": 1} | settings  # the field's own validation reports the task, and nothing else is amiss
    settings = {"steps": task.default_steps} | settings
    estimator = _spelled_out(settings.get("estimator"))
    if not isinstance(estimator, Mapping) or not _is_known(estimator):
        return settings
    published = task.recommended(estimator["name"])
    estimator = _published_settings(estimator["name"], published) | dict(estimator)
    interval = published.model_dump(include={"evaluate_every"}, exclude_none=True)
    optimizer = _published_optimizer(settings.get("optimizer"), published)
    return interval | settings | {"estimator": estimator, "optimizer": optimizer}


def _published_settings(estimator: str, published: Recommendation) -> dict[str, object]:
    tau = published.model_dump(include={"tau"}, exclude_none=True) if _has_tau(estimator) else {}
    return tau | published.estimator


def _published_optimizer(optimizer: object, published: Recommendation) -> object:
    optimizer = _spelled_out(optimizer)
    if optimizer is None:
        optimizer = {}
    if not isinstance(optimizer, Mapping):
        return optimizer
    known: dict[str, object] = {"name": published.optimizer or name_of(Adam)}
    known |= published.model_dump(include={"clip_norm", "schedule"}, exclude_none=True)
    if optimizer.get("name", published.optimizer) == published.optimizer:
        known |= published.model_dump(include={"lr", "betas", "weight_decay"}, exclude_none=True)
    return known | dict(optimizer)


def _with_intervals(settings: dict[str, Any]) -> dict[str, Any]:
    given = settings.get("steps")
    steps = given if isinstance(given, int) else 1
    return {"log_every": max(1, steps // LOG_POINTS), "evaluate_every": max(1, steps // EVALUATIONS)} | settings


def _spelled_out(value: object) -> object:
    """The full form of a value that may be written as its name; values already made are taken apart."""
    if isinstance(value, Value):
        return value.model_dump()
    return {"name": value} if isinstance(value, str) else value


def _is_known(estimator: Mapping[str, Any]) -> bool:
    name = estimator.get("name")
    return isinstance(name, str) and name in discover(Estimator)


def _has_tau(estimator: str) -> bool:
    return "tau" in discover(Estimator)[estimator].model_fields


def _mistake(pointer: str, message: str, **found: object) -> PydanticCustomError:
    """An error about one field, found before the fields are validated; `pointer` says which."""
    return PydanticCustomError("inconsistent", message, {"pointer": pointer, **found})


__all__ = ["Best", "Optimizer", "Progress", "Result", "RunSpec"]
