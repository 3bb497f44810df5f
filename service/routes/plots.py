"""`/v1/sweeps/{id}/plot.svg` and `.png`, and those of jobs: what training has come to, drawn."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from reinmax_core.presets import presets
from service.context import Context, Here
from service.plots.drawing import Format
from service.plots.of_curves import curves, curves_of_job
from service.plots.of_table import bars, lines, wishes_over
from service.protocol.conditional import matches
from service.protocol.holding import Known
from service.protocol.parameters import JobId, SweepId, refuse_unknown_parameters
from service.protocol.problems import Kind, problems
from service.protocol.representation import NOT_MODIFIED
from service.routes.tables import Names, Wished, headers_of, refusing_what_does_not_fit, split
from service.tables.labels import Labels, one_line
from service.tables.layout import Unfitting
from service.tables.tabulation import tabulate
from worker.sweep import ENDED, Sweep

IMAGES: Final[dict[Format, str]] = {"svg": "image/svg+xml", "png": "image/png"}

BINARY: Final = {"type": "string", "format": "binary"}
Described: TypeAlias = dict[int | str, dict[str, Any]]
PlotKind: TypeAlias = Literal["bars", "line", "curves"]
SWEEP: Final = "/sweeps/{sweep_id}"
JOB: Final = "/jobs/{job_id}"
OF_SWEEP: Final = NOT_MODIFIED | problems(Kind.SWEEP_NOT_FOUND)
OF_JOB: Final = problems(Kind.JOB_NOT_FOUND, Kind.RECORD_UNREADABLE)

SVG: Final[Described] = {200: {"description": "The image.", "content": {IMAGES["svg"]: {"schema": {"type": "string"}}}}}
PNG: Final[Described] = {200: {"description": "The image.", "content": {IMAGES["png"]: {"schema": BINARY}}}}

router = APIRouter(prefix="/v1", dependencies=[Depends(refuse_unknown_parameters)], default_response_class=Response)


class Drawing:
    """What the query says of a plot of a sweep."""

    def __init__(
        self,
        wished: Wished,
        kind: Annotated[
            PlotKind,
            Query(
                description="`bars`: final values beside what was published. `line`: final values over a numeric axis. "
                "`curves`: a series over the steps of training, whose name `metric` may give."
            ),
        ] = "bars",
        x: Annotated[
            str | None,
            Query(
                description="Path of the axis that a `line` is drawn over; by default the temperature, else the first."
            ),
        ] = None,
    ) -> None:
        self.wished, self.kind, self.x = wished, kind, x


Drawn: TypeAlias = Annotated[Drawing, Depends(Drawing)]


@router.get(
    f"{SWEEP}/plot.svg",
    summary="Get a plot of a sweep as SVG",
    operation_id="getPlotSvg",
    tags=["sweeps"],
    responses=OF_SWEEP | SVG,
)
def get_svg(here: Here, request: Request, sweep_id: SweepId, drawn: Drawn, if_none_match: Known = None) -> Response:
    """Means with their spread over seeds, the published values beside them; see `kind`."""
    return _plot(here, request, sweep_id, drawn, "svg", if_none_match)


@router.get(
    f"{SWEEP}/plot.png",
    summary="Get a plot of a sweep as PNG",
    operation_id="getPlotPng",
    tags=["sweeps"],
    responses=OF_SWEEP | PNG,
)
def get_png(here: Here, request: Request, sweep_id: SweepId, drawn: Drawn, if_none_match: Known = None) -> Response:
    """Means with their spread over seeds, the published values beside them; see `kind`."""
    return _plot(here, request, sweep_id, drawn, "png", if_none_match)


Series: TypeAlias = Annotated[
    Names, Query(description="Only these series: names separated by commas, or several of this parameter.")
]


@router.get(
    f"{JOB}/plot.svg",
    summary="Get the curves as SVG",
    operation_id="getCurvesSvg",
    tags=["outputs"],
    responses=OF_JOB | SVG,
)
def get_job_svg(here: Here, job_id: JobId, series: Series = None) -> Response:
    """The metrics over the steps of the run, drawn: a panel a quantity."""
    return _job_plot(here, job_id, series, "svg")


@router.get(
    f"{JOB}/plot.png",
    summary="Get the curves as PNG",
    operation_id="getCurvesPng",
    tags=["outputs"],
    responses=OF_JOB | PNG,
)
def get_job_png(here: Here, job_id: JobId, series: Series = None) -> Response:
    """The metrics over the steps of the run, drawn: a panel a quantity."""
    return _job_plot(here, job_id, series, "png")


def _plot(here: Context, request: Request, sweep_id: str, drawn: Drawing, form: Format, known: str | None) -> Response:
    sweep = here.sweeps.get(sweep_id)
    headers = headers_of(sweep, request)
    # Curves grow without a change of the sweep.
    if drawn.kind == "curves" and sweep.status not in ENDED:
        del headers["ETag"]
    elif matches(known, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    with refusing_what_does_not_fit():
        image = _draw(here, sweep, drawn, form)
    return Response(image, headers=headers, media_type=IMAGES[form])


def _draw(here: Context, sweep: Sweep, drawn: Drawing, form: Format) -> bytes:
    wished, preset = drawn.wished, presets().get(sweep.preset or "")
    if drawn.x is not None and drawn.kind != "line":
        raise Unfitting("x", f"x is for kind=line; with kind={drawn.kind} leave it out")
    if wished.baseline is not None:
        raise Unfitting("baseline", "differences to a baseline stand in the table, not in plots; leave it out")
    outcomes = here.sweeps.outcomes(sweep.id)
    if drawn.kind == "bars":
        return bars(tabulate(sweep, outcomes, preset=preset, wishes=wished)).rendered(form)
    if drawn.kind == "line":
        over, x = wishes_over(sweep, preset, wished, drawn.x)
        return lines(tabulate(sweep, outcomes, preset=preset, wishes=over), x, Labels(sweep.axes)).rendered(form)
    series = wished.metrics[0] if wished.metrics else None
    table = tabulate(sweep, outcomes, preset=preset, wishes=wished.without_metrics())
    return curves(table, outcomes, here.store.metrics, series).rendered(form)


def _job_plot(here: Context, job_id: str, series: Names, form: Format) -> Response:
    job = here.store.get(job_id)
    name = one_line(job.name or "") or f"{job.spec.task.name} · {job.spec.estimator.name}"
    with refusing_what_does_not_fit(metric="series"):
        wanted = split(series, "series") or ()
        image = curves_of_job(f"{name} · seed {job.spec.seed}", here.store.metrics(job_id), wanted).rendered(form)
    return Response(image, headers={"Cache-Control": "no-cache"}, media_type=IMAGES[form])
