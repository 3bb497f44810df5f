"""Which runs can be trained side by side; told without torch."""

from __future__ import annotations

from reinmax_core.run import RunSpec
from reinmax_core.tasks.base import Replicable


def packable(spec: RunSpec) -> bool:
    """Whether runs of this form can be trained side by side."""
    return (
        isinstance(spec.task, Replicable)
        and spec.task.packs(spec.estimator)
        and spec.optimizer.schedule is None
        and spec.precision == "float32"
    )


def form(spec: RunSpec) -> RunSpec:
    """What runs that are trained side by side have in common: all but seed, learning rate and temperature."""
    estimator = spec.estimator
    if "tau" in type(estimator).model_fields:
        estimator = type(estimator)(**{**estimator.model_dump(), "tau": 1.0})
    optimizer = spec.optimizer.model_copy(update={"lr": 1.0})
    return spec.model_copy(update={"estimator": estimator, "optimizer": optimizer, "seed": 0})
