"""`/livez`, `/readyz`, `/metrics`: for whoever runs the service."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.answers import Health
from service.context import Here
from service.protocol.problems import Kind, problems, unavailable

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?", operation_id="getLiveness", response_model=Health)
async def get_liveness() -> Health:
    """Answers as long as the process does, whatever the state of the store."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Can jobs be accepted?",
    operation_id="getReadiness",
    response_model=Health,
    responses=problems(Kind.NOT_READY),
)
def get_readiness(here: Here) -> Health:
    """Answers 200 if the store is reachable and keeps jobs safely; otherwise the problem says what to change."""
    if shortcomings := here.store.keyspace.shortcomings():
        raise unavailable(" ".join(shortcomings), Kind.NOT_READY)
    return Health(status="ok")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    operation_id="getPrometheusMetrics",
    response_class=PlainTextResponse,
    responses=problems(),
)
def get_prometheus_metrics(request: Request) -> Response:
    """Jobs by state, workers, requests and their latencies, in the Prometheus text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
