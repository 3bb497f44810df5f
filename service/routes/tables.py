"""`/v1/sweeps/{id}/table`: what a sweep has come to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from reinmax_core.presets import presets
from service.context import Here
from service.mistakes import Mistake
from service.protocol.conditional import matches
from service.protocol.holding import Known
from service.protocol.parameters import SweepId, refuse_unknown_parameters
from service.protocol.problems import Kind, Problem, problems
from service.protocol.representation import JSON, NOT_MODIFIED
from service.tables.formats import FORMATS, TextFormat
from service.tables.layout import Unfitting, Wishes
from service.tables.table import Table
from service.tables.tabulation import tabulate
from worker.sweep import Sweep

MEDIA_TYPES: Final[dict[TextFormat, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "markdown": "text/markdown; charset=utf-8",
    "latex": "application/x-latex; charset=utf-8",
}
TEXTS: Final = tuple(MEDIA_TYPES.values())
ENDINGS: Final[dict[TextFormat, str]] = {"csv": "csv", "markdown": "md", "latex": "tex"}

Names: TypeAlias = list[str] | None
MOST_NAMES: Final = 32
"""Of axes a sweep cannot have more, and more metrics are asked for in turn."""

router = APIRouter(
    prefix="/v1/sweeps/{sweep_id}",
    tags=["sweeps"],
    dependencies=[Depends(refuse_unknown_parameters)],
    responses=NOT_MODIFIED | problems(Kind.SWEEP_NOT_FOUND),
)


def wishes(
    rows: Annotated[
        Names, Query(description="Paths of the axes of the rows, separated by commas; by default `estimator`.")
    ] = None,
    columns: Annotated[
        Names, Query(description="Paths of the axes of the columns, separated by commas; by default all others.")
    ] = None,
    metric: Annotated[
        Names, Query(description="What is shown, one or several; by default as the preset says, else the objective.")
    ] = None,
    baseline: Annotated[
        str | None,
        Query(
            max_length=256,
            description="What paired differences are taken to: a value of an axis in rows or columns, such as the name "
            "of an estimator.",
        ),
    ] = None,
    select: Annotated[
        Names,
        Query(description="Paths of axes along which only the best cell is shown; by default as the sweep says."),
    ] = None,
) -> Wishes:
    """What the query asks for."""
    with refusing_what_does_not_fit():
        metrics = split(metric, "metric") or None
        return Wishes(split(rows, "rows"), split(columns, "columns"), metrics, baseline, split(select, "select"))


Wished: TypeAlias = Annotated[Wishes, Depends(wishes)]


@router.get(
    "/table",
    summary="Get the table of a sweep",
    operation_id="getTable",
    response_model=Table,
    responses={200: {"content": {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in TEXTS}}},
)
def get_table(
    here: Here,
    request: Request,
    sweep_id: SweepId,
    wished: Wished,
    format: Annotated[
        Literal["json", "csv", "markdown", "latex"],
        Query(description="`json`; `csv`, a row a cell; or `markdown` or `latex` (booktabs), as people read it."),
    ] = "json",
    if_none_match: Known = None,
) -> Response:
    """Mean and standard deviation of every cell over its seeds, the best marked, beside what was published.

    Only jobs that have succeeded count, so a sweep that is under way shows what is there. With `baseline` each cell
    has its mean difference to it over the common seeds, with a 95 % confidence interval by Student's t.
    """
    sweep = here.sweeps.get(sweep_id)
    headers = headers_of(sweep, request)
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    with refusing_what_does_not_fit():
        outcomes = here.sweeps.outcomes(sweep_id)
        table = tabulate(sweep, outcomes, preset=presets().get(sweep.preset or ""), wishes=wished)
    if format == "json":
        return Response(table.model_dump_json(), headers=headers, media_type=JSON)
    headers["Content-Disposition"] = f'inline; filename="{sweep_id}.{ENDINGS[format]}"'
    return Response(FORMATS[format](table), headers=headers, media_type=MEDIA_TYPES[format])


def headers_of(sweep: Sweep, request: Request) -> dict[str, str]:
    """With an entity tag of all that the answer depends on: how the sweep stands, what is asked, and this version."""
    asked = f"{request.url.path}?{request.url.query} {version('reinmax-service')}"
    digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return {"ETag": f'"{sweep.etag.strip(chr(34))}-{digest}"', "Cache-Control": "no-cache"}


@contextmanager
def refusing_what_does_not_fit(**names: str) -> Iterator[None]:
    """Turns a wish that cannot be fulfilled into a problem; `names` are those of parameters that differ here."""
    try:
        yield
    except Unfitting as unfitting:
        mistake = Mistake(parameter=names.get(unfitting.parameter, unfitting.parameter), message=str(unfitting))
        raise Problem(Kind.INVALID_REQUEST, mistake.message, mistakes=(mistake,)) from unfitting


def split(names: Names, parameter: str) -> tuple[str, ...] | None:
    """What is separated by commas, each once; None where the parameter was not given, nothing where it was empty.

    Raises:
        Unfitting: there are too many names.
    """
    if names is None:
        return None
    found = tuple(dict.fromkeys(name for part in names for name in part.split(",") if name))
    if len(found) > MOST_NAMES:
        message = f"{parameter} should name at most {MOST_NAMES}; found {len(found)}. Ask for the others separately"
        raise Unfitting(parameter, message)
    return found
