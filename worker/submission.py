"""What is submitted: a run spec, and where, when and how often to try it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from reinmax_core.run import RunSpec
from reinmax_core.value import Value

HIGHEST_PRIORITY = 9
HIGHEST_MAX_ATTEMPTS = 100


class Cause(StrEnum):
    """Why an attempt, or a job with it, failed."""

    ERROR = "error"
    """The training code raised; `error` holds its message."""
    OOM = "oom"
    """It ran out of memory, or was killed for it."""
    TIMEOUT = "timeout"
    """It ran longer than `timeout_s`."""
    LOST = "lost"
    """Its worker or process vanished in the last of its attempts."""
    DIVERGED = "diverged"
    """A loss was no longer finite."""


REPEATABLE = frozenset({Cause.LOST, Cause.OOM})
"""Causes that another attempt may not meet again: where no limit is set, they may end all attempts, any other one."""


def _spell_out_device(value: object) -> object:
    return {"device": value} if isinstance(value, str) else value


class Hardware(Value):
    """What a job needs of the machine it runs on."""

    device: Literal["any", "cpu", "cuda"] = Field(
        default="any", description="Kind of machine: `cpu`, `cuda` (an NVIDIA GPU), or `any` of them."
    )
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs needed; a job trains on one GPU at most.")
    memory_gb: float = Field(
        default=0, ge=0, le=1e6, description="Memory needed, of the GPU where one is used, else of the machine, in GB."
    )

    @model_validator(mode="after")
    def _has_its_gpu(self) -> Self:
        if self.gpus and self.device == "cpu":
            raise ValueError("device 'cpu' has no GPU, but gpus is 1; choose device 'cuda' or leave gpus out")
        return self

    @property
    def queue(self) -> Literal["any", "cpu", "cuda"]:
        """The queue on which a job with these needs waits."""
        return "cuda" if self.gpus else self.device

    @property
    def sentence(self) -> str:
        """The needs, in words."""
        machine = {"any": "any machine", "cpu": "a machine that trains on its CPU", "cuda": "a GPU"}[self.queue]
        return f"{machine} with {self.memory_gb:g} GB of memory" if self.memory_gb else machine


Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Submission(RunSpec):
    """A request to train: a run spec, and how, where and how often to try it."""

    hardware: Annotated[
        Hardware,
        BeforeValidator(_spell_out_device, json_schema_input_type=Hardware | Literal["any", "cpu", "cuda"]),
    ] = Field(default=Hardware(), description="Where it may run: `cpu`, `cuda`, `any`, or an object with details.")
    name: str | None = Field(default=None, max_length=256, description="A name for people; need not be unique.")
    labels: dict[LabelKey, Label] = Field(
        default_factory=dict, max_length=32, description="Key-value pairs to find the job by, as `?label.KEY=VALUE`."
    )
    priority: int = Field(
        default=0, ge=0, le=HIGHEST_PRIORITY, description="Jobs of higher priority start first on the same queue."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, le=1e8, description="Seconds an attempt may run before the job fails with cause `timeout`."
    )
    packing: bool = Field(
        default=True,
        description="Whether a worker may train it side by side with jobs that differ in seed, learning rate and tau "
        "alone, where the task can: faster for all, and for each as if it ran alone. On a CPU that holds to the last "
        "bit; on a GPU, sums may be rounded otherwise.",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        le=HIGHEST_MAX_ATTEMPTS,
        description="Attempts, however they end, before the job fails for good.",
    )
    max_attempts_by_cause: dict[Cause, Annotated[int, Field(ge=1, le=HIGHEST_MAX_ATTEMPTS)]] = Field(
        default_factory=dict,
        description='Attempts that may end by a cause before the job fails for good, such as `{"error": 2}`. A cause '
        "that is left out: `max_attempts` for `lost` and `oom`, else 1.",
    )

    @field_validator("max_attempts_by_cause")
    @classmethod
    def _lies_below_the_limit_of_all(cls, limits: dict[Cause, int], info: ValidationInfo) -> dict[Cause, int]:
        most = info.data.get("max_attempts", HIGHEST_MAX_ATTEMPTS)
        for cause, limit in limits.items():
            if limit > most:
                raise ValueError(
                    f"{limit} attempts may end by {cause.value!r}, but max_attempts allows {most} in all; "
                    f"raise max_attempts to {limit} or lower this limit"
                )
        return limits

    def limits_by_cause(self) -> dict[Cause, int]:
        """Attempts that every cause may end before the job fails for good."""
        defaults = {cause: self.max_attempts if cause in REPEATABLE else 1 for cause in Cause}
        return defaults | self.max_attempts_by_cause

    def run_spec(self) -> RunSpec:
        """The part that the result depends on."""
        return RunSpec.model_validate({name: getattr(self, name) for name in RunSpec.model_fields})
