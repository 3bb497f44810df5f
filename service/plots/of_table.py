"""A table of a sweep as bars, or as lines over one of its axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from reinmax_core.presets import Preset
from service.plots.bars import Bar, BarPanel
from service.plots.blocks import (
    MOST_COMPETITORS,
    MOST_PANELS,
    Block,
    blocks,
    left_out,
    means_of,
    numbers_of,
    on_legend,
    title_of,
)
from service.plots.drawing import Plot
from service.plots.lines import Level, Line, LinePanel, Mark
from service.tables.labels import Labels, shown
from service.tables.layout import ESTIMATOR, Unfitting, Wishes
from service.tables.table import Table, TableCell
from worker.sweep import Sweep

USUAL_X: Final = "tau"
MOST_BARS: Final = 1440


def bars(table: Table) -> Plot:
    """A panel a metric, a group a column, and a bar a row; of a large table the first of each."""
    found = [_with_values(block) for block in blocks(table)]
    drawn = [block.first(MOST_COMPETITORS) for block in found[:MOST_PANELS]]
    competitors = max((len(block.competitors) for block in found), default=0)
    groups = max((len(block.disciplines) for block in found), default=0)
    most_groups = max(1, MOST_BARS // max(1, len(drawn) * min(competitors, MOST_COMPETITORS)))
    numbers: dict[tuple[str, ...], list[int | None]] = {}
    panels = [
        BarPanel(
            title="",
            y_label=block.metric,
            groups=block.disciplines[:most_groups],
            bars=[
                (label, [_bar(cell) for cell in line[:most_groups]])
                for label, line in zip(block.competitors, block.cells, strict=True)
            ],
            # What is the best in the first panel has the same colour in all.
            numbers=numbers.setdefault(
                tuple(block.competitors), numbers_of([means_of(line) for line in block.cells], block.direction)
            ),
        )
        for block in drawn
    ]
    told = on_legend(min(competitors, MOST_COMPETITORS))
    left = left_out(bars=competitors - MOST_COMPETITORS, groups=groups - most_groups, panels=len(found) - MOST_PANELS)
    return Plot(title_of(table), panels, (*notes_on(table), *told, *left))


def lines(table: Table, x: str, labels: Labels) -> Plot:
    """A line a row over the axis `x`, which stands in the columns, and a panel for each combination of the others.

    Of a large table the first rows and panels are drawn.
    """
    rest = {
        _key(column.coordinates, x): {path: value for path, value in column.coordinates.items() if path != x}
        for column in table.columns
    }
    numbers = _numbers_by_row(table)
    places = [(metric.name, key, place) for metric in table.metrics for key, place in rest.items()]
    panels = [
        _over(table, metric, x, key, labels.entry(place) if place else "", labels, numbers)
        for metric, key, place in places[:MOST_PANELS]
    ]
    rows = len({row.label for row in table.rows})
    left = left_out(lines=rows - MOST_COMPETITORS, panels=len(places) - MOST_PANELS)
    return Plot(title_of(table), panels, (*notes_on(table), *on_legend(len(numbers)), *left))


def wishes_over(sweep: Sweep, preset: Preset | None, wishes: Wishes, x: str | None) -> tuple[Wishes, str]:
    """What to tabulate for lines over the axis `x`, or over the usual one; and that axis.

    Raises:
        Unfitting: it does not exist, or has no numbers to be drawn over.
    """
    numeric = [axis.path for axis in sweep.axes if _is_numeric(axis.values)]
    if x is None:
        temperatures = [path for path in numeric if path.rpartition(".")[2] == USUAL_X]
        x = next(iter(temperatures or numeric), None)
    if x not in numeric:
        finding = "no axis has" if x is None else f"{x} has not" if numeric else f"neither {x} nor any other axis has"
        there = f"those that have are: {', '.join(numeric)}" if numeric else "choose another kind of plot"
        raise Unfitting("x", f"a line needs an axis with at least two numbers, which {finding}; {there}")
    chosen = wishes.select or (sweep.select.over if sweep.select else ())
    paths = tuple(axis.path for axis in sweep.axes if axis.path not in (x, *chosen))
    usual = (ESTIMATOR,) if ESTIMATOR in paths else preset.layout.rows if preset else paths[:1]
    rows = tuple(path for path in (wishes.rows or usual) if path in paths)
    columns = tuple(path for path in (wishes.columns or paths) if path not in rows and path != x)
    select = tuple(path for path in wishes.select if path != x) if wishes.select is not None else None
    return replace(wishes, rows=rows, columns=(*columns, x), select=select), x


def notes_on(table: Table) -> tuple[str, ...]:
    """What has to be known of a drawing of the table."""
    seeds = sorted({cell.n for line in table.cells for cell in line if cell and cell.n})
    if not seeds:
        return ("No job has succeeded yet.",)
    span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    over = "One seed each." if seeds == [1] else f"Mean ± standard deviation over {span} seeds."
    return (over, *(note for note in table.notes if note.startswith("Incomplete")))


def _over(
    table: Table,
    metric: str,
    x: str,
    key: tuple[str, ...],
    title: str,
    labels: Labels,
    numbers: Mapping[str, int | None],
) -> LinePanel:
    found: list[Line] = []
    levels: list[Level] = []
    marks: list[Mark] = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        if row.metric not in (None, metric) or row.label not in numbers:
            continue
        number, points = numbers[row.label], list(_points(table, cells, x, key))
        numbered = sorted((float(place), cell) for place, cell in points if isinstance(place, (int, float)))
        if numbered:
            found.append(_line(row.label, number, numbered))
            marks += [_mark(number, place, cell) for place, cell in numbered if cell.published]
        levels += [Level(row.label, number, cell.mean or 0.0, cell.sd) for place, cell in points if place is None]
    return LinePanel(title, labels.axis(x), metric, found, levels, marks, over_steps=False)


def _numbers_by_row(table: Table) -> dict[str, int | None]:
    """Of the rows that are drawn, by label."""
    metric = table.metrics[0]
    values: dict[str, list[float]] = {}
    for row, cells in zip(table.rows, table.cells, strict=True):
        known = values.setdefault(row.label, [])
        known += means_of(cells) if row.metric in (None, metric.name) else []
    drawn = list(values)[:MOST_COMPETITORS]
    return dict(zip(drawn, numbers_of([values[label] for label in drawn], metric.direction), strict=True))


def _with_values(block: Block) -> Block:
    """The competitors that have any value."""
    there = [number for number, line in enumerate(block.cells) if means_of(line)]
    return replace(
        block,
        competitors=[block.competitors[number] for number in there],
        cells=[block.cells[number] for number in there],
    )


def _line(label: str, number: int | None, points: Sequence[tuple[float, TableCell]]) -> Line:
    return Line(
        label,
        number,
        [place for place, _ in points],
        [cell.mean or 0.0 for _, cell in points],
        [cell.sd for _, cell in points],
    )


def _mark(number: int | None, place: float, cell: TableCell) -> Mark:
    assert cell.published
    return Mark(number, place, cell.published.mean, cell.published.spread)


def _points(
    table: Table, cells: Sequence[TableCell | None], x: str, key: tuple[str, ...]
) -> Iterator[tuple[JsonValue, TableCell]]:
    """The cells of a row in one panel that have a value, and where on the axis each stands."""
    for column, cell in zip(table.columns, cells, strict=True):
        if cell and cell.mean is not None and _key(column.coordinates, x) == key:
            yield column.coordinates[x], cell


def _bar(cell: TableCell | None) -> Bar | None:
    if cell is None or cell.mean is None:
        return None
    known = cell.published
    return Bar(cell.mean, cell.sd, known.mean if known else None, known.spread if known else None)


def _key(coordinates: dict[str, JsonValue], x: str) -> tuple[str, ...]:
    return tuple(shown(value) for path, value in coordinates.items() if path != x)


def _is_numeric(values: Sequence[JsonValue]) -> bool:
    numbers = [value for value in values if value is not None]
    return len(numbers) > 1 and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in numbers
    )
