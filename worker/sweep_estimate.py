"""How long a sweep will take, judged by jobs of its kinds that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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


def estimate(store: JobStore, plan: Plan) -> Estimate:
    """Looks at a few jobs that have succeeded for each task and estimator of the plan, and at the living workers.

    Raises:
        StoreUnavailable: the server of the store does not serve.
    """
    steps = _steps(plan)
    known = {kind: _seconds_a_step(store, kind, plan) for kind in steps}
    unknown = [kind for kind, seconds in known.items() if seconds is None]
    if unknown:
        return Estimate(None, _nothing_known(unknown))
    work_s = sum(count * (known[kind] or 0.0) for kind, count in steps.items())
    workers = _fitting(store.workers(), plan)
    return Estimate(round(work_s / max(1, workers), 1), _basis(workers))


def _steps(plan: Plan) -> Mapping[Kind, int]:
    steps: Counter[Kind] = Counter()
    for job, count in plan.kinds:
        steps[job.task.name, job.estimator.name] += job.steps * count
    return steps


def _seconds_a_step(store: JobStore, kind: Kind, plan: Plan) -> float | None:
    filters = Filters(status=State.SUCCEEDED.value, task=kind[0], estimator=kind[1])
    jobs = store.list(filters, LOOKED_AT).jobs
    tasks = [job.task for job, _ in plan.kinds]
    # Those of the same size tell more, where there are any.
    alike = [job for job in jobs if job.spec.task in tasks]
    rates = [job.result.wall_time_s / job.spec.steps for job in alike or jobs if job.result]
    return median(rates) if rates else None


def _fitting(workers: Sequence[WorkerRecord], plan: Plan) -> int:
    needs = {job.hardware.model_dump_json(): job.hardware for job, _ in plan.kinds}
    return sum(any(worker.fits(needed) for needed in needs.values()) for worker in workers)


def _nothing_known(unknown: Sequence[Kind]) -> str:
    kinds = " or ".join(f"{task} with {estimator}" for task, estimator in unknown[:NAMED])
    others = f" and {len(unknown) - NAMED} others" if len(unknown) > NAMED else ""
    return f"no job of {kinds}{others} has succeeded here yet, so nothing is known of the time that it takes"


def _basis(workers: int) -> str:
    machines = (
        "no worker is alive that fits, so as on one" if not workers else f"on {workers} worker{'s'[: workers - 1]}"
    )
    return (
        f"the median time of a step in the latest jobs with the same task and estimator, {machines}; "
        "it takes less where jobs are trained side by side"
    )
