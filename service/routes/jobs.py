"""`/v1/jobs`: submit, list, look, wait, cancel, pause, resume, retry, delete."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.responses import Response

from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover
from service.answers import JobPage
from service.context import Context, Here
from service.protocol.examples import SUBMISSIONS
from service.protocol.holding import Known, Wait, held
from service.protocol.idempotency import fingerprint, key_in
from service.protocol.parameters import LABELS, JobId, labels_in, refuse_unknown_parameters
from service.protocol.problems import Kind, Problem, problems
from service.protocol.representation import JSON, NOT_MODIFIED, as_it_would_be, job_answer
from service.protocol.text import require_text
from worker.jobs import TERMINAL, Job, State
from worker.listing import Filters
from worker.retention import remove
from worker.submission import Submission

LARGEST_PAGE = 200
CHANGE_PROBLEMS = problems(Kind.CROSS_SITE, Kind.JOB_NOT_FOUND, Kind.INVALID_STATE, Kind.RECORD_UNREADABLE)

TaskName: TypeAlias = Literal[tuple(discover(Task))]  # type: ignore[valid-type]
EstimatorName: TypeAlias = Literal[tuple(discover(Estimator))]  # type: ignore[valid-type]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(refuse_unknown_parameters)])


async def require_json(request: Request) -> None:
    """Refuses bodies that are not declared as JSON, as pages of other sites can send them unasked, or are not text."""
    found = request.headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != JSON:
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"The header Content-Type should be {JSON}; found {found[:80]!r}.",
            headers={"Accept-Post": JSON},
        )
    await require_text(request)


@router.post(
    "",
    summary="Submit a job",
    operation_id="submitJob",
    status_code=202,
    response_model=Job,
    response_description="The job, accepted and safe; with `dry_run` the answer is 200 and nothing is queued.",
    dependencies=[Depends(require_json)],
    responses=problems(
        Kind.INVALID_JSON,
        Kind.INVALID_IDEMPOTENCY_KEY,
        Kind.CROSS_SITE,
        Kind.BODY_TOO_LARGE,
        Kind.UNSUPPORTED_MEDIA_TYPE,
        Kind.INVALID_REQUEST,
        Kind.IDEMPOTENCY_MISMATCH,
    ),
)
def submit_job(
    here: Here,
    request: Request,
    submission: Annotated[Submission, Body(openapi_examples=SUBMISSIONS)],
    dry_run: Annotated[
        bool, Query(description="Only validate: answers 200 with the job as it would be, every default filled in.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="For 24 hours, submissions that carry the same key make one job: repetitions are answered with "
            "that job and `Idempotency-Replayed: true`. A quoted string of up to 255 characters, or a bare word."
        ),
    ] = None,
) -> Response:
    """Queues a training job. It is trained by the next free worker whose hardware fits."""
    key = key_in(idempotency_key, request.state.caller)
    if dry_run:
        return job_answer(as_it_would_be(submission, here.store.workers()))
    submitted = here.store.submit(submission, idempotency_key=key, fingerprint=fingerprint(submission) if key else "")
    if not submitted.replayed:
        here.call_a_worker(submitted.job)
    response = job_answer(submitted.job, status=202)
    response.headers["Location"] = f"/v1/jobs/{submitted.job.id}"
    if submitted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get(
    "",
    summary="List jobs",
    operation_id="listJobs",
    response_model=JobPage,
    openapi_extra=LABELS,
    responses=problems(Kind.INVALID_CURSOR),
)
def list_jobs(
    here: Here,
    request: Request,
    status: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    task: Annotated[TaskName | None, Query(description="Only jobs of this task.")] = None,
    estimator: Annotated[EstimatorName | None, Query(description="Only jobs with this estimator.")] = None,
    sweep: Annotated[str | None, Query(max_length=100, description="Only jobs of this sweep.")] = None,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Jobs a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """The jobs that pass all filters, newest first, a page at a time."""
    filters = Filters(status=status, task=task, estimator=estimator, sweep=sweep, labels=labels_in(request))
    page = here.store.list(filters, limit, cursor)
    answer = JobPage(data=page.jobs, has_more=page.next_cursor is not None, next_cursor=page.next_cursor)
    response = Response(answer.model_dump_json(), media_type=JSON, headers={"Cache-Control": "no-cache"})
    if page.next_cursor:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        response.headers["Link"] = f'</v1/jobs?{urlencode([*query, ("cursor", page.next_cursor)])}>; rel="next"'
    return response


@router.get(
    "/{job_id}",
    summary="Get a job",
    operation_id="getJob",
    response_model=Job,
    responses=NOT_MODIFIED | problems(Kind.JOB_NOT_FOUND, Kind.RECORD_UNREADABLE),
)
async def get_job(
    here: Here,
    job_id: JobId,
    if_none_match: Known = None,
    wait: Wait = 0,
) -> Response:
    """The job as it stands, or as soon as it changes."""
    job = await held(here.changes, job_id, here.store.get, _has_ended, if_none_match, wait)
    return job_answer(job, known=if_none_match)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    operation_id="cancelJob",
    response_model=Job,
    response_description="The job, `cancelled`, or for a moment `starting` or `running` with a reason that says so.",
    responses=CHANGE_PROBLEMS,
)
def cancel_job(here: Here, job_id: JobId) -> Response:
    """Ends a job: at once while it is queued; a running one saves a checkpoint first. Repeating it changes nothing."""
    return job_answer(here.store.cancel(job_id))


@router.post(
    "/{job_id}/pause",
    summary="Pause a job",
    operation_id="pauseJob",
    response_model=Job,
    response_description="The job, `paused`, or for a moment `starting` or `running` with a reason that says so.",
    responses=CHANGE_PROBLEMS,
)
def pause_job(here: Here, job_id: JobId) -> Response:
    """Has a job train no more until it is resumed: a running one saves a checkpoint and frees its device.

    The attempt does not count. Repeating it changes nothing. Jobs that have ended, or are to be cancelled, stay.
    """
    return job_answer(here.store.pause(job_id))


@router.post(
    "/{job_id}/resume",
    summary="Resume a paused job",
    operation_id="resumeJob",
    response_model=Job,
    response_description="The job, `queued`, or still `starting` or `running` if it was not paused yet.",
    responses=CHANGE_PROBLEMS,
)
def resume_job(here: Here, job_id: JobId) -> Response:
    """Lets a paused job wait in its old place and go on from its checkpoint, to the same result as if never paused.

    A pause that its worker has not carried out yet is withdrawn. Any other job is left as it is, with a 409.
    """
    return _set_going(here, here.store.resume(job_id))


@router.post(
    "/{job_id}/retry",
    summary="Retry a job that failed or was cancelled",
    operation_id="retryJob",
    response_model=Job,
    response_description="The job, `queued` again.",
    responses=CHANGE_PROBLEMS,
)
def retry_job(here: Here, job_id: JobId) -> Response:
    """Lets a job that failed or was cancelled wait again, with all its attempts; it goes on from its checkpoint.

    Any other job is left as it is, with a 409: also one that was retried a moment ago.
    """
    return _set_going(here, here.store.retry(job_id))


@router.delete(
    "/{job_id}",
    summary="Delete a job",
    operation_id="deleteJob",
    status_code=204,
    responses=CHANGE_PROBLEMS,
)
def delete_job(here: Here, job_id: JobId) -> Response:
    """Removes a job that has ended, with its metrics, log and artefacts."""
    remove(here.store, here.artifacts, job_id)
    return Response(status_code=204)


def _has_ended(job: Job) -> bool:
    return job.status in TERMINAL


def _set_going(here: Context, job: Job) -> Response:
    if job.status is State.QUEUED:
        here.call_a_worker(job)
    return job_answer(job)
