"""The HTTP face of the job store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from reinmax_core.data.base import DataSource
from service.census import Census
from service.context import Context, Wake
from service.events import Changes
from service.protocol.guard import Guard, required_keys
from service.protocol.mistakes import answer_validation_error
from service.protocol.openapi import DESCRIPTION, describe
from service.protocol.problems import Problem, answer_http_exception, answer_problem
from service.protocol.refusals import PROBLEMS, answer_refusal
from service.protocol.traffic import Traffic, TrafficMetrics
from service.routes import catalogue, health, jobs, outputs, pages, plots, sweeps, tables
from worker.artifacts import ArtifactStore
from worker.settings import Settings
from worker.store import JobStore
from worker.sweeps import SweepStore


def create_app(settings: Settings, *, redis_url: str, wake: Wake) -> FastAPI:
    """The application.

    Args:
        settings: of its address, keys, data and artefacts.
        redis_url: the server of the job store, which need not be up yet.
        wake: tells the workers of a new job; it may fail, which only delays the job.

    Raises:
        ArtifactStoreUnusable: the URL of the artefacts names a kind of place that this installation cannot reach.
        KeysMissing: `settings` let others reach the service, without an API key.
    """
    store = JobStore.connect(redis_url)
    registry = CollectorRegistry()
    registry.register(Census(store))
    app = FastAPI(
        title="ReinMax training service",
        summary="Train neural networks with discrete choices inside, over HTTP.",
        description=DESCRIPTION,
        version=version("reinmax-service"),
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        middleware=[
            Middleware(Traffic, metrics=TrafficMetrics(registry)),
            Middleware(Guard, keys=required_keys(settings)),
        ],
        exception_handlers={
            Problem: answer_problem,
            HTTPException: answer_http_exception,
            RequestValidationError: answer_validation_error,
            **dict.fromkeys(PROBLEMS, answer_refusal),
        },
    )
    for routes in (jobs, sweeps, tables, outputs, plots, catalogue, health, pages):
        app.include_router(routes.router)
    app.openapi = partial(_described_once, app)  # type: ignore[method-assign]
    app.state.registry = registry
    app.state.context = Context(
        store=store,
        sweeps=SweepStore(store),
        artifacts=ArtifactStore(settings.artifacts_url),
        changes=Changes(redis_url, store.changes),
        sweep_limit=settings.sweep_limit,
        data=DataSource(directory=settings.data_dir, mirrors=settings.data_mirror),
        wake=wake,
    )
    return app


def _described_once(app: FastAPI) -> dict[str, object]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    reader = asyncio.create_task(context.changes.read())
    yield
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader
    context.store.keyspace.close()
