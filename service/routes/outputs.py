"""`/v1/jobs/{id}/...`: what a job leaves behind: metrics, log and artefacts."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from service import curves
from service.answers import Curves, Listing
from service.context import Here
from service.protocol.delivery import Wish, file_answer
from service.protocol.parameters import JobId, refuse_unknown_parameters
from service.protocol.problems import Kind, problems
from service.protocol.representation import JSON, NOT_MODIFIED
from worker.jobs import Artifact

FEWEST_POINTS, MOST_POINTS = 4, 100_000

router = APIRouter(
    prefix="/v1/jobs/{job_id}",
    tags=["outputs"],
    dependencies=[Depends(refuse_unknown_parameters)],
    responses=problems(Kind.JOB_NOT_FOUND),
)


@router.get("/metrics", summary="Get the metrics", operation_id="getMetrics", response_model=Curves)
def get_metrics(
    here: Here,
    job_id: JobId,
    series: Annotated[
        list[str] | None,
        Query(description="Only these series: names separated by commas, or several of this parameter."),
    ] = None,
    max_points: Annotated[
        int | None,
        Query(
            ge=FEWEST_POINTS,
            le=MOST_POINTS,
            description="Points a series at most: the first and the last are kept, and the extremes in between.",
        ),
    ] = None,
    format: Annotated[
        Literal["json", "csv"], Query(description="`json`, or `csv`: a table with a column for `step` and each series.")
    ] = "json",
) -> Response:
    """Every metric over the steps of the run, without gap or repeat, however many attempts the job took."""
    wanted = {name for names in series or () for name in names.split(",")}
    found = {name: curve for name, curve in here.store.metrics(job_id).items() if name in wanted or not wanted}
    if max_points is not None:
        found = {name: curves.thinned(curve, max_points) for name, curve in found.items()}
    headers = {"Cache-Control": "no-cache"}
    if format == "json":
        return Response(curves.as_json(found), headers=headers, media_type=JSON)
    headers["Content-Disposition"] = f'attachment; filename="{job_id}.csv"'
    return Response(curves.as_csv(found), headers=headers, media_type="text/csv; charset=utf-8; header=present")


@router.get("/logs", summary="Get the log", operation_id="getLogs", response_class=PlainTextResponse)
def get_logs(here: Here, job_id: JobId) -> Response:
    """What the training processes of the job wrote to standard output and error, as text."""
    return PlainTextResponse(here.store.logs(job_id), headers={"Cache-Control": "no-cache"})


@router.get("/artifacts", summary="List the artefacts", operation_id="listArtifacts", response_model=Listing[Artifact])
def list_artifacts(here: Here, job_id: JobId) -> Response:
    """The files that the job has left, with size and checksum."""
    answer = Listing[Artifact](data=here.store.artifacts(job_id))
    return Response(answer.model_dump_json(), headers={"Cache-Control": "no-cache"}, media_type=JSON)


@router.get(
    "/artifacts/{name:path}",
    summary="Download an artefact",
    operation_id="getArtifact",
    response_class=StreamingResponse,
    responses=NOT_MODIFIED
    | {206: {"description": "The range of bytes that was asked for."}}
    | problems(Kind.JOB_NOT_FOUND, Kind.ARTIFACT_NOT_FOUND, Kind.RANGE_NOT_SATISFIABLE),
)
def get_artifact(
    here: Here,
    request: Request,
    job_id: JobId,
    name: Annotated[str, Path(description="The artefact's `name`.", examples=["model.safetensors"])],
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes, `bytes=0-1023`.")] = None,
    if_range: Annotated[str | None, Header(description="Heed `Range` only if the file has this entity tag.")] = None,
    if_none_match: Annotated[str | None, Header(description="Entity tags: answers 304 if the file has one.")] = None,
) -> Response:
    """The bytes of the file, or a range of them. `Repr-Digest` holds the SHA-256 of the whole (RFC 9530)."""
    path = here.store.locate(job_id, name)
    artifact = next(artifact for artifact in here.store.artifacts(job_id) if artifact.name == name)
    wish = Wish(range_, if_range, if_none_match, "bodiless" in request.scope)
    return file_answer(artifact, partial(here.artifacts.pieces, path), wish)
