"""What came of the demonstration's jobs: a table beside the known optimum, panels of curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reinmax_core.tasks.polynomial import Polynomial
from service.answers import Curve
from service.commands.display import duration, table_of
from service.commands.titles import title
from service.demo.figure import Panel
from worker.jobs import Job, State

NO_DATA: Final = "DataUnavailable"
REACHED: Final = 0.1
"""Share of the way from start to optimum that may be left where the optimum counts as reached."""


class Row(TypedDict):
    """What came of a job, for programs."""

    job: str
    name: str | None
    status: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """Jobs that have ended, and their curves by job and series."""

    jobs: Sequence[Job]
    curves: Mapping[str, Mapping[str, Curve]]

    @property
    def is_good(self) -> bool:
        """Whether all succeeded, but for those whose data no source had."""
        return all(job.status == State.SUCCEEDED or _lacks_data(job) for job in self.jobs)

    def show(self, console: Console) -> None:
        """Prints the table, and a sentence on every job that is not in it."""
        console.print("\nFinal expected loss, and its distance to the optimum\n", style="bold")
        console.print(_table(self._polynomials()))
        console.print()
        for job in self.jobs:
            if job.status != State.SUCCEEDED or not _is_polynomial(job):
                console.print(_sentence(job, self.curves[job.id]))

    def panels(self) -> tuple[Panel, ...]:
        """A panel an exponent, with a curve an estimator, and one for the images where they were to be had."""
        polynomials = self._polynomials()
        found = [self._panel(p, polynomials) for p in sorted({_exponent(job) for job in polynomials})]
        return (*found, *(self._images(job) for job in self.jobs if _succeeded(job) and not _is_polynomial(job)))

    def rows(self) -> list[Row]:
        """Every job with its last metrics, for programs."""
        return [Row(job=job.id, name=job.name, status=job.status.value, metrics=job.metrics) for job in self.jobs]

    def _polynomials(self) -> list[Job]:
        """Those that succeeded, the estimator that comes nearest to the optima first."""
        jobs = [job for job in self.jobs if _succeeded(job) and _is_polynomial(job)]
        gaps: dict[str, float] = {}
        for job in jobs:
            gaps[job.spec.estimator.name] = gaps.get(job.spec.estimator.name, 0.0) + _gap(job)
        return sorted(jobs, key=lambda job: (gaps[job.spec.estimator.name], _exponent(job)))

    def _panel(self, exponent: float, polynomials: Sequence[Job]) -> Panel:
        jobs = [job for job in polynomials if _exponent(job) == exponent]
        curves = {job.spec.estimator.name: self.curves[job.id]["expected_loss"] for job in jobs}
        return Panel(f"polynomial, p = {exponent:g}", "expected loss", curves, optimum=_optimum(jobs[0]))

    def _images(self, job: Job) -> Panel:
        return Panel(
            "categorical VAE on MNIST", "test loss", {job.spec.estimator.name: self.curves[job.id]["test_loss"]}
        )


def _table(jobs: Sequence[Job]) -> Table:
    """An estimator a row and an exponent a column."""
    exponents = sorted({_exponent(job) for job in jobs})
    table = table_of("estimator", numbers=[f"p = {exponent:g}" for exponent in exponents])
    cells = {(job.spec.estimator.name, _exponent(job)): _cell(job) for job in jobs}
    for estimator in dict.fromkeys(name for name, _ in cells):
        table.add_row(estimator, *(cells.get((estimator, exponent), Text("–")) for exponent in exponents))
    optima = {_exponent(job): _optimum(job) for job in jobs}
    table.add_row("optimum", *(f"{optima[exponent]:.5f}        " for exponent in exponents), style="bold")
    return table


def _cell(job: Job) -> Text:
    """Loss and distance to the optimum, green where it is reached."""
    style = "green" if _gap(job) < REACHED * _way(job) else ""
    return Text.assemble((f"{job.metrics['expected_loss']:.5f}", style), (f" {_gap(job):+.4f}", "bright_black"))


def _sentence(job: Job, curves: Mapping[str, Curve]) -> Text:
    """What came of a job that has no cell in the table."""
    if _lacks_data(job) and job.error:
        return Text(f"{title(job)}: left out, as no source of its data can be reached. {job.error.message}", "yellow")
    if job.status != State.SUCCEEDED or job.result is None:
        reason = job.error.message if job.error else job.status_reason.message if job.status_reason else ""
        return Text(f"{title(job)}: {job.status}. {reason}", "red")
    name = job.spec.task.objective
    curve, seconds = curves[name], duration(job.result.wall_time_s)
    return Text(
        f"{title(job)}: {name} {curve.value[0]:.2f} after {curve.step[0]} steps, {curve.value[-1]:.2f} after "
        f"{curve.step[-1]}, in {seconds}"
    )


def _lacks_data(job: Job) -> bool:
    return job.error is not None and job.error.type == NO_DATA


def _succeeded(job: Job) -> bool:
    return job.status == State.SUCCEEDED


def _is_polynomial(job: Job) -> bool:
    return isinstance(job.spec.task, Polynomial)


def _exponent(job: Job) -> float:
    return float(job.spec.task.p)


def _gap(job: Job) -> float:
    return job.metrics["gap"]


def _optimum(job: Job) -> float:
    return job.metrics["expected_loss"] - job.metrics["gap"]


def _way(job: Job) -> float:
    """The gap of the start, where both values of every variable are equally likely."""
    one, zero = abs(1 - job.spec.task.c) ** _exponent(job), abs(job.spec.task.c) ** _exponent(job)
    return float(abs(one - zero) / 2)
