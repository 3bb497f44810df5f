"""Estimators for binary variables, by enumeration of all they can draw, and how they draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor

from reinmax_core import RunSpec, categorical
from reinmax_core.estimators import Arms, Disarm, Estimator
from tests.core.enumerated import (
    Cost,
    cost_of_each,
    exact_gradient,
    gradient,
    joint_cost,
    mean_and_variance,
    normal,
    seeded,
)

BINARY = [Disarm(), Disarm(samples=4), Arms(samples=2), Arms(), Arms(samples=4)]


def antithetic_cells(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Where uniform numbers give the same pairs: midpoints and widths [3^L, L] of the boxes that they fall into."""
    ends = torch.stack((torch.zeros(len(probs)), *probs.sort(-1).values.T, torch.ones(len(probs)))).double()
    cells = list(product(range(3), repeat=len(probs)))
    low, high = (torch.stack([side[list(cell), range(len(probs))] for cell in cells]) for side in (ends[:-1], ends[1:]))
    return (low + high) / 2, high - low


@pytest.mark.parametrize("cost_in", [joint_cost, cost_of_each])
@pytest.mark.parametrize("seed", range(4))
def test_disarm_is_unbiased_and_varies_less_than_arm(seed: int, cost_in: Callable[[int, int], Cost]) -> None:
    """Exactly, as integrals over the uniform numbers; ARM is (f(b_1) - f(b_2)) (u - 1/2)."""
    logits, cost = 2 * normal(3, 2, seed=seed), cost_in(3, 2)
    probs, wanted = logits.softmax(-1), exact_gradient(logits, cost)
    u, widths = antithetic_cells(probs)
    volumes = widths.prod(-1)
    drawn = Disarm()._pairs(u.unsqueeze(0), probs)
    values = cost(categorical.one_hot(drawn, 2, torch.float64))
    found = Disarm()._gradient(values, drawn, probs.expand(len(u), 3, 2))
    mean, variance = mean_and_variance(volumes, found)
    assert torch.allclose(mean, wanted, atol=1e-13)

    difference = categorical.above((values[0] - values[1])[0], u)
    arm = difference * (u - 0.5)
    # Within a box u - 1/2 has the mean square (midpoint - 1/2)^2 + width^2 / 12.
    arm_square = difference.square() * ((u - 0.5).square() + widths.square() / 12)
    assert torch.allclose((volumes[:, None] * arm).sum(0), wanted[:, 1], atol=1e-13)
    arm_variance = 2 * ((volumes[:, None] * arm_square).sum() - wanted[:, 1].square().sum())
    assert variance < arm_variance


def copula(probs: Tensor, samples: int) -> Tensor:
    """The chance of each joint outcome of the K draws of a variable [2^K], by inclusion and exclusion.

    Of a stick broken at random into K pieces, j given ones are all longer than t with probability
    max(1 - j t, 0)^(K-1).
    """
    rarer = float(probs.min())
    t = 1 - rarer ** (1 / (samples - 1))
    outcomes = list(product((0, 1), repeat=samples))
    chances = []
    for outcome in outcomes:
        long = sum(b == int(probs[1] < probs[0]) for b in outcome)
        chances.append(
            sum(
                (-1) ** more * math.comb(samples - long, more) * max(1 - (long + more) * t, 0) ** (samples - 1)
                for more in range(samples - long + 1)
            )
        )
    return torch.tensor(chances, dtype=torch.float64)


@pytest.mark.parametrize("cost_in", [joint_cost, cost_of_each])
@pytest.mark.parametrize("samples", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_arms_is_unbiased(samples: int, seed: int, cost_in: Callable[[int, int], Cost]) -> None:
    """Over all outcomes of the draws of two variables."""
    logits, cost = 2 * normal(2, 2, seed=seed), cost_in(2, 2)
    probs = logits.softmax(-1)
    outcomes = torch.tensor(list(product((0.0, 1.0), repeat=samples)), dtype=torch.float64)
    first, second = torch.cartesian_prod(torch.arange(len(outcomes)), torch.arange(len(outcomes))).T
    drawn = torch.stack((outcomes[first], outcomes[second]), -1).movedim(1, 0)
    chances = copula(probs[0], samples)[first] * copula(probs[1], samples)[second]
    values = cost(categorical.one_hot(drawn, 2, torch.float64))
    found = Arms(samples=samples)._gradient(values, drawn, probs.expand(len(first), 2, 2))
    mean, variance = mean_and_variance(chances, found)
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(mean, exact_gradient(logits, cost), atol=1e-12)
    assert variance > 0.01


@pytest.mark.parametrize("rarer", [0.1, 0.45])
@pytest.mark.parametrize("common", [0, 1])
@pytest.mark.parametrize("samples", [2, 3, 4])
def test_arms_draws_by_its_copula(samples: int, common: int, rarer: float) -> None:
    probs = torch.tensor([1 - rarer, rarer]).roll(common)
    seen: list[Tensor] = []

    def cost(draws: Tensor) -> Tensor:
        seen.append(draws[..., 1])
        return draws[..., 1]

    Arms(samples=samples).expectation(probs.log().expand(100_000, 2), cost, generator=seeded(3))
    outcome = sum(drawn.long() * 2 ** (samples - 1 - number) for number, drawn in enumerate(seen[0]))
    counts, expected = torch.bincount(outcome, minlength=2**samples), 100_000 * copula(probs, samples)
    possible = expected > 0.01
    assert not counts[~possible].any()
    assert chisquare(counts[possible], expected[possible] * (counts.sum() / expected[possible].sum())).pvalue > 1e-4


def test_arms_with_two_samples_is_disarm() -> None:
    probs, values = normal(50, 2).softmax(-1), normal(2, 50, seed=1)
    drawn = Disarm()._pairs(torch.rand(1, 50, dtype=torch.float64, generator=seeded(2)), probs)
    disarm = Disarm()._gradient(values.unsqueeze(1), drawn, probs)
    assert torch.allclose(Arms(samples=2)._gradient(values, drawn[:, 0], probs), disarm, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [2, 3, 10, 10_000])
def test_the_discount_of_arms_loses_no_digits(samples: int, dtype: torch.dtype) -> None:
    """Against the published form m (1 - m) / (m - max(2 m^(1/(K-1)) - 1, 0)^(K-1)) in double precision."""
    m = torch.tensor([1e-6, 0.01, 0.2, 0.3, 0.45, 0.5], dtype=torch.float64)
    published = m * (1 - m) / (m - (2 * m ** (1 / (samples - 1)) - 1).clamp(min=0) ** (samples - 1))
    found = Arms(samples=samples)._discount(torch.stack((1 - m, m), -1).to(dtype))
    assert torch.allclose(found.double(), published, rtol=3 * torch.finfo(dtype).eps, atol=1e-11)


@pytest.mark.parametrize("estimator", BINARY, ids=repr)
def test_binary_estimators_are_unbiased_as_they_draw(estimator: Estimator) -> None:
    rows, logits, cost = 250_000, normal(3, 2), joint_cost(3, 2)
    found = gradient(estimator, logits.expand(rows, 3, 2), cost)
    errors = found.std(0) / rows**0.5
    assert ((found.mean(0) - exact_gradient(logits, cost)).abs() < 4 * errors).all()


@pytest.mark.parametrize("name", ["disarm", "arms"])
def test_what_is_not_binary_is_refused(name: str) -> None:
    vae = {"name": "categorical_vae", "latents": 4}
    with pytest.raises(ValueError, match=r"2 classes, but axis 1 of the logits has 3; choose"):
        {"disarm": Disarm(), "arms": Arms()}[name].expectation(torch.zeros(5, 3), lambda z: z.sum(-1), dim=1)
    with pytest.raises(ValidationError, match="is for binary variables, but those of task 'categorical_vae' have 8"):
        RunSpec.model_validate({"task": vae | {"categories": 8}, "estimator": name})
    assert RunSpec.model_validate({"task": vae | {"categories": 2}, "estimator": name}).estimator.name == name


def test_disarm_draws_in_pairs() -> None:
    with pytest.raises(ValidationError, match="multiple of 2"):
        Disarm(samples=3)
