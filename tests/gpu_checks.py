"""All that has to be looked at on a GPU, in one run with a report: python -m tests.gpu_checks [--device cuda]

The test suite needs no GPU and says nothing about one. Each check prints a line with its figures; the exit
code is 1 if one of them failed. It needs torch, numpy, pydantic, safetensors and the data sets.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from itertools import islice

import torch

from reinmax_core import RunSpec, Trainer, categorical
from reinmax_core.checkpoint import encode, restore
from reinmax_core.estimators.base import DrawDetermined, Estimator
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover

STEPS = 200
DRAWS = 200_000
SMALL = {
    "polynomial": {"latents": 8},
    "categorical_vae": {"categories": 3, "latents": 2},
    "gradient_quality": {"categories": 3, "latents": 2, "images": 4, "draws": 20},
}


def frequencies(device: str) -> str:
    """Classes are drawn as often as their probabilities say: largest deviation in standard errors."""
    worst = 0.0
    for classes in (2, 10, 1000):
        logits = torch.randn(classes, generator=torch.Generator().manual_seed(classes)).to(device)
        drawn = categorical.sample(logits.expand(DRAWS, classes), torch.Generator(device).manual_seed(0)).mean(0)
        p = logits.softmax(-1)
        worst = max(worst, ((drawn - p) / (p * (1 - p) / DRAWS).sqrt()).abs().max().item())
    assert worst < 5, worst
    return f"largest deviation {worst:.1f} standard errors among 1012 classes"


def gradients(device: str) -> str:
    """For the same draws, gradients are those of the CPU in double precision."""
    worst = 0.0
    for estimator_class in discover(Estimator).values():
        if not issubclass(estimator_class, DrawDetermined):
            continue
        for classes in (2, 10):
            cost = torch.randn(64, classes, generator=torch.Generator().manual_seed(1))
            found, drawn = gradient(estimator_class(), cost.to(device), None)
            expected, _ = gradient(estimator_class(), cost.double(), drawn.cpu().double())
            worst = max(worst, ((found.cpu() - expected).norm() / expected.norm()).item())
    assert worst < 1e-5, worst
    return f"largest relative difference {worst:.1e}"


def gradient(
    estimator: DrawDetermined, cost: torch.Tensor, drawn: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of one set of draws, and the classes that were drawn."""
    logits = torch.linspace(-1, 1, cost.numel(), dtype=cost.dtype, device=cost.device).reshape(cost.shape)
    logits.requires_grad_()
    probs = categorical.probabilities(logits)
    if drawn is None:
        drawn = categorical.draw(probs, logits.shape)
    elif cost.shape[-1] > 2:
        drawn = drawn.long()
    z = estimator.through(logits, drawn, probs)
    return torch.autograd.grad((z * cost).sum(), logits)[0], drawn


def training(device: str) -> str:
    """Every task with every estimator that it accepts: three steps and an evaluation."""
    pairs = 0
    for task, task_class in discover(Task).items():
        for estimator, estimator_class in discover(Estimator).items():
            if task_class().refusal(estimator_class()) is None:
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
    return RunSpec.model_validate({"task": {"name": task, **SMALL[task]}, "estimator": estimator, "steps": steps})


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


CHECKS: tuple[Callable[[str], str], ...] = (frequencies, gradients, training, resumption, speed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    print(f"torch {torch.__version__} on {name}")
    failures = 0
    for check in CHECKS:
        try:
            print(f"passed  {check.__name__}: {check(device)}", flush=True)
        except Exception:  # noqa: BLE001  (the report is of all checks)
            failures += 1
            print(f"FAILED  {check.__name__}: {traceback.format_exc()}", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
