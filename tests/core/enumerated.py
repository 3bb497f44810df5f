"""Costs, all joint draws, and gradients, exact or estimated, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from reinmax_core.estimators import Estimator, Exact

Cost = Callable[[Tensor], Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


def states(latents: int, classes: int) -> Tensor:
    """All joint draws, one-hot, [S, L, n]."""
    return torch.eye(classes, dtype=torch.float64)[torch.tensor(list(product(range(classes), repeat=latents)))]


def joint_cost(latents: int, classes: int) -> Cost:
    """No polynomial, and joint in all latents."""
    weights = normal(latents, classes, seed=7)
    return lambda draws: (draws * weights).sum((-1, -2)).sin().add(0.3).exp()


def cost_of_each(latents: int, classes: int) -> Cost:
    """A value for each latent."""
    weights = normal(latents, classes, seed=7)
    return lambda draws: (draws * weights).sum(-1).sin().add(0.3).exp()


def exact_gradient(logits: Tensor, cost: Cost) -> Tensor:
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(Exact().expectation(logits, cost).sum(), logits)[0]


def gradient(estimator: Estimator, logits: Tensor, cost: Cost, seed: int = 0) -> Tensor:
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(estimator.expectation(logits, cost, generator=seeded(seed)).sum(), logits)[0]


def mean_and_variance(chances: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Of gradients [T, L, n], the mean [L, n] and the sum of the variances."""
    mean = torch.einsum("t,tln->ln", chances, found)
    return mean, torch.einsum("t,tln->", chances, (found - mean).square())
