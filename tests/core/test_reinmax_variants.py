"""ReinMax with other baselines and other Runge-Kutta rules: their formulas, their means and their derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from reinmax_core import categorical
from reinmax_core.estimators import ReinMax, StraightThrough
from reinmax_core.estimators.base import DrawDetermined
from tests.core.test_gradients import (
    SHAPES,
    apply,
    exact_gradient,
    jacobian,
    mean_gradient,
    normal,
    quadratic,
    relative,
    seeded,
    states,
)

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The gradient by hand, from logits, one-hot draws and the gradient that arrives."""


def uniform_by_hand(tau: float = 1.0, most: float = torch.inf) -> Formula:
    def formula(theta: Tensor, one_hot: Tensor, g: Tensor) -> Tensor:
        p, q = theta.softmax(-1), (theta / tau).softmax(-1)
        weight = (1 / (theta.shape[-1] * (q * one_hot).sum(-1, keepdim=True))).clamp(max=most)
        advantage = (g * one_hot).sum(-1, keepdim=True) - g.mean(-1, keepdim=True)
        return (advantage * (one_hot - p) + weight * apply(jacobian(q), g)) / 2

    return formula


def rule_by_hand(w: float, tau: float = 1.0) -> Formula:
    def formula(theta: Tensor, one_hot: Tensor, g: Tensor) -> Tensor:
        p, q = theta.softmax(-1), (theta / tau).softmax(-1)
        second = (one_hot - q) * (g * (one_hot - q)).sum(-1, keepdim=True)
        return apply(jacobian(q), g) + w * second - w * apply(jacobian(p), g)

    return formula


VARIANTS = [
    (ReinMax(baseline="uniform"), uniform_by_hand()),
    (ReinMax(baseline="uniform", tau=1.4), uniform_by_hand(1.4)),
    (ReinMax(baseline="uniform", most_weight=0.6), uniform_by_hand(most=0.6)),
    *[(ReinMax(second_weight=w), rule_by_hand(w)) for w in (-1.0, 0.0, 0.5, 0.75, 1.0, 2.0)],
    *[(ReinMax(second_weight=w, tau=1.4), rule_by_hand(w, 1.4)) for w in (0.0, 0.5, 0.75, 1.0)],
]
NAMES = [repr(estimator) for estimator, _ in VARIANTS]


def each_class(estimator: DrawDetermined, theta: Tensor) -> Tensor:
    """The identity matrix: row i is the draw of class i for the logits theta [n, n]."""
    drawn = states(1, theta.shape[-1]).squeeze(-1)
    return estimator.through(theta, drawn, categorical.probabilities(theta))


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize(("estimator", "formula"), VARIANTS, ids=NAMES)
def test_formulas_at_every_draw(estimator: ReinMax, formula: Formula, classes: int) -> None:
    theta, g = normal(classes).expand(classes, classes).clone().requires_grad_(), normal(classes, classes, seed=1)
    draws = each_class(estimator, theta)
    assert torch.equal(draws, torch.eye(classes, dtype=torch.float64))
    found = torch.autograd.grad(draws, theta, g)[0]
    assert torch.allclose(found, formula(theta.detach(), draws.detach(), g), atol=1e-13)


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize(("estimator", "formula"), VARIANTS, ids=NAMES)
def test_second_derivatives_are_those_of_the_formulas(estimator: ReinMax, formula: Formula, classes: int) -> None:
    theta, g = normal(classes).expand(classes, classes).clone().requires_grad_(), normal(classes, classes, seed=1)
    draws, direction = each_class(estimator, theta), normal(classes, classes, seed=2)
    (first,) = torch.autograd.grad(draws, theta, g, create_graph=True)
    found, wanted = (
        torch.autograd.grad((part * direction).sum(), theta)[0] for part in (first, formula(theta, draws.detach(), g))
    )
    assert found.abs().max() > 1e-3
    assert torch.allclose(found, wanted, atol=1e-13)


@pytest.mark.parametrize(("latents", "classes"), SHAPES)
def test_the_uniform_baseline_is_exact_for_quadratics(latents: int, classes: int) -> None:
    for seed in range(5):
        logits, cost = normal(latents, classes, seed=seed), quadratic(latents, classes, seed + 100)
        wanted = exact_gradient(logits, cost)
        assert relative(mean_gradient(ReinMax(baseline="uniform"), logits, cost), wanted) < 1e-10
        assert relative(mean_gradient(ReinMax(baseline="uniform", tau=1.5), logits, cost), wanted) > 1e-4
    assert relative(mean_gradient(ReinMax(baseline="uniform", most_weight=0.5), logits, cost), wanted) > 1e-3


@pytest.mark.parametrize(("latents", "classes"), SHAPES)
def test_other_rules_err_in_proportion(latents: int, classes: int) -> None:
    """By 1 - 2 w of what straight-through errs by, the rule of weight 0: by -1/2 (Ralston) and by -1 (midpoint)."""
    for seed in range(3):
        logits, cost = normal(latents, classes, seed=seed), quadratic(latents, classes, seed + 100)
        exact = exact_gradient(logits, cost)
        straight = mean_gradient(StraightThrough(), logits, cost) - exact
        assert straight.norm() > 1e-2 * exact.norm()
        for weight, share in ((0.0, 1.0), (0.5, 0.0), (0.75, -0.5), (1.0, -1.0)):
            found = mean_gradient(ReinMax(second_weight=weight), logits, cost) - exact
            assert (found - share * straight).norm() < 1e-12 * exact.norm()


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_weight_0_is_straight_through(classes: int) -> None:
    logits, g = normal(50, classes).requires_grad_(), normal(50, classes, seed=1)
    both = [estimator.sample(logits, generator=seeded()) for estimator in (ReinMax(second_weight=0), StraightThrough())]
    assert torch.equal(*both)
    found, wanted = (torch.autograd.grad(draws, logits, g)[0] for draws in both)
    assert torch.allclose(found, wanted, atol=1e-14)


@pytest.mark.parametrize("most", [None, 1e5])
def test_two_classes_have_one_baseline(most: float | None) -> None:
    logits, g = normal(50, 2).requires_grad_(), normal(50, 2, seed=1)
    estimators = (ReinMax(), ReinMax(baseline="uniform", most_weight=most))
    both = [estimator.sample(logits, generator=seeded()) for estimator in estimators]
    found, wanted = (torch.autograd.grad(draws, logits, g)[0] for draws in both)
    assert torch.allclose(found, wanted, atol=1e-14)


def test_classes_that_cannot_be_drawn_are_not_counted() -> None:
    """Nor does what arrives there matter, be it infinite: the mean is over the others."""
    logits, g = normal(50, 5), normal(50, 5, seed=1)
    padded = torch.cat((logits, torch.full((50, 2), -torch.inf)), -1).requires_grad_()
    upstream = torch.cat((g, torch.full((50, 2), 1e9)), -1)
    logits.requires_grad_()
    narrow, wide = (ReinMax(baseline="uniform", tau=1.2).sample(rows, generator=seeded()) for rows in (logits, padded))
    (wanted,) = torch.autograd.grad(narrow, logits, g)
    (found,) = torch.autograd.grad(wide, padded, upstream)
    assert torch.equal(wide[:, :5], narrow)
    assert torch.allclose(found[:, :5], wanted, atol=1e-13)
    assert not found[:, 5:].any()


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"baseline": "uniform", "second_weight": 1.0}, "second_weight is 1.0, but the uniform baseline"),
        ({"most_weight": 2.0}, "most_weight is 2.0, but only the baseline 'uniform'"),
        ({"baseline": "uniform", "most_weight": 0.0}, "greater than 0"),
        ({"second_weight": 2.5}, "less than or equal to 2"),
        ({"second_weight": float("nan")}, "finite"),
        ({"baseline": "median"}, "'expected' or 'uniform'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], finding: str) -> None:
    with pytest.raises(ValidationError, match=finding):
        ReinMax.model_validate(settings)
