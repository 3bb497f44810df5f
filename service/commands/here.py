"""Commands that need no service: train in this process, look at this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.options import (
    AsJson,
    Changes,
    EstimatorName,
    Seed,
    SpecFile,
    Steps,
    TaskName,
    Tau,
    given,
    spec_of,
)
from service.commands.output import console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from reinmax_core.run import RunSpec
    from service.commands.doctor import Report


def train(
    task: TaskName = None,
    estimator: EstimatorName = None,
    tau: Tau = None,
    steps: Steps = None,
    seed: Seed = None,
    changes: Changes = None,
    file: SpecFile = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or any: a GPU if there is one.")] = "any",
    to: Annotated[
        Path | None, typer.Option(help="Folder for model, state and pictures; by default runs/TASK-ESTIMATOR-SEED.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the state in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train in this process, such as: reinmax train polynomial reinmax --steps 1000"""
    from service.commands import training

    options = given(task=task, estimator=estimator, tau=tau, steps=steps, seed=seed)
    spec = _validated(spec_of(file, options, changes or ()))
    directory = to or Path("runs") / f"{spec.task.name}-{spec.estimator.name}-{spec.seed}"
    training.train(spec, directory, device=device, resume=resume, view=training.view_for(as_json=as_json))


def doctor(as_json: AsJson = False) -> None:
    """Show what works on this machine, what does not, and the remedy; exit code 1 if the service cannot run here."""
    from rich.text import Text

    from service.commands.doctor import examine
    from worker.settings import Settings

    report = examine(Settings())
    if as_json:
        print_json(report)
    else:
        console().print(_findings(report), Text(), _settings(report))
    if not report.is_fit:
        raise typer.Exit(1)


def _validated(spec: dict[str, object]) -> RunSpec:
    from pydantic import ValidationError

    from reinmax_core.run import RunSpec
    from service.mistakes import Written

    try:
        return RunSpec.model_validate(spec)
    except ValidationError as error:
        mistakes = Written(spec, RunSpec).mistakes(error.errors())
        told = (f"  {mistake.pointer or 'the spec'}: {mistake.message}" for mistake in mistakes)
        raise typer.BadParameter("\n".join(("this spec cannot be trained:", *told))) from None


def _findings(report: Report) -> Table:
    from service.commands.display import table_of

    table, marks = table_of("", "what"), {"ok": "[green]✓", "note": "[yellow]–", "problem": "[red]✗"}
    table.add_column("finding", overflow="fold")
    for finding in report.findings:
        table.add_row(marks[finding.grade], finding.subject, finding.finding)
        if finding.remedy:
            table.add_row("", "", f"[bright_black]→ {finding.remedy}")
    return table


def _settings(report: Report) -> Table:
    from service.commands.display import table_of

    table = table_of("variable")
    table.add_column("value", overflow="fold")
    table.add_column("from")
    for setting in report.settings:
        table.add_row(setting.variable, setting.value, setting.source)
    return table
