"""A sweep as an HTTP answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fastapi.responses import Response

from service.answers import CellPreview, SweepPreview
from service.protocol.conditional import matches
from service.protocol.representation import JSON
from worker.sweep import ENDED, Sweep
from worker.sweep_estimate import Estimate
from worker.sweep_plan import Plan

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1, 60
SHOWN: Final = 5
"""So many of the cells does a preview show."""


def sweep_answer(sweep: Sweep, *, status: int = 200, known: str | None = None) -> Response:
    """The sweep with its entity tag, and while it is under way the time after which to ask again.

    Args:
        sweep: what is answered.
        status: the HTTP status.
        known: the `If-None-Match` header; a sweep that it names is not sent again.
    """
    headers = {"ETag": sweep.etag, "Cache-Control": "no-cache"}
    if sweep.status not in ENDED:
        age_s = (datetime.now(UTC) - sweep.created_at).total_seconds()
        headers["Retry-After"] = str(min(max(int(age_s / 10), SHORTEST_PAUSE_S), LONGEST_PAUSE_S))
    if matches(known, sweep.etag):
        return Response(status_code=304, headers=headers)
    return Response(sweep.model_dump_json(), status, headers, JSON)


def as_it_would_be(plan: Plan, estimate: Estimate) -> SweepPreview:
    """What the sweep would be that the plan describes."""
    return SweepPreview(
        cells=plan.jobs // len(plan.seeds),
        seeds=plan.seeds,
        jobs=plan.jobs,
        steps=sum(job.steps * count for job, count in plan.kinds),
        estimated_s=estimate.seconds,
        estimate=estimate.basis,
        axes=plan.axes,
        select=plan.select,
        first=tuple(
            CellPreview(coordinates=dict(cell.coordinates), spec=cell.submission.run_spec())
            for cell in plan.cells[:SHOWN]
        ),
        request=plan.request.written,
    )
