"""Series of metrics as they travel: steps and values in columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over a run."""

    step: list[int] = field(default_factory=list)
    """Optimiser steps done at each point, ascending."""
    value: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.step)


SeriesByName: TypeAlias = dict[str, Series]


def add_points(series: SeriesByName, step: int, metrics: Mapping[str, float]) -> None:
    """Appends one value to each series that got one at `step`."""
    for name, value in metrics.items():
        points = series.setdefault(name, Series())
        points.step.append(step)
        points.value.append(value)


def extend(series: SeriesByName, later: Mapping[str, Series]) -> None:
    """Appends points that come behind those of `series`."""
    for name, points in later.items():
        known = series.setdefault(name, Series())
        known.step.extend(points.step)
        known.value.extend(points.value)


def encode(series: Mapping[str, Series]) -> str:
    """JSON of the form `{"loss": {"step": [...], "value": [...]}}`."""
    columns = {name: {"step": points.step, "value": points.value} for name, points in series.items()}
    return json.dumps(columns, separators=(",", ":"))


def join(pieces: Iterable[str]) -> SeriesByName:
    """The series whose consecutive pieces `encode` wrote."""
    series: SeriesByName = {}
    for piece in pieces:
        extend(series, {name: Series(**columns) for name, columns in json.loads(piece).items()})
    return series
