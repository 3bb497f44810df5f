"""`/v1/sweeps`: submit, list, look, wait, cancel, retry, extend, delete."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.responses import Response

from reinmax_core.presets import presets
from service.answers import SweepPage, SweepPreview
from service.context import Context, Here
from service.protocol.examples import EXTENSIONS, SWEEPS
from service.protocol.holding import Known, Wait, held
from service.protocol.idempotency import fingerprint, key_in
from service.protocol.parameters import SweepId, refuse_unknown_parameters
from service.protocol.problems import Kind, problems
from service.protocol.representation import JSON, NOT_MODIFIED
from service.protocol.sweep_answers import as_it_would_be, sweep_answer
from service.routes.jobs import LARGEST_PAGE, require_json
from worker.refusal import SweepNotFound
from worker.retention import remove_sweep
from worker.sweep import ENDED, Sweep
from worker.sweep_estimate import estimate
from worker.sweep_grid import InvalidSweep
from worker.sweep_plan import Plan, flaws_of_seeds, seeds_of
from worker.sweep_preset import check_data, resolved
from worker.sweep_request import Extension, SweepRequest
from worker.sweeps import Changed

DELETING_S: Final = 10.0
"""A request that removes a sweep is answered after so long, whether all of its jobs are gone or not."""

SUBMISSION_PROBLEMS: Final = problems(
    Kind.INVALID_JSON,
    Kind.INVALID_IDEMPOTENCY_KEY,
    Kind.CROSS_SITE,
    Kind.BODY_TOO_LARGE,
    Kind.UNSUPPORTED_MEDIA_TYPE,
    Kind.INVALID_REQUEST,
    Kind.DATA_MISSING,
    Kind.IDEMPOTENCY_MISMATCH,
)
CHANGE_PROBLEMS: Final = problems(Kind.CROSS_SITE, Kind.SWEEP_NOT_FOUND, Kind.INVALID_STATE, Kind.RECORD_UNREADABLE)

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], dependencies=[Depends(refuse_unknown_parameters)])


@router.post(
    "",
    summary="Submit a sweep",
    operation_id="submitSweep",
    status_code=202,
    response_model=Sweep,
    response_description="The sweep, accepted and safe with all of its jobs.",
    dependencies=[Depends(require_json)],
    responses=SUBMISSION_PROBLEMS
    | {200: {"model": SweepPreview, "description": "With `dry_run`: what the sweep would be; nothing is queued."}},
)
def submit_sweep(
    here: Here,
    request: Request,
    sweep: Annotated[SweepRequest, Body(openapi_examples=SWEEPS)],
    dry_run: Annotated[
        bool,
        Query(description="Only validate: answers 200 with the number of jobs, the first cells and the time it takes."),
    ] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="For 24 hours, submissions that carry the same key make one sweep: repetitions are answered "
            "with it and `Idempotency-Replayed: true`. A quoted string of up to 255 characters, or a bare word."
        ),
    ] = None,
) -> Response:
    """Queues a job for each cell of a grid and each seed: all of them, or none if one cell is invalid."""
    key = key_in(idempotency_key, request.state.caller)
    plan = _plan(here, sweep)
    if dry_run:
        return Response(as_it_would_be(plan, estimate(here.store, plan)).model_dump_json(), media_type=JSON)
    digest = fingerprint(plan.request) if key else ""
    changed = here.sweeps.submit(plan, idempotency_key=key, fingerprint=digest)
    response = _set_going(here, changed, status=202)
    response.headers["Location"] = f"/v1/sweeps/{changed.sweep.id}"
    if changed.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get(
    "",
    summary="List sweeps",
    operation_id="listSweeps",
    response_model=SweepPage,
    responses=problems(Kind.INVALID_CURSOR),
)
def list_sweeps(
    here: Here,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Sweeps a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """The sweeps, newest first, a page at a time. Their jobs are listed by `/v1/jobs?sweep=ID`."""
    page = here.sweeps.list(limit, cursor)
    answer = SweepPage(data=page.sweeps, has_more=page.next_cursor is not None, next_cursor=page.next_cursor)
    response = Response(answer.model_dump_json(), media_type=JSON, headers={"Cache-Control": "no-cache"})
    if page.next_cursor:
        response.headers["Link"] = f'</v1/sweeps?limit={limit}&cursor={page.next_cursor}>; rel="next"'
    return response


@router.get(
    "/{sweep_id}",
    summary="Get a sweep",
    operation_id="getSweep",
    response_model=Sweep,
    responses=NOT_MODIFIED | problems(Kind.SWEEP_NOT_FOUND, Kind.RECORD_UNREADABLE),
)
async def get_sweep(here: Here, sweep_id: SweepId, if_none_match: Known = None, wait: Wait = 0) -> Response:
    """The sweep as it stands, or as soon as one of its jobs is in another state."""
    sweep = await held(here.changes, sweep_id, here.sweeps.get, _has_ended, if_none_match, wait)
    return sweep_answer(sweep, known=if_none_match)


@router.post(
    "/{sweep_id}/cancel",
    summary="Cancel a sweep",
    operation_id="cancelSweep",
    response_model=Sweep,
    response_description="The sweep; jobs that run save a checkpoint first.",
    responses=CHANGE_PROBLEMS,
)
def cancel_sweep(here: Here, sweep_id: SweepId) -> Response:
    """Ends all of its jobs that have not ended. Repeating it changes nothing."""
    return sweep_answer(here.sweeps.cancel(sweep_id))


@router.post(
    "/{sweep_id}/retry",
    summary="Retry what failed or was cancelled",
    operation_id="retrySweep",
    response_model=Sweep,
    response_description="The sweep, with those jobs `queued` again.",
    responses=CHANGE_PROBLEMS,
)
def retry_sweep(here: Here, sweep_id: SweepId) -> Response:
    """Lets its jobs that failed or were cancelled wait again, with all their attempts, from their checkpoints.

    The others stay as they are, so repeating it changes nothing.
    """
    return _set_going(here, here.sweeps.retry(sweep_id))


@router.post(
    "/{sweep_id}/extend",
    summary="Extend a sweep with more seeds",
    operation_id="extendSweep",
    response_model=Sweep,
    response_description="The sweep, with the new jobs.",
    dependencies=[Depends(require_json)],
    responses=CHANGE_PROBLEMS
    | problems(Kind.INVALID_JSON, Kind.BODY_TOO_LARGE, Kind.UNSUPPORTED_MEDIA_TYPE, Kind.INVALID_REQUEST),
)
def extend_sweep(
    here: Here, sweep_id: SweepId, extension: Annotated[Extension, Body(openapi_examples=EXTENSIONS)]
) -> Response:
    """Gives every cell a job for each seed that it has not yet, or no more, so repeating it changes nothing."""
    seeds = seeds_of(extension.seeds)
    if flaws := list(flaws_of_seeds(seeds)):
        raise InvalidSweep(flaws)
    changed = here.sweeps.extend(sweep_id, seeds, here.sweep_limit)
    return _set_going(here, changed)


@router.delete(
    "/{sweep_id}",
    summary="Delete a sweep",
    operation_id="deleteSweep",
    status_code=204,
    responses=CHANGE_PROBLEMS
    | {202: {"model": Sweep, "description": "The sweep with the jobs that are left: send the request again."}},
)
def delete_sweep(here: Here, sweep_id: SweepId) -> Response:
    """Removes a sweep whose jobs have all ended, with them and all that they have left.

    That takes a while for thousands of jobs: after some seconds the answer is 202, and the request is to be repeated.
    """
    if not remove_sweep(here.sweeps, here.artifacts, sweep_id, DELETING_S):
        # The last of them may have been the last of all.
        with suppress(SweepNotFound):
            return sweep_answer(here.sweeps.get(sweep_id), status=202)
    return Response(status_code=204)


def _plan(here: Context, request: SweepRequest) -> Plan:
    """What is asked for, once it is known to fit.

    Raises:
        InvalidSweep: something does not fit.
        DataMissing: it is a preset whose data is not at hand.
    """
    plan = resolved(request, presets() if request.preset is not None else {}).plan(here.sweep_limit)
    check_data(plan, here.data)
    return plan


def _has_ended(sweep: Sweep) -> bool:
    return sweep.status in ENDED


def _set_going(here: Context, changed: Changed, *, status: int = 200) -> Response:
    here.call_workers(changed.calls)
    return sweep_answer(changed.sweep, status=status)
