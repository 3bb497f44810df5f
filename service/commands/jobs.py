"""Commands about jobs of a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import sweeps
from service.commands.connection import connect
from service.commands.options import (
    AsJson,
    AttemptsByCause,
    Changes,
    EstimatorName,
    JobId,
    JobOrSweepId,
    Labels,
    Seed,
    SpecFile,
    Steps,
    TaskName,
    Tau,
    given,
    labels_of,
    limits_of,
    spec_of,
)
from service.commands.output import console, print_json, print_json_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.client import Client
    from worker.jobs import Job

Hardware = Annotated[str | None, typer.Option(help="Where it may run: cpu, cuda or any.")]


def submit(
    task: TaskName = None,
    estimator: EstimatorName = None,
    tau: Tau = None,
    steps: Steps = None,
    seed: Seed = None,
    changes: Changes = None,
    file: SpecFile = None,
    hardware: Hardware = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    label: Labels = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; higher starts first.")] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="Seconds an attempt may run.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts, however they end.")] = None,
    attempts_by_cause: AttemptsByCause = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submissions with the same key make one job.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check it and show what would run.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training job, such as: reinmax submit polynomial reinmax --set task.p=1.5"""
    options = given(task=task, estimator=estimator, tau=tau, steps=steps, seed=seed, hardware=hardware, name=name)
    options |= given(labels=labels_of(label), priority=priority, timeout_s=timeout_s, max_attempts=max_attempts)
    options |= given(max_attempts_by_cause=limits_of(attempts_by_cause))
    spec = spec_of(file, options, changes or ())
    with connect() as client:
        if dry_run:
            _show(client.dry_run(spec), as_json)
            return
        job = client.submit(spec, idempotency_key=idempotency_key)
        if watch:
            _follow(client, [job.id], as_json)
        else:
            _show_line(job, as_json)


def watch(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB]...", help="Ids of jobs or sweeps; by default all jobs that have not ended."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow jobs or sweeps until they have ended; exit code 1 if one did not succeed."""
    of_sweeps = [job for job in jobs or () if sweeps.is_sweep(job)]
    with connect() as client:
        if len(of_sweeps) < len(jobs or ()) or not of_sweeps:
            _follow(client, [job for job in jobs or _unfinished(client) if job not in of_sweeps], as_json)
        for sweep in of_sweeps:
            sweeps.follow(client, client.get_sweep(sweep), as_json)


def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    task: Annotated[str | None, typer.Option(help="Only jobs of this task.")] = None,
    estimator: Annotated[str | None, typer.Option(help="Only jobs of this estimator.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only jobs of this sweep.")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="Jobs shown at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    from service.client.endpoints import JobFilter
    from service.commands.job_table import job_list

    filters: JobFilter = {"status": status, "task": task, "estimator": estimator, "sweep": sweep}
    filters["labels"] = labels_of(label) or {}
    with connect() as client:
        jobs = tuple(islice(client.list(**filters), limit))
    if as_json:
        print_json_array(jobs)
    else:
        console().print(job_list(jobs))


def show(job: JobOrSweepId, as_json: AsJson = False) -> None:
    """Show all that is known about a job or a sweep."""
    with connect() as client:
        if sweeps.is_sweep(job):
            sweeps.show(client, job, as_json)
        else:
            _show(client.get(job), as_json)


def logs(job: JobId, as_json: AsJson = False) -> None:
    """Print what the training process of a job wrote."""
    with connect() as client:
        text = client.logs(job)
    print(json.dumps({"logs": text}) if as_json else text, end="\n" if as_json else "")


def metrics(
    job: JobId,
    series: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    max_points: Annotated[int | None, typer.Option(min=4, help="Points of a curve at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the curves of a job."""
    from service.answers import Curves
    from service.commands.display import curves_table

    with connect() as client:
        curves = client.metrics(job, series=series or (), max_points=max_points)
    if as_json:
        print_json(Curves(series=curves))
    else:
        console().print(curves_table(curves))


def cancel(job: JobOrSweepId, as_json: AsJson = False) -> None:
    """Cancel a job, or all jobs of a sweep; one that runs saves a checkpoint first."""
    with connect() as client:
        if sweeps.is_sweep(job):
            sweeps.cancel(client, job, as_json)
        else:
            _show_line(client.cancel(job), as_json)


def pause(job: JobId, as_json: AsJson = False) -> None:
    """Pause a job until it is resumed; one that runs saves a checkpoint and frees its device."""
    with connect() as client:
        _show_line(client.pause(job), as_json)


def resume(job: JobId, as_json: AsJson = False) -> None:
    """Resume a paused job, from its checkpoint."""
    with connect() as client:
        _show_line(client.resume(job), as_json)


def retry(job: JobOrSweepId, as_json: AsJson = False) -> None:
    """Retry a job that failed or was cancelled, or those of a sweep, from its checkpoint, with all its attempts."""
    with connect() as client:
        if sweeps.is_sweep(job):
            sweeps.retry(client, job, as_json)
        else:
            _show_line(client.retry(job), as_json)


def delete(job: JobOrSweepId, as_json: AsJson = False) -> None:
    """Delete a job or a sweep that has ended, with its metrics, log and files."""
    with connect() as client:
        if sweeps.is_sweep(job):
            client.delete_sweep(job)
        else:
            client.delete(job)
    print(json.dumps({"deleted": job}) if as_json else f"{job}  deleted")


def artifacts(job: JobId, as_json: AsJson = False) -> None:
    """List the files that a job has left."""
    from service.commands.display import artifact_table

    with connect() as client:
        files = client.artifacts(job)
    if as_json:
        print_json_array(files)
    else:
        console().print(artifact_table(files))


def download(
    job: JobId,
    name: Annotated[str, typer.Argument(help="The file; the trained model by default.")] = "model.safetensors",
    to: Annotated[Path, typer.Option(help="File or folder to save it to.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Download a file that a job has left."""
    from service.commands.views import transfer

    with connect() as client, transfer(name, disable=as_json) as received:
        path = client.download(job, name, to, received=received)
    print(json.dumps({"path": str(path)}) if as_json else path)


def _follow(client: Client, ids: Sequence[str], as_json: bool) -> None:
    from service.commands.views import Jobs, JsonLines, follow, view_on
    from worker.jobs import State

    jobs = follow(Jobs(client, ids), JsonLines() if as_json else view_on(console()))
    if any(job.status != State.SUCCEEDED for job in jobs):
        raise typer.Exit(1)


def _unfinished(client: Client) -> tuple[str, ...]:
    from worker.jobs import TERMINAL, State

    states = [state for state in State if state not in TERMINAL]
    return tuple(sorted(job.id for state in states for job in client.list(status=state)))


def _show(job: Job, as_json: bool) -> None:
    from service.commands.display import details

    if as_json:
        print_json(job)
    else:
        console().print(details(job))


def _show_line(job: Job, as_json: bool) -> None:
    from service.commands.display import line

    if as_json:
        print_json(job)
    else:
        console().print(line(job))
