"""Stretches of time, by which is judged what a fault had to wait for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in ascending stretches that do not touch."""
    joined: list[Interval] = []
    for begin, end in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def common(first: Iterable[Interval], second: Iterable[Interval]) -> list[Interval]:
    """The time that is in both."""
    others = list(second)
    return union((max(a, c), min(b, d)) for a, b in first for c, d in others)


def without(first: Iterable[Interval], second: Iterable[Interval]) -> list[Interval]:
    """The time of the first that is not in the second."""
    left = union(first)
    for begin, end in union(second):
        left = [piece for a, b in left for piece in ((a, min(b, begin)), (max(a, end), b)) if piece[0] < piece[1]]
    return left


def length(intervals: Iterable[Interval]) -> float:
    """Seconds in all."""
    return sum(end - begin for begin, end in union(intervals))
