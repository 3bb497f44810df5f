"""Arguments and options that several commands have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
JobOrSweepId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job or sweep.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be given several times.")]

AttemptsByCause = Annotated[
    list[str] | None,
    typer.Option(
        "--max-attempts-by-cause",
        metavar="CAUSE=N",
        help="Attempts that may end by error, oom, timeout, lost or diverged; may be given several times.",
    ),
]

TaskName = Annotated[str | None, typer.Argument(metavar="TASK", help="What is trained, such as polynomial.")]
EstimatorName = Annotated[
    str | None, typer.Argument(metavar="ESTIMATOR", help="How the gradient passes a draw, such as reinmax.")
]
Tau = Annotated[float | None, typer.Option(help="The estimator's temperature.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps; by default the length of the published run.")]
Seed = Annotated[int | None, typer.Option(help="Seed of initial parameters, data order and draws.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, such as task.p=1.5 or optimizer.lr=0.001."),
]
SpecFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", allow_dash=True, help="JSON with the spec, - for standard input; options change it."),
]


def given(**options: object) -> dict[str, object]:
    """The options that were given, by name."""
    return {name: value for name, value in options.items() if value is not None}


def spec_of(file: Path | None, options: Mapping[str, object], changes: Iterable[str]) -> dict[str, object]:
    """The spec in the file, if any, with the options and then the changes of `--set` applied.

    Raises:
        typer.BadParameter: the file holds no JSON object, or a change is not FIELD=VALUE.
    """
    spec = json_object(file, "a spec as a JSON object with task and estimator") if file else {}
    spec |= options
    for change in changes:
        field, value = key_and_value(change)
        _set(spec, field.split("."), _value(value))
    return spec


def key_and_value(text: str) -> tuple[str, str]:
    """The two sides of KEY=VALUE.

    Raises:
        typer.BadParameter: one of them is missing.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} should be KEY=VALUE, such as study=table-2")
    return key, value


def labels_of(texts: Iterable[str] | None) -> dict[str, str] | None:
    """The labels that were given as KEY=VALUE; None for none."""
    return dict(map(key_and_value, texts)) if texts else None


def limits_of(texts: Iterable[str] | None) -> dict[str, object] | None:
    """The limits that were given as CAUSE=N, which the service checks; None for none."""
    return {cause: _value(limit) for cause, limit in map(key_and_value, texts)} if texts else None


def json_object(file: Path, expected: str) -> dict[str, object]:
    """What is in a file, or on standard input for `-`; `expected` says in words what that should be.

    Raises:
        typer.BadParameter: it is no JSON object.
    """
    try:
        found = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} should hold {expected}, but: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{file} should hold {expected}, not {found!r}")
    return found


def _set(spec: dict[str, object], path: list[str], value: object) -> None:
    """Puts a value into nested objects; a bare name on the way stands for the object of that name."""
    for name in path[:-1]:
        inner = spec.get(name, {})
        inner = {"name": inner} if isinstance(inner, str) else inner
        if not isinstance(inner, dict):
            raise typer.BadParameter(f"{'.'.join(path)} cannot be set: {name} is {inner!r}, which has no fields")
        spec[name] = inner
        spec = inner
    spec[path[-1]] = value


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
