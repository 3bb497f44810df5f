"""The published number that belongs beside a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from reinmax_core.presets import Preset, Published
from service.tables.table import PublishedValue

ROUNDING: Final = 1e-12
"""Of the difference of two numbers, as a share of them."""


def published_at(preset: Preset | None, coordinates: Mapping[str, JsonValue], metric: str) -> Published | None:
    """What the preset has of that metric at those coordinates: the one that names most of them; None for none."""
    fitting = [
        known
        for known in (preset.published if preset else ())
        if known.metric == metric and all(coordinates.get(path) == value for path, value in known.at.items())
    ]
    return max(fitting, key=lambda known: len(known.at), default=None)


def beside(mean: float | None, known: Published) -> PublishedValue:
    """The published number, with the distance of ours to it."""
    return PublishedValue(
        **known.model_dump(exclude={"at", "metric"}), difference=None if mean is None else mean - known.mean
    )


def is_within(value: PublishedValue) -> bool | None:
    """Whether our mean is no farther from the published one than the spread that was published with it."""
    if value.difference is None or value.spread is None:
        return None
    return abs(value.difference) <= value.spread + ROUNDING * abs(value.mean)
