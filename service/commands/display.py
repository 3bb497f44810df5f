"""Jobs for people's eyes: a table, a line, everything, the curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.answers import Curve
from service.commands.titles import title
from worker.jobs import Artifact, Job, State

COLOURS: Final = {
    State.RUNNING: "blue",
    State.STARTING: "cyan",
    State.QUEUED: "bright_black",
    State.PAUSED: "yellow",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
    State.SUCCEEDED: "green",
}
ORDER: Final = tuple(COLOURS)
SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH: Final = 40


def line(job: Job) -> Text:
    """How a job stands, in a line."""
    progress, colour = job.progress, COLOURS[job.status]
    facts = [f"step {progress.step} of {progress.steps}", rate(job, " steps/s"), objective(job)]
    text = Text.assemble(f"{job.id}  ", (f"{job.status:<9}", colour), f"  {title(job)}  ")
    text.append(", ".join(fact for fact in facts if fact))
    if job.status_reason:
        text.append(f"  {job.status_reason.code}: {job.status_reason.message}", colour)
    return text


def summary(jobs: Sequence[Job]) -> str:
    """How all of the jobs stand together."""
    counts = {state: sum(job.status == state for job in jobs) for state in ORDER}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    done, total = sum(job.progress.step for job in jobs), sum(job.progress.steps for job in jobs)
    return f"{len(jobs)} jobs: {states or 'none'}; {done:,} of {total:,} steps"


def details(job: Job) -> Group:
    """All there is to know about a job, in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bright_black")
    for name, value in _facts(job):
        if value:
            grid.add_row(name, value)
    return Group(line(job), grid)


def curves_table(curves: Mapping[str, Curve]) -> Table:
    """A row a series: how it went, and where it stands."""
    table = table_of("series", "curve", numbers=("points", "first", "least", "greatest", "last"))
    for name, curve in curves.items():
        finite = [value for value in curve.value if value is not None]
        marks = (finite[0], min(finite), max(finite), finite[-1]) if finite else ()
        table.add_row(name, sparkline(finite), str(len(curve.step)), *(f"{value:.5g}" for value in marks))
    return table


def artifact_table(artifacts: Sequence[Artifact]) -> Table:
    """A row a file."""
    table = table_of("name", "sha256", numbers=("bytes",))
    for artifact in artifacts:
        table.add_row(artifact.name, artifact.sha256, f"{artifact.bytes:,}")
    return table


def table_of(*words: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table in the style of the house: columns of words, then columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for column in words:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def sparkline(values: Sequence[float], width: int = SPARKLINE_WIDTH) -> str:
    """A curve in a line of blocks, from the least value to the greatest."""
    least, greatest = min(values, default=0.0), max(values, default=0.0)
    picked = [values[index * len(values) // width] for index in range(width)] if len(values) > width else values
    scale = (len(SPARKS) - 1) / ((greatest - least) or 1.0)
    return "".join(SPARKS[round((value - least) * scale)] for value in picked)


def objective(job: Job) -> str:
    """The latest value of the metric that the task is about; empty if there is none yet."""
    name = job.spec.task.objective
    return f"{name} {job.metrics[name]:.5g}" if name in job.metrics else ""


def duration(seconds: float) -> str:
    """A length of time in its two largest units, such as `3 min 20 s`."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {seconds_left} s" if minutes else f"{seconds_left} s"


def rate(job: Job, unit: str = "") -> str:
    """Steps a second; empty while they are not known."""
    return f"{job.progress.rate:,.0f}{unit}" if job.progress.rate is not None else ""


def age_s(moment: datetime) -> float:
    """Seconds since then."""
    return (datetime.now(UTC) - moment).total_seconds()


def _facts(job: Job) -> Iterator[tuple[str, RenderableType]]:
    yield "name", job.name or ""
    yield "task", _settings(job.spec.task.model_dump())
    yield "estimator", _settings(job.spec.estimator.model_dump())
    yield "optimizer", _settings(job.spec.optimizer.model_dump())
    yield "seed", str(job.spec.seed)
    yield "labels", _settings(job.labels)
    yield "queue", f"{job.queue}, position {job.queue_position}" if job.queue_position else job.queue
    yield "worker", job.worker or ""
    yield "attempt", f"{job.attempt} of {job.max_attempts}" if job.attempt else ""
    yield "created", _moment(job.created_at)
    yield "started", _moment(job.started_at)
    yield "finished", _moment(job.finished_at)
    yield "device", job.environment.device if job.environment else ""
    yield "metrics", _settings({name: f"{value:.6g}" for name, value in job.metrics.items()})
    if job.result and job.result.best:
        best = job.result.best
        yield "best", f"{best.metric} {best.value:.6g} at step {best.step}"
    if job.result:
        yield "trained in", duration(job.result.wall_time_s)
        yield "peak memory", f"{job.result.peak_memory_mb:.0f} MB" if job.result.peak_memory_mb is not None else ""
        yield from ((name, Text(note, overflow="fold")) for name, note in job.result.notes.items())
    if job.error:
        yield "error", Text(f"{job.error.type}: {job.error.message}", "red")


def _settings(fields: Mapping[str, object]) -> str:
    return "  ".join(f"{value}" if name == "name" else f"{name}={value}" for name, value in fields.items())


def _moment(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}  ({duration(age_s(moment))} ago)"
