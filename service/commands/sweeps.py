"""Commands about sweeps of a running service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.commands.connection import connect
from service.commands.options import AsJson, Labels, given, json_object, labels_of
from service.commands.output import console, print_json, print_json_array

if TYPE_CHECKING:
    from service.client import Client
    from worker.sweep import Sweep

PREFIX: Final = "sweep_"
"""How the ids of sweeps begin."""

SweepId = Annotated[str, typer.Argument(metavar="SWEEP", help="Id of the sweep.")]
Seeds = Annotated[str | None, typer.Option(help="How many, from 0 on, such as 10; or which, such as 10,11.")]


def sweep(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", allow_dash=True, help="JSON with base, grid and seeds; - for standard input."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A published table or figure, such as table-2-smoke.")] = None,
    seeds: Seeds = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    label: Labels = None,
    hardware: Annotated[str | None, typer.Option(help="Where its jobs may run: cpu, cuda or any.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; higher starts first.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submissions with the same key make one sweep.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check it; show cells, jobs and the time.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a grid of jobs over seeds, such as: reinmax sweep --preset table-2-smoke --wait"""
    if file is None and preset is None:
        raise typer.BadParameter("name a FILE with the sweep, - for standard input, or a --preset")
    request = json_object(file, "a sweep as a JSON object with base, grid and seeds") if file else {}
    request |= given(preset=preset, name=name, seeds=seeds_of(seeds), labels=labels_of(label))
    if own := given(hardware=hardware, priority=priority):
        request["base"] = _base_of(request) | own
    with connect() as client:
        if dry_run:
            _preview(client, request, as_json)
            return
        made = client.submit_sweep(request, idempotency_key=idempotency_key)
        if wait:
            follow(client, made, as_json)
        else:
            _show_line(made, as_json)


def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, help="Sweeps shown at most.")] = 20, as_json: AsJson = False
) -> None:
    """List sweeps, newest first."""
    from itertools import islice

    from service.commands.sweep_display import sweep_list

    with connect() as client:
        found = tuple(islice(client.list_sweeps(), limit))
    if as_json:
        print_json_array(found)
    else:
        console().print(sweep_list(found))


def extend(
    sweep: SweepId,
    seeds: Annotated[str, typer.Option(help="How many each cell is to have, such as 20; or which, such as 10,11.")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give every cell of a sweep more seeds; those that are there stay."""
    with connect() as client:
        extended = client.extend_sweep(sweep, seeds_of(seeds) or ())
        if wait:
            follow(client, extended, as_json)
        else:
            _show_line(extended, as_json)


def is_sweep(name: str) -> bool:
    """Whether an id is that of a sweep rather than that of a job."""
    return name.startswith(PREFIX)


def show(client: Client, sweep_id: str, as_json: bool) -> None:
    """Shows all that is known about a sweep."""
    from service.commands.sweep_display import sweep_details

    found = client.get_sweep(sweep_id)
    if as_json:
        print_json(found)
    else:
        console().print(sweep_details(found))


def cancel(client: Client, sweep_id: str, as_json: bool) -> None:
    """Cancels the jobs of a sweep that have not ended."""
    _show_line(client.cancel_sweep(sweep_id), as_json)


def retry(client: Client, sweep_id: str, as_json: bool) -> None:
    """Retries the jobs of a sweep that failed or were cancelled."""
    _show_line(client.retry_sweep(sweep_id), as_json)


def follow(client: Client, sweep: Sweep, as_json: bool) -> None:
    """Shows a sweep until it has ended; ends the command with exit code 1 if one of its jobs did not succeed."""
    from service.commands.sweep_views import SweepJsonLines, follow_sweep, sweep_view_on
    from worker.sweep import SweepState

    view = SweepJsonLines() if as_json else sweep_view_on(console())
    if follow_sweep(client, sweep, view).status is not SweepState.SUCCEEDED:
        raise typer.Exit(1)


def seeds_of(text: str | None) -> int | list[int] | None:
    """What an option says: a number of seeds, or with commas the seeds themselves.

    Raises:
        typer.BadParameter: it says neither.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()] if "," in text else int(text)
    except ValueError:
        raise typer.BadParameter(
            f"--seeds should be a number, or seeds with commas such as 10,11; not {text}"
        ) from None


def _base_of(request: Mapping[str, object]) -> dict[str, object]:
    base = request.get("base", {})
    if not isinstance(base, dict):
        raise typer.BadParameter(f"base should be a JSON object with the fields of a job, not {json.dumps(base)}")
    return base


def _preview(client: Client, request: Mapping[str, object], as_json: bool) -> None:
    from service.commands.sweep_display import preview

    found = client.preview_sweep(request)
    if as_json:
        print_json(found)
    else:
        console().print(preview(found))


def _show_line(sweep: Sweep, as_json: bool) -> None:
    from service.commands.sweep_display import sweep_line

    if as_json:
        print_json(sweep)
    else:
        console().print(sweep_line(sweep))
