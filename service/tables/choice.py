"""One cell of a sweep chosen among several, by its mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from service.tables.samples import Sample
from worker.sweep import Selection


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cell that stands at a place of a table."""

    sample: Sample
    """What its jobs have come to."""
    selected: dict[str, JsonValue]
    """The coordinates for which it was chosen; empty where there was nothing to choose from."""
    is_final: bool
    """Whether every job of every candidate has succeeded."""
    among: int
    """How many candidates there were."""


def chosen(candidates: Sequence[Sample], selection: Selection | None) -> Chosen:
    """The candidate with the best mean, of those of which the most seeds have succeeded.

    Where seeds have failed, as by divergence, the mean of those left flatters; so a cell competes only if as many
    of its seeds succeeded as of any other. Among equals, and while there is no value, it is the first.
    """
    is_final = all(sample.is_complete for sample in candidates)
    if selection is None or len(candidates) == 1:
        coordinates = {path: candidates[0].coordinates.get(path) for path in selection.over} if selection else {}
        return Chosen(candidates[0], _applicable(coordinates), is_final, 1)
    most = max(len(sample.values(selection.metric)) for sample in candidates)
    sign = 1 if selection.direction == "min" else -1
    competing = [sample for sample in candidates if len(sample.values(selection.metric)) == most]
    best = min(competing, key=lambda sample: sign * _mean(sample, selection.metric))
    coordinates = {path: best.coordinates.get(path) for path in selection.over}
    return Chosen(best, _applicable(coordinates) if most else {}, is_final, len(candidates))


def _mean(sample: Sample, metric: str) -> float:
    values = sample.values(metric)
    return statistics.fmean(values.values()) if values else 0.0


def _applicable(coordinates: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {path: value for path, value in coordinates.items() if value is not None}
