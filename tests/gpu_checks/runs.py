"""Training runs: every pair of a task and an estimator, resumption, and speed."""

from __future__ import annotations

import time
from itertools import islice

import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.checkpoint import encode, restore
from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover

STEPS = 200
SMALL = {
    "architecture_search": {"dataset": "cifar10_prefix", "cells": 1, "channels": 4, "batch": 8},
    "bernoulli_vae": {"latents": 8, "bound_samples": 2, "bound_images": 10, "gradient_batches": 2},
    "polynomial": {"latents": 8},
    "categorical_vae": {"categories": 3, "latents": 2, "bound_samples": 2, "bound_images": 10},
    "gradient_quality": {"categories": 3, "latents": 2, "images": 4, "draws": 20},
    "listops": {"tokens": "words", "embedding": 6, "hidden": 6},
}


def training(device: str) -> str:
    """Every task with every estimator that it accepts: three steps and an evaluation."""
    pairs = 0
    for task, task_class in discover(Task).items():
        for estimator, estimator_class in discover(Estimator).items():
            if task_class().objection(estimator_class()) is None:
                finished(spec(task, estimator, steps=3), device)
                pairs += 1
    return f"{pairs} pairs"


def resumption(device: str) -> str:
    """A resumed run ends like an undisturbed one, to the last bit."""
    equal = []
    for task in SMALL:
        run = spec(task, "reinmax", steps=20)
        stopped, resumed = Trainer(run, device=device), Trainer(run, device=device)
        for _ in islice(stopped, 9):
            pass
        restore(resumed, encode(stopped))
        for _ in resumed:
            pass
        pairs = zip(finished(run, device).model.parameters(), resumed.model.parameters(), strict=True)
        equal.append(all(torch.equal(a, b) for a, b in pairs))
    assert all(equal), dict(zip(SMALL, equal, strict=True))
    return f"bit-identical: {', '.join(SMALL)}"


def speed(device: str) -> str:
    """Steps a second of the benchmark sizes, and peak memory."""
    sizes = {
        "polynomial": {"name": "polynomial", "batch": 256},
        "categorical_vae": {"name": "categorical_vae", "categories": 10, "latents": 30},
    }
    return "; ".join(f"{name} {rate(task, device):.0f} steps/s" for name, task in sizes.items()) + peak(device)


def rate(task: dict[str, object], device: str) -> float:
    run = {"task": task, "estimator": "reinmax", "steps": 10**8, "log_every": 10**8, "evaluate_every": 10**8}
    steps = iter(Trainer(RunSpec.model_validate(run), device=device))
    for _ in islice(steps, STEPS // 10):
        pass
    settle(device)
    began = time.perf_counter()
    for _ in islice(steps, STEPS):
        pass
    settle(device)
    return STEPS / (time.perf_counter() - began)


def spec(task: str, estimator: str, *, steps: int) -> RunSpec:
    """With few evaluations, as each is of all test images."""
    run = {"estimator": estimator, "steps": steps, "evaluate_every": min(steps, 10)}
    return RunSpec.model_validate(run | {"task": {"name": task, **SMALL.get(task, {})}})


def finished(run: RunSpec, device: str) -> Trainer:
    trainer = Trainer(run, device=device)
    for _ in trainer:
        pass
    return trainer


def settle(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak(device: str) -> str:
    return f"; peak {torch.cuda.max_memory_allocated() / 1e6:.0f} MB" if device.startswith("cuda") else ""
