"""Sweeps and outcomes of their jobs, made up, for tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from worker.jobs import State
from worker.sweep import Axis, Selection, Sweep, SweepState
from worker.sweep_outcome import Outcome

ESTIMATORS = ["reinmax", "straight_through", "gumbel_softmax"]
SIZES = [{"categories": 8, "latents": 4}, {"categories": 4, "latents": 24}]
LOSSES = {"reinmax": (1.0, 2.0, 6.0), "straight_through": (4.0, 4.0, 7.0), "gumbel_softmax": (2.0, 3.0, 4.0)}
Values = Mapping[str, float] | None
"""Of a job that has succeeded; None for one that waits."""


def sweep(axes: Mapping[str, Sequence[Any]], seeds: int = 3, *, select: Selection | None = None, **facts: Any) -> Sweep:
    """A sweep over the product of these axes."""
    cells = 1
    for values in axes.values():
        cells *= len(values)
    known: dict[str, Any] = {
        "id": "sweep_1",
        "status": SweepState.RUNNING,
        "cells": cells,
        "seeds": range(seeds),
        "jobs": cells * seeds,
        "counts": {},
        "percent": 0.0,
        "axes": tuple(Axis(path=path, values=tuple(values)) for path, values in axes.items()),
        "select": select,
        "request": {"base": {"task": "polynomial"}},
        "created_at": datetime.now(UTC),
    }
    return Sweep.model_validate(known | facts)


def outcomes(
    of: Sweep, values: Callable[[dict[str, Any], int], Values], states: Mapping[tuple[int, int], State] | None = None
) -> list[Outcome]:
    """What the jobs came to: `values` of coordinates and seed, and other states by cell and seed."""
    made = []
    for cell, places in enumerate(product(*(axis.values for axis in of.axes))):
        coordinates = {axis.path: place for axis, place in zip(of.axes, places, strict=True)}
        for seed in of.seeds:
            found = values(coordinates, seed)
            state = State.SUCCEEDED if found is not None else State.QUEUED
            state = (states or {}).get((cell, seed), state)
            made.append(Outcome(f"job_{cell}_{seed}", cell, coordinates, seed, state, found or {}, 100.0))
    return made


def by_estimator(coordinates: dict[str, Any], seed: int) -> dict[str, float]:
    """The losses above, whatever the other coordinates are."""
    return {"expected_loss": LOSSES[coordinates["estimator"]][seed]}
