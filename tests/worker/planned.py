"""Sweeps to be submitted, and their jobs."""

from __future__ import annotations

from typing import Any

from worker.sweep import Sweep
from worker.sweep_plan import Plan
from worker.sweep_request import SweepRequest
from worker.sweeps import SweepStore

BASE = {"task": "polynomial", "estimator": "reinmax", "steps": 100, "labels": {"study": "a"}}
TAUS = {"tau": [1.0, 1.5, 2.0]}


def plan(**fields: Any) -> Plan:
    """Three temperatures with two seeds each, unless `fields` say otherwise."""
    return SweepRequest.model_validate({"base": BASE, "grid": TAUS, "seeds": 2} | fields).plan()


def ids(sweeps: SweepStore, sweep: Sweep) -> list[str]:
    """Of its jobs, in order."""
    return list(sweeps.jobs(sweep.id))
