"""Sweeps for people's eyes: a table, a line, everything, a preview."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue
from rich.console import Group
from rich.table import Table
from rich.text import Text

from service.answers import SweepPreview
from service.commands.display import COLOURS, ORDER, duration, table_of
from service.commands.search_display import search_summary
from worker.jobs import State
from worker.sweep import Axis, Sweep

MOST_VALUES: Final = 8


def sweep_list(sweeps: Sequence[Sweep]) -> Table:
    """A row a sweep, for looking things up."""
    table = table_of("sweep", "what", "status", numbers=("%", "cells", "seeds", "jobs", "created"))
    for sweep in sweeps:
        age_s = (datetime.now(UTC) - sweep.created_at).total_seconds()
        numbers = (f"{sweep.percent:.0f}", str(sweep.cells), str(len(sweep.seeds)), str(sweep.jobs))
        table.add_row(sweep.id, title(sweep), _status(sweep), *numbers, f"{duration(age_s)} ago")
    return table


def sweep_line(sweep: Sweep) -> Text:
    """How a sweep stands, in a line."""
    left = f"; {duration(sweep.eta_s)} left" if sweep.eta_s is not None else ""
    text = Text.assemble(f"{sweep.id}  ", _status(sweep), f"  {title(sweep)}  ")
    return text.append(f"{sweep.percent:.0f} %, {summary(sweep)}{left}")


def summary(sweep: Sweep) -> str:
    """How many of its jobs are in which state, and what a search has found."""
    states = ", ".join(f"{sweep.counts[state]} {state}" for state in ORDER if state in sweep.counts)
    found = f"; {search_summary(sweep.search)}" if sweep.search else ""
    return f"{sweep.jobs} jobs: {states or 'none'}{found}"


def sweep_details(sweep: Sweep) -> Group:
    """All there is to know about a sweep, in two columns."""
    dimensions = _dimensions(sweep.axes, sweep.cells, sweep.seeds)
    return Group(sweep_line(sweep), _facts({"preset": sweep.preset, **dimensions}))


def preview(found: SweepPreview) -> Group:
    """What a sweep would be: its dimensions, the first cells, and how long it would take."""
    time = "unknown" if found.estimated_s is None else f"about {duration(found.estimated_s)}"
    facts = _facts(
        {
            **_dimensions(found.axes, found.cells, found.seeds),
            "jobs": f"{found.jobs:,}, of {found.steps:,} steps together",
            "time": f"{time}: {found.estimate}",
        }
    )
    return Group(facts, Text(), _first_cells(found)) if found.first else Group(facts)


def title(sweep: Sweep) -> str:
    """What a sweep is, in a few words: its name, its preset, or its axes."""
    return sweep.name or sweep.preset or " x ".join(axis.path for axis in sweep.axes) or "seeds"


def _first_cells(found: SweepPreview) -> Table:
    table = table_of("first cells", *(axis.path for axis in found.axes), numbers=("steps",))
    for number, cell in enumerate(found.first):
        values = (_written(cell.coordinates[axis.path]) for axis in found.axes)
        table.add_row(str(number), *values, str(cell.spec.steps))
    return table


def _dimensions(axes: Sequence[Axis], cells: int, seeds: Sequence[int]) -> dict[str, str]:
    shown = {axis.path: _values(axis.values) for axis in axes}
    return {**shown, "cells": str(cells), "seeds": f"{len(seeds)}: {_values(seeds)}"}


def _values(values: Sequence[JsonValue]) -> str:
    shown = ", ".join(map(_written, values[:MOST_VALUES]))
    return f"{shown}, ..., {_written(values[-1])}" if len(values) > MOST_VALUES else shown


def _written(value: JsonValue) -> str:
    if isinstance(value, Mapping):
        return " ".join(_setting(name, inner) for name, inner in value.items())
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _setting(name: str, value: JsonValue) -> str:
    return str(value) if name == "name" else f"{name}={_written(value)}"


def _facts(facts: Mapping[str, str | None]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bright_black")
    for name, value in facts.items():
        if value:
            grid.add_row(name, value)
    return grid


def _status(sweep: Sweep) -> Text:
    return Text(f"{sweep.status.value:<9}", COLOURS[State(sweep.status.value)])
