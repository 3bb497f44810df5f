"""Metrics of a job as they are sent: thinned out, as JSON or as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from worker.series import Series

_json: TypeAdapter[dict[str, dict[str, Series]]] = TypeAdapter(dict[str, dict[str, Series]])


def thinned(series: Series, most: int) -> Series:
    """At most `most` points (4 or more) that look the same when drawn: first, last, and the extremes in between.

    The points between first and last are divided into equal parts, of which each keeps its smallest
    and its largest value.
    """
    if len(series) <= most:
        return series
    kept = list(_kept(series.value, (most - 2) // 2))
    return Series([series.step[index] for index in kept], [series.value[index] for index in kept])


def _kept(values: list[float], parts: int) -> Iterator[int]:
    last = len(values) - 1
    yield 0
    for part in range(parts):
        inside = range(1 + part * (last - 1) // parts, 1 + (part + 1) * (last - 1) // parts)
        yield from sorted({min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)})
    yield last


def as_json(series: Mapping[str, Series]) -> bytes:
    """`{"series": {"loss": {"step": [...], "value": [...]}}}`; values that are not finite become null."""
    return _json.dump_json({"series": dict(series)})


def as_csv(series: Mapping[str, Series]) -> str:
    """A table with the column `step` and one a series, empty where a series has no value at that step."""
    columns = [dict(zip(curve.step, curve.value, strict=True)) for curve in series.values()]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["step", *series])
    table.writerows(
        [step, *(column.get(step, "") for column in columns)] for step in sorted(set[int]().union(*columns))
    )
    return text.getvalue()
