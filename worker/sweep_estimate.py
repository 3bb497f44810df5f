"""How long a sweep will take, judged by jobs of its kinds that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

from worker.jobs import State, WorkerRecord
from worker.listing import Filters
from worker.store import JobStore
from worker.sweep_plan import Plan

LOOKED_AT: Final = 9
"""So many of the latest jobs of a kind are looked at."""
NAMED: Final = 3

Kind: TypeAlias = tuple[str, str]
"""Names of task and estimator."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a sweep will take."""

    seconds: float | None
    """None where nothing is known of some of its jobs."""
    basis: str
    """What that rests on, in a sentence."""


@dataclass(frozen=True, slots=True)
class _Pace:
    seconds_a_step: float
    is_of_same_size: bool
    """Whether it is that of a task with the same settings."""


def estimate(store: JobStore, plan: Plan) -> Estimate:
    """Looks at a few jobs that have succeeded for each task and estimator of the plan, and at the living workers.

    Raises:
        StoreUnavailable: the server of the store does not serve.
    """
    steps = _steps(plan)
    tasks = {job.task.model_dump_json() for job, _ in plan.kinds}
    known = {kind: _pace(store, kind, tasks) for kind in steps}
    unknown = [kind for kind, pace in known.items() if pace is None]
    if unknown:
        return Estimate(None, _nothing_known(unknown))
    paces = {kind: pace for kind, pace in known.items() if pace}
    work_s = sum(count * paces[kind].seconds_a_step for kind, count in steps.items())
    workers = _fitting(store.workers(), plan)
    basis = _basis(workers, all(pace.is_of_same_size for pace in paces.values()))
    return Estimate(round(work_s / max(1, workers), 1), basis)


def _steps(plan: Plan) -> Mapping[Kind, int]:
    steps: Counter[Kind] = Counter()
    for job, count in plan.kinds:
        steps[job.task.name, job.estimator.name] += job.steps * count
    return steps


def _pace(store: JobStore, kind: Kind, tasks: Collection[str]) -> _Pace | None:
    """The median of the latest jobs of that kind, if there are any: of those with one of the tasks, else of all."""
    filters = Filters(status=State.SUCCEEDED.value, task=kind[0], estimator=kind[1])
    jobs = store.list(filters, LOOKED_AT).jobs
    alike = [job for job in jobs if job.spec.task.model_dump_json() in tasks]
    paces = [job.result.wall_time_s / job.spec.steps for job in alike or jobs if job.result]
    return _Pace(median(paces), bool(alike)) if paces else None


def _fitting(workers: Sequence[WorkerRecord], plan: Plan) -> int:
    needs = {job.hardware.model_dump_json(): job.hardware for job, _ in plan.kinds}
    return sum(any(worker.fits(needed) for needed in needs.values()) for worker in workers)


def _nothing_known(unknown: Sequence[Kind]) -> str:
    kinds = " or ".join(f"{task} with {estimator}" for task, estimator in unknown[:NAMED])
    others = f" and {len(unknown) - NAMED} others" if len(unknown) > NAMED else ""
    return f"no job of {kinds}{others} has succeeded here yet, so nothing is known of the time that it takes"


def _basis(workers: int, is_of_same_size: bool) -> str:
    machines = f"on {workers} worker{'s'[: workers - 1]}" if workers else "as on one worker, as none is alive that fits"
    sizes = "" if is_of_same_size else ", some of them with other settings of the task,"
    return (
        f"the median time of a step in the latest jobs with the same task and estimator{sizes} {machines}; "
        "it takes less where jobs are trained side by side"
    )
