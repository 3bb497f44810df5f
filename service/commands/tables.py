"""Commands about what sweeps have come to: tables and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from service.commands.connection import connect
from service.commands.options import AsJson
from service.commands.output import CommandFailed, console, print_json
from service.commands.sweeps import SweepId

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable

    from service.client import Client
    from service.client.tables import Arrangement
    from service.tables.lines import Line
    from service.tables.table import Table


TextFormat: TypeAlias = Literal["csv", "markdown", "latex"]
TableFormat: TypeAlias = Literal["json", "csv", "markdown", "latex"]
PlotKind: TypeAlias = Literal["bars", "line", "curves"]

FORMATS_BY_ENDING: Final[dict[str, TableFormat]] = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".tex": "latex",
}
IMAGES: Final[dict[str, Literal["svg", "png"]]] = {".svg": "svg", ".png": "png"}
JOB: Final = "job_"
BETWEEN: Final = 2
"""Spaces between two columns."""

Axes = "Paths of axes, such as estimator,task"
Rows = Annotated[str | None, typer.Option(help=f"{Axes}; by default estimator.")]
Columns = Annotated[str | None, typer.Option(help=f"{Axes}; by default all others.")]
Select = Annotated[str | None, typer.Option(help=f"{Axes}, along which only the best cell is shown.")]
Metrics = Annotated[list[str] | None, typer.Option("--metric", help="What is shown; may be given several times.")]
Baseline = Annotated[
    str | None, typer.Option(help="What paired differences are taken to, such as the name of an estimator.")
]


def table(
    sweep: SweepId,
    format: Annotated[
        TableFormat | None, typer.Option("--format", "-f", help="Instead of a table for the terminal.")
    ] = None,
    metric: Metrics = None,
    baseline: Baseline = None,
    rows: Rows = None,
    columns: Columns = None,
    select: Select = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .csv, .md, .tex, .json, .svg or .png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show mean and spread over seeds of every cell of a sweep, beside the published numbers."""
    arrangement = _arrangement(metric, baseline, rows, columns, select)
    ending = output.suffix.lower() if output else ""
    with connect() as client:
        if output and ending in IMAGES:
            _save(output, client.plot(sweep, form=IMAGES[ending], **arrangement), as_json)
        elif output:
            _save(output, _text(client, sweep, format or _format_of(output), arrangement).encode(), as_json)
        elif as_json or format == "json":
            print_json(client.table(sweep, **arrangement))
        elif format:
            print(_text(client, sweep, format, arrangement), end="")
        else:
            screen = console()
            for part in shown(client.table(sweep, **arrangement), screen.width):
                screen.print(part)


def plot(
    subject: Annotated[str, typer.Argument(metavar="SWEEP|JOB", help="Id of a sweep, or of a job for its curves.")],
    kind: Annotated[
        PlotKind, typer.Option(help="Of a sweep: final values as bars or over a numeric axis, or training curves.")
    ] = "bars",
    metric: Metrics = None,
    x: Annotated[str | None, typer.Option("--x", help="Path of the axis that a line is drawn over.")] = None,
    rows: Rows = None,
    columns: Columns = None,
    select: Select = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write: .svg or .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a sweep, or the curves of a job."""
    path = output or Path(f"{subject}.svg")
    form = IMAGES.get(path.suffix.lower())
    if form is None:
        raise CommandFailed(f"a plot is written as .svg or .png, not as {path.name!r}; choose one of these endings")
    with connect() as client:
        if subject.startswith(JOB):
            image = client.plot_of_job(subject, series=metric or (), form=form)
        else:
            arrangement = _arrangement(metric, None, rows, columns, select)
            image = client.plot(subject, kind=kind, x=x, form=form, **arrangement)
    _save(path, image, as_json)


def shown(table: Table, width: int) -> Sequence[RenderableType]:
    """The table for a terminal so many letters wide: title, table, notes; in parts if not all columns have room."""
    from rich.text import Text

    from service.tables.lines import head, lines, notes, unfinished

    heads, found = head(table), list(lines(table))
    parts = [_part(heads, found, columns) for columns in _parts(heads, found, width)]
    below = [Text(note, "bright_black") for note in notes(table)]
    missing = [Text(job, "red") for job in unfinished(table)]
    return (Text(table.title, "bold"), *(piece for part in parts for piece in (part, Text())), *below, *missing)


def _part(heads: Sequence[str], found: Sequence[Line], columns: Sequence[int]) -> RichTable:
    """Some of the columns, by their numbers from 0."""
    from rich.text import Text

    from service.commands.display import table_of

    drawn = table_of(heads[0], numbers=[heads[1 + number] for number in columns])
    metric: str | None = None
    for line in found:
        if line.metric and line.metric != metric:
            drawn.add_row(Text(line.metric, "bold cyan"))
        metric = line.metric
        style = "" if line.is_main else "bright_black"
        texts = [Text(text.words, "bold green" if text.is_best else style) for text in map(line.text, columns)]
        if line.is_main or any(texts):
            drawn.add_row(Text(line.shown_label, style), *texts)
    return drawn


def _parts(heads: Sequence[str], found: Sequence[Line], width: int) -> list[list[int]]:
    """The numbers of columns in groups that have room beside the labels."""
    labels = max(map(len, [heads[0], *(line.shown_label for line in found)]))
    parts: list[list[int]] = [[]]
    left = width - labels
    for number, name in enumerate(heads[1:]):
        needed = BETWEEN + max(map(len, [name, *(line.text(number).words for line in found)]))
        if needed > left and parts[-1]:
            parts.append([])
            left = width - labels
        parts[-1].append(number)
        left -= needed
    return parts


def _arrangement(
    metric: list[str] | None, baseline: str | None, rows: str | None, columns: str | None, select: str | None
) -> Arrangement:
    return {
        "metrics": metric or (),
        "baseline": baseline,
        "rows": _paths(rows),
        "columns": _paths(columns),
        "select": _paths(select),
    }


def _paths(text: str | None) -> Sequence[str] | None:
    return None if text is None else [path.strip() for path in text.split(",") if path.strip()]


def _text(client: Client, sweep: str, format: TableFormat, arrangement: Arrangement) -> str:
    if format == "json":
        return client.table(sweep, **arrangement).model_dump_json(indent=2) + "\n"
    return client.table_text(sweep, format, **arrangement)


def _format_of(output: Path) -> TableFormat:
    if found := FORMATS_BY_ENDING.get(output.suffix.lower()):
        return found
    endings = ", ".join((*FORMATS_BY_ENDING, *IMAGES))
    raise CommandFailed(f"{output.name!r} does not say how to write the table; choose one of {endings}, or --format")


def _save(path: Path, content: bytes, as_json: bool) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}; choose another --output") from error
    print(json.dumps({"path": str(path)}) if as_json else path)
