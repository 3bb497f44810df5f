"""What a few seeds say about a mean, about the difference of two, and about the order of several."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, Literal, TypeAlias

from service.tables.table import Difference, Interval

Direction: TypeAlias = Literal["min", "max"]
CONFIDENCE: Final = 0.95
FEWEST: Final = 2
"""Seeds without which there is no spread."""


def standard_deviation(values: Sequence[float]) -> float | None:
    """Of the sample, with n - 1 in the denominator; None for fewer than two values."""
    return statistics.stdev(values) if len(values) >= FEWEST else None


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """Where the mean of all seeds lies, with 95 % confidence, by Student's t; None for fewer than two values.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    deviation = standard_deviation(values)
    if deviation is None:
        return None
    mean, half = statistics.fmean(values), _quantile(len(values) - 1) * deviation / len(values) ** 0.5
    return Interval(low=mean - half, high=mean + half)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """How much larger the values are than the baseline's, seed by seed, over the seeds that both have.

    The same seed means the same initial parameters and data order, which pairing takes out of the comparison.
    """
    seeds = sorted(values.keys() & baseline.keys())
    differences = [values[seed] - baseline[seed] for seed in seeds]
    interval = interval_of_mean(differences)
    return Difference(
        mean=statistics.fmean(differences) if differences else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=len(seeds),
        note=None if interval else f"{_seeds(len(seeds))} in common: no confidence interval",
    )


def ranks(values: Sequence[float], direction: Direction) -> tuple[float, ...]:
    """1 for the best; equal values share the mean of their places."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    signed = values if direction == "min" else [-value for value in values]
    return tuple(float(rank) for rank in rankdata(signed, method="average"))


def note_on(n: int) -> str | None:
    """What has to be said of a mean over so few seeds; None where nothing has."""
    return f"{_seeds(n)}: no standard deviation" if 0 < n < FEWEST else None


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"


@cache
def _quantile(degrees_of_freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom))
