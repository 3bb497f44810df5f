"""`/v1/estimators`, `/v1/tasks`, `/v1/datasets`, `/v1/presets`, `/v1/workers`: what exists."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service import catalogue
from service.answers import Listing
from service.catalogue import DataSetEntry, EstimatorEntry, PresetEntry, TaskEntry
from service.context import Here
from service.protocol.parameters import refuse_unknown_parameters
from service.protocol.problems import problems
from worker.jobs import WorkerRecord

router = APIRouter(
    prefix="/v1", tags=["catalogue"], dependencies=[Depends(refuse_unknown_parameters)], responses=problems()
)


@router.get("/estimators", summary="List the estimators", operation_id="listEstimators")
def list_estimators() -> Listing[EstimatorEntry]:
    """The gradient estimators that a job may name, with their settings and sources."""
    return Listing(data=catalogue.estimators())


@router.get("/tasks", summary="List the tasks", operation_id="listTasks")
def list_tasks() -> Listing[TaskEntry]:
    """The training tasks that a job may name, with their settings, sources and published recommendations."""
    return Listing(data=catalogue.tasks())


@router.get("/datasets", summary="List the data sets", operation_id="listDatasets")
def list_datasets(here: Here) -> Listing[DataSetEntry]:
    """The data sets that tasks read, with files, checksums and licence, and whether they are at hand."""
    return Listing(data=catalogue.datasets(here.data))


@router.get("/presets", summary="List the presets", operation_id="listPresets")
def list_presets(here: Here) -> Listing[PresetEntry]:
    """The published tables and figures that a sweep may name, with their numbers, and whether their data is at hand."""
    return Listing(data=catalogue.published_sweeps(here.data))


@router.get("/workers", summary="List the workers", operation_id="listWorkers")
def list_workers(here: Here) -> Listing[WorkerRecord]:
    """The workers that are alive, with their hardware, load, job and time since the last sign of life."""
    return Listing(data=here.store.workers())
