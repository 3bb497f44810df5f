"""Rows and columns of a table, and the cells of the sweep that belong where they meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import JsonValue

from service.tables.labels import Labels, answers_to, shown
from service.tables.layout import Layout, Unfitting
from service.tables.samples import Sample
from service.tables.table import Entry

Dimension: TypeAlias = Literal["rows", "columns"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What differences are taken to: one value of one axis."""

    dimension: Dimension
    """Whether rows or columns are compared with it."""
    path: str
    """The axis."""
    value: JsonValue
    """The value."""
    label: str
    """Its label."""

    def entry_for(self, entry: Entry, entries: Sequence[Entry]) -> int | None:
        """Number of the entry that `entry` is compared with: alike but for the axis, or the only one there is."""
        wanted = entry.coordinates | {self.path: self.value}
        candidates = [
            number
            for number, other in enumerate(entries)
            if other.metric == entry.metric and other.coordinates[self.path] == self.value
        ]
        alike = [number for number in candidates if entries[number].coordinates == wanted]
        return (alike or candidates)[0] if alike or len(candidates) == 1 else None


def entries_of(samples: Sequence[Sample], layout: Layout, labels: Labels, subject: str) -> dict[Dimension, list[Entry]]:
    """Rows and columns that have a cell, in the order of the values of their axes.

    Args:
        samples: the cells.
        layout: which axes stand where.
        labels: words for them.
        subject: stands at the only row of a table whose axes are all in the columns, or that has none.
    """
    rows = _distinct(samples, layout.rows, labels)
    columns = _distinct(samples, layout.columns, labels)
    several = len(layout.metrics) > 1
    if not layout.columns:
        of_metrics = [Entry(label=metric, coordinates={}, metric=metric) for metric in layout.metrics]
        return {"rows": [_entry(place, labels, subject) for place in rows], "columns": of_metrics}
    blocks: Iterable[str | None] = layout.metrics if several else (None,)
    in_rows = [_entry(place, labels, metric or subject, metric) for metric in blocks for place in rows]
    return {"rows": in_rows, "columns": [_entry(place, labels, subject) for place in columns]}


def place_of(coordinates: Mapping[str, JsonValue], paths: Sequence[str]) -> tuple[str, ...]:
    """Coordinates on some axes as a key."""
    return tuple(shown(coordinates.get(path)) for path in paths)


def baseline_of(name: str, entries: Mapping[Dimension, Sequence[Entry]], labels: Labels) -> Baseline:
    """What is called so in rows or columns: by the label of a value, its name, or the value itself.

    Raises:
        Unfitting: nothing is, or several are.
    """
    known = [
        Baseline(dimension, path, value, labels.value(path, value))
        for dimension in ("rows", "columns")
        for path, value in _values(entries[dimension])
        if value is not None
    ]
    found = [candidate for candidate in known if candidate.label == name]
    found = found or [candidate for candidate in known if answers_to(candidate.value, name)]
    found = found or [candidate for candidate in known if shown(candidate.value) == name]
    if len(found) != 1:
        finding = "several are called so" if found else "nothing in rows or columns is called so"
        names = ", ".join(candidate.label for candidate in known)
        raise Unfitting("baseline", f"the baseline {name[:80]!r} should name one of: {names}; {finding}")
    return found[0]


def _values(entries: Sequence[Entry]) -> list[tuple[str, JsonValue]]:
    """The axes and values of some entries, each once."""
    each = {(path, shown(value)): (path, value) for entry in entries for path, value in entry.coordinates.items()}
    return list(each.values())


def _distinct(samples: Iterable[Sample], paths: Sequence[str], labels: Labels) -> list[dict[str, JsonValue]]:
    found = {
        place_of(sample.coordinates, paths): {path: sample.coordinates.get(path) for path in paths}
        for sample in samples
    }
    return sorted(found.values(), key=lambda place: [labels.place(path, value) for path, value in place.items()])


def _entry(place: dict[str, JsonValue], labels: Labels, otherwise: str, metric: str | None = None) -> Entry:
    return Entry(label=labels.entry(place) if place else otherwise, coordinates=place, metric=metric)
