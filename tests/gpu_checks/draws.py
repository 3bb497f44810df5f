"""Draws and gradients of every estimator."""

from __future__ import annotations

import torch
from torch import Tensor

from reinmax_core import categorical
from reinmax_core.estimators.base import DrawDetermined, Estimator
from reinmax_core.value import discover

DRAWS = 200_000


def frequencies(device: str) -> str:
    """Classes are drawn as often as their probabilities say: largest deviation in standard errors."""
    worst = 0.0
    for classes in (2, 10, 1000):
        logits = torch.randn(classes, generator=torch.Generator().manual_seed(classes)).to(device)
        drawn = categorical.sample(logits.expand(DRAWS, classes), torch.Generator(device).manual_seed(0))
        worst = max(worst, deviation(drawn, logits))
    assert worst < 5, worst
    return f"largest deviation {worst:.1f} standard errors among 1012 classes"


def deviation(draws: Tensor, logits: Tensor) -> float:
    """By how many standard errors the most deviant class is drawn too often or too rarely."""
    p = logits.double().softmax(-1)
    return ((draws.mean(0, dtype=torch.float64) - p) / (p * (1 - p) / len(draws)).sqrt()).abs().max().item()


def gradients(device: str) -> str:
    """For the same draws, gradients are those of the CPU in double precision."""
    worst = 0.0
    for estimator_class in discover(Estimator).values():
        if not issubclass(estimator_class, DrawDetermined):
            continue
        for classes in (2, 10):
            estimator, logits = estimator_class(), slope(classes, device)
            g = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
            draws = estimator.sample(logits)
            (found,) = torch.autograd.grad(draws, logits, g.to(device))
            worst = max(worst, difference(found, exact(estimator, logits, draws, g)))
    assert worst < 1e-5, worst
    return f"largest relative difference {worst:.1e}"


def slope(classes: int, device: str) -> Tensor:
    return torch.linspace(-1, 1, 64 * classes, device=device).reshape(64, classes).requires_grad_()


def exact(estimator: DrawDetermined, logits: Tensor, draws: Tensor, g: Tensor, v: Tensor | None = None) -> Tensor:
    """The gradient of given draws, and of the probabilities if something arrives there, in double precision."""
    theta = logits.detach().double().cpu().requires_grad_()
    probs = categorical.probabilities(theta)
    drawn = draws.detach().argmax(-1).cpu()
    z = estimator.through(theta, drawn.double() if theta.shape[-1] == 2 else drawn, probs)
    total = (z * g.double().cpu()).sum() + (0 if v is None else (probs * v.double().cpu()).sum())
    return torch.autograd.grad(total, theta)[0]


def difference(found: Tensor, wanted: Tensor) -> float:
    return ((found.detach().double().cpu() - wanted).norm() / wanted.norm()).item()


def deterministic(device: str) -> str:
    """With torch's deterministic algorithms, every estimator gives the same bits for the same seed."""
    torch.use_deterministic_algorithms(True)
    try:
        estimators = [estimator_class() for estimator_class in discover(Estimator).values()]
        for estimator in estimators:
            for classes in (2,) if estimator.binary_only else (2, 6):
                first, second = (estimated(estimator, classes, device) for _ in range(2))
                assert torch.equal(first, second), (estimator, classes)
    finally:
        torch.use_deterministic_algorithms(False)
    return f"{len(estimators)} estimators"


def estimated(estimator: Estimator, classes: int, device: str) -> Tensor:
    torch.manual_seed(0)
    logits = torch.linspace(-1, 1, 300 * classes, device=device).reshape(100, 3, classes).requires_grad_()
    weights = torch.linspace(-1, 2, classes, device=device)
    estimates = estimator.expectation(logits, lambda draws: (draws @ weights - 0.3) ** 3)
    return torch.autograd.grad(estimates.sum(), logits)[0]
