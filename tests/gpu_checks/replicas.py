"""Runs side by side: what a replica comes to beside others, and how long a step of ten takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

import torch

from reinmax_core import RunSpec
from reinmax_core.replicas import Replicas, trainers_of
from tests.gpu_checks.runs import SMALL, STEPS, settle

TOGETHER = 10
TASKS: dict[str, dict[str, object]] = {
    "polynomial": {"name": "polynomial"},
    "categorical_vae 8x4": {"name": "categorical_vae"},
    "categorical_vae 10x30": {"name": "categorical_vae", "categories": 10, "latents": 30},
}


def neighbours(device: str) -> str:
    """A replica ends at the same last bit beside any others, as long as they are as many."""
    for task in ({"name": "polynomial"}, {"name": "categorical_vae", **SMALL["categorical_vae"]}):
        one, other = (finished(task, seeds, device) for seeds in ((0, 1, 2), (3, 4, 0)))
        assert all(torch.equal(a, b) for a, b in zip(one[0], other[2], strict=True)), task["name"]
    return "bit-identical beside others"


def side_by_side(device: str) -> str:
    """Milliseconds a step of ten seeds, as a multiple of a step of one."""
    return "; ".join(ratio(name, task, device) for name, task in TASKS.items())


def ratio(name: str, task: dict[str, object], device: str) -> str:
    one, ten = (milliseconds(task, many, device) for many in (1, TOGETHER))
    return f"{name}: {ten:.2f} ms, {ten / one:.2f} times one, {TOGETHER * one / ten:.1f} times the throughput"


def milliseconds(task: dict[str, object], many: int, device: str) -> float:
    """Of a step of that many seeds."""
    steps = iter(Replicas(trainers_of(specs(task, range(many), 10**8), device=device)))
    # A processor, on which the check is only shown to be in order, takes long.
    measured = STEPS if device.startswith("cuda") else STEPS // 20
    for _ in islice(steps, many * measured // 10):
        pass
    settle(device)
    began = time.perf_counter()
    for _ in islice(steps, many * measured):
        pass
    settle(device)
    return (time.perf_counter() - began) / measured * 1e3


def finished(task: dict[str, object], seeds: Sequence[int], device: str) -> list[list[torch.Tensor]]:
    """The parameters of each replica after twenty steps."""
    replicas = Replicas(trainers_of(specs(task, seeds, 20), device=device))
    for _ in replicas:
        pass
    return [[parameter.detach().clone() for parameter in one.model.parameters()] for one in replicas.trainers]


def specs(task: dict[str, object], seeds: Sequence[int], steps: int) -> list[RunSpec]:
    intervals = {"steps": steps, "log_every": steps, "evaluate_every": steps}
    known = {"task": task, "estimator": "reinmax", **intervals}
    return [RunSpec.model_validate(known | {"seed": seed}) for seed in seeds]
