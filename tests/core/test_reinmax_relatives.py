"""ReinMax-Rao and ReinMax-CV: what they compute draw by draw, what they tend to, and their bias and variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from reinmax_core import categorical, conditional, midpoint
from reinmax_core.estimators import Exact, Pathwise, ReinMax, ReinMaxCv, ReinMaxRao

MODES: list[Literal["reference", "unbiased"]] = ["reference", "unbiased"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def later(generator: torch.Generator) -> torch.Generator:
    """That from which soft samples are drawn in the backward pass."""
    return seeded(conditional.seed(generator))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def product(p: Tensor, g: Tensor) -> Tensor:
    """J(p) g with the matrix diag(p) - p p^T written out."""
    return ((torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)) @ g.unsqueeze(-1)).squeeze(-1)


def reinmax_by_hand(theta: Tensor, one_hot: Tensor, g: Tensor, tau: float = 1.0) -> Tensor:
    return 2 * product(((theta / tau).softmax(-1) + one_hot) / 2, g) - product(theta.softmax(-1), g) / 2


def pulled_back(estimator: Pathwise, theta: Tensor, g: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draws for the rows theta, and what the estimator makes of g there."""
    logits = theta.clone().requires_grad_()
    draws = estimator.sample(logits, generator=seeded(seed))
    return draws.detach(), torch.autograd.grad(draws, logits, g.expand_as(draws))[0]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def mean_jacobian_product(soft: Tensor, g: Tensor, tau: float) -> Tensor:
    """The mean over K of J(y) g / tau for soft samples [..., n, K]."""
    return product(soft.mT, g.unsqueeze(-2)).mean(-2) / tau


@pytest.mark.parametrize("samples", [3, 40])
def test_reinmax_rao_draw_by_draw(samples: int) -> None:
    """2 GR(log m) - J(p) g / 2, from the noise that the same seed gives, with fewer samples than classes and more."""
    theta, g, tau, generator = normal(20, 5), normal(20, 5, seed=1), 0.7, seeded()
    draws, found = pulled_back(ReinMaxRao(tau=tau, samples=samples), theta, g)
    p = categorical.probabilities(theta)
    drawn = categorical.draw(p, theta.shape, generator)
    soft = conditional.soft_samples((p + draws) / 2, drawn, tau, samples, later(generator))
    assert torch.equal(draws.argmax(-1), drawn)
    assert torch.allclose(found, 2 * mean_jacobian_product(soft, g, tau) - product(p, g) / 2, atol=1e-13)


@pytest.mark.parametrize("tau", [1.0, 1.3])
@pytest.mark.parametrize("samples", [3, 40])
def test_reinmax_cv_draw_by_draw_as_its_authors_compute_it(samples: int, tau: float) -> None:
    theta, g, generator = normal(20, 5), normal(20, 5, seed=1), seeded()
    draws, found = pulled_back(ReinMaxCv(tau=tau, control_tau=0.8, eta=0.6, samples=samples), theta, g)
    perturbed = theta + categorical.gumbel(theta, generator)
    assert torch.equal(draws.argmax(-1), perturbed.argmax(-1))
    m = (theta.softmax(-1) + draws) / 2
    smooth = conditional.soft_samples(m, perturbed.argmax(-1), 0.8, samples, later(generator))
    single = (m.log() + (perturbed / 0.8).softmax(-1)).softmax(-1)
    correction = mean_jacobian_product(smooth, g, 0.8) - product(single, g) / 0.8
    assert torch.allclose(found, reinmax_by_hand(theta, draws, g, tau) + 0.6 * correction, atol=1e-13)


def test_unbiased_reinmax_cv_draw_by_draw() -> None:
    theta, g, generator = normal(20, 5), normal(20, 5, seed=1), seeded()
    draws, found = pulled_back(ReinMaxCv(control_tau=0.8, eta=0.6, samples=3, mode="unbiased"), theta, g)
    p = categorical.probabilities(theta)
    drawn, m = categorical.draw(p, theta.shape, generator), (p + draws) / 2
    smooth, single = (conditional.soft_samples(m, drawn, 0.8, count, later(generator)) for count in (3, 1))
    correction = mean_jacobian_product(smooth, g, 0.8) - mean_jacobian_product(single, g, 0.8)
    assert torch.allclose(found, reinmax_by_hand(theta, draws, g) + 0.6 * correction, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_relaxed_draws_are_those_at_the_midpoint_that_agree_with_the_draw(classes: int) -> None:
    """Against rejection: Gumbel noise added to log m, kept where its largest entry is at the drawn class."""
    theta, g, tau, count = normal(classes), normal(classes, seed=1), 0.6, 60_000
    for number, one_hot in enumerate(torch.eye(classes, dtype=torch.float64)):
        m = (theta.softmax(-1) + one_hot) / 2
        perturbed = m.log() + categorical.gumbel(theta.expand(count, classes), seeded(2))
        kept = product((perturbed[perturbed.argmax(-1) == number] / tau).softmax(-1), g) / tau
        logits = theta.expand(count, classes).clone().requires_grad_()
        drawn = torch.full((count,), number, dtype=torch.float64 if classes == 2 else torch.int64)
        draws = midpoint.averaged(logits, drawn, theta.softmax(-1), tau, 1, seeded(3))
        (single,) = torch.autograd.grad(draws, logits, g.expand_as(draws))
        errors = (kept.var(0) / len(kept) + single.var(0) / count).sqrt()
        assert ((kept.mean(0) - single.mean(0)).abs() < 4 * errors).all()


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_binary_reinmax_rao_in_more_parts_than_one_is_its_integral(tau: float) -> None:
    """100 000 samples of 50 rows, more than are worked on at a time, against a quadrature."""
    theta, g = normal(50, 2), normal(50, 2, seed=1)
    draws, found = pulled_back(ReinMaxRao(tau=tau, samples=100_000), theta, g)
    p = theta.softmax(-1)
    other = (p * (1 - draws)).sum(-1, keepdim=True) / 2
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    # Given the draw the smaller perturbed weight is this fraction of the larger one.
    ratio = (other * (1 - u) / (u + other * (1 - u))) ** (1 / tau)
    terms, difference = 2 * ratio / (1 + ratio).square() / tau, g[:, 0] - g[:, 1]
    wanted = (terms.mean(-1) - p.prod(-1) / 2) * difference
    errors = terms.std(-1) * difference.abs() / 100_000**0.5
    assert conditional.WORKING_SET < 100_000 * 50
    assert torch.allclose(found.sum(-1), torch.zeros(50, dtype=torch.float64), atol=1e-13)
    assert ((found[:, 0] - wanted).abs() < 5 * errors).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_binary_and_categorical_forms_agree(classes: int) -> None:
    """A class that cannot be drawn changes nothing but which formula is used: means over many draws agree."""
    theta, g, count = normal(2), normal(2, seed=1), 40_000
    wide = torch.cat((theta, torch.full((classes - 1,), -torch.inf)))
    padded = torch.cat((g, torch.ones(classes - 1)))
    for estimator in (ReinMaxRao(samples=2), *[ReinMaxCv(samples=2, mode=mode) for mode in MODES]):
        _, narrow = pulled_back(estimator, theta.expand(count, 2), g, seed=1)
        _, broad = pulled_back(estimator, wide.expand(count, classes + 1), padded, seed=2)
        assert not broad[:, 2:].any()
        for power in (1, 2):
            a, b = narrow[:, 0] ** power, broad[:, 0] ** power
            assert (a.mean() - b.mean()).abs() < 4 * ((a.var() + b.var()) / count).sqrt(), (estimator, power)


@pytest.mark.parametrize("classes", [2, 5])
def test_reinmax_rao_tends_to_the_linearised_score_as_tau_goes_to_0(classes: int) -> None:
    """Gumbel-Rao at log m tends to ReinMax at m, and so the whole to (D - p) (g . (D - p)) / 2.

    J(m) = J(p)/2 + (D - p)(D - p)^T / 4 and D - m = (D - p)/2, hence 2 GR tends to
    J(m) g + (D - m)(D - m).g = J(p) g / 2 + (D - p) (g . (D - p)) / 2.
    """
    theta, g = normal(classes), normal(classes, seed=1)
    draws, found = pulled_back(ReinMaxRao(tau=0.02, samples=10_000), theta.expand(300, classes), g)
    for one_hot in torch.eye(classes, dtype=torch.float64):
        centred = one_hot - theta.softmax(-1)
        mean = found[(draws * one_hot).sum(-1) == 1].mean(0)
        # Compared with the first term, as the two terms cancel almost where a class is likely.
        second = product(theta.softmax(-1), g) / 2
        assert relative(mean + second, centred * (g @ centred) / 2 + second) < 0.05


@pytest.mark.parametrize("classes", [2, 5])
def test_reinmax_rao_turns_around_as_tau_grows(classes: int) -> None:
    theta, g = normal(4, classes), normal(4, classes, seed=1)
    _, found = pulled_back(ReinMaxRao(tau=1000), theta, g)
    assert relative(found, -product(theta.softmax(-1), g) / 2) < 0.05


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tau", [1.0, 1.3])
@pytest.mark.parametrize("classes", [2, 5])
def test_without_its_correction_reinmax_cv_is_reinmax(classes: int, tau: float, mode: Literal["reference"]) -> None:
    theta, g = normal(50, classes), normal(50, classes, seed=1)
    wanted = pulled_back(ReinMax(tau=tau), theta, g)
    found = pulled_back(ReinMaxCv(tau=tau, eta=0, mode=mode), theta, g)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("tau", [1.0, 1.3])
@pytest.mark.parametrize("classes", [2, 4])
def test_unbiased_reinmax_cv_has_the_mean_of_reinmax_at_every_draw(classes: int, tau: float) -> None:
    theta, g, count = normal(classes), normal(classes, seed=1), 60_000
    draws, found = pulled_back(
        ReinMaxCv(tau=tau, control_tau=0.7, eta=1, samples=4, mode="unbiased"), theta.expand(count, classes), g
    )
    for one_hot in torch.eye(classes, dtype=torch.float64):
        given = found[(draws * one_hot).sum(-1) == 1]
        errors = (given.var(0) / len(given)).sqrt()
        assert (errors > 0).all()
        assert ((given.mean(0) - reinmax_by_hand(theta, one_hot, g, tau)).abs() < 4 * errors).all()


class Study:
    """Mean and variance of estimates for one random quadratic cost of a single latent."""

    def __init__(self, classes: int, seed: int) -> None:
        self.theta, matrix, vector = (
            normal(*shape, seed=seed) for shape in ((classes,), (classes, classes), (classes,))
        )
        self.cost: Callable[[Tensor], Tensor] = lambda z: ((z @ matrix) * z).sum(-1) + z @ vector
        leaf = self.theta.clone().requires_grad_()
        self.exact = torch.autograd.grad(Exact().expectation(leaf, self.cost), leaf)[0]

    def estimates(self, estimator: Pathwise, count: int = 30_000) -> Tensor:
        logits = self.theta.repeat(count, 1).requires_grad_()
        return torch.autograd.grad(estimator.expectation(logits, self.cost, generator=seeded()).sum(), logits)[0]

    def bias(self, estimator: Pathwise) -> float:
        """Relative to the exact gradient."""
        return relative(self.estimates(estimator).mean(0), self.exact)

    def variance(self, estimator: Pathwise) -> float:
        return float(self.estimates(estimator).var(0).sum())


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_reinmax_rao_trades_bias_for_variance(seed: int) -> None:
    study = Study(4, seed)
    assert study.variance(ReinMaxRao(samples=20)) < 0.75 * study.variance(ReinMax())
    assert study.bias(ReinMax()) < 0.05
    assert 0.1 < study.bias(ReinMaxRao(samples=20)) < 0.8


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_reference_reinmax_cv_trades_bias_for_variance_and_unbiased_only_adds_variance(seed: int) -> None:
    study = Study(4, seed)
    reference, unbiased = (ReinMaxCv(control_tau=0.5, eta=1, samples=20, mode=mode) for mode in MODES)
    assert study.variance(reference) < 0.75 * study.variance(ReinMax())
    assert 0.1 < study.bias(reference) < 0.8
    assert study.variance(unbiased) > study.variance(ReinMax())
    assert study.bias(unbiased) < 0.05


@pytest.mark.parametrize("mode", MODES)
def test_the_weight_of_the_correction_is_eta(mode: Literal["reference"]) -> None:
    """Gradients are affine in eta at the same seed."""
    theta, g = normal(50, 4), normal(50, 4, seed=1)
    half, one, two = (pulled_back(ReinMaxCv(eta=eta, mode=mode), theta, g)[1] for eta in (0.5, 1.0, 2.0))
    assert torch.allclose(two - one, 2 * (one - half), atol=1e-13)
    assert (two - one).norm() > 0.1


def test_more_relaxed_draws_mean_less_variance() -> None:
    study = Study(4, 0)
    variances = [study.variance(ReinMaxRao(samples=samples)) for samples in (1, 3, 30)]
    assert variances[0] > variances[1] > variances[2]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("estimator", [ReinMaxRao(), *[ReinMaxCv(mode=mode) for mode in MODES]])
def test_second_derivatives_are_refused(estimator: Pathwise, classes: int) -> None:
    logits = torch.randn(5, classes, requires_grad=True)
    draws = estimator.sample(logits)
    (first,) = torch.autograd.grad(draws.pow(3).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="use an estimator with a single soft sample"):
        first.square().sum().backward()


@pytest.mark.parametrize("mode", MODES)
def test_draws_are_the_same_with_and_without_a_gradient(mode: Literal["reference"]) -> None:
    for estimator in (ReinMaxRao(), ReinMaxCv(mode=mode)):
        logits = torch.randn(50, 4, requires_grad=True)
        with torch.no_grad():
            wanted = estimator.sample(logits, generator=seeded())
        assert torch.equal(estimator.sample(logits, generator=seeded()), wanted)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_unbiased_mode_keeps_what_all_modes_promise(classes: int) -> None:
    """The contract tests take the defaults; here the other mode, at extreme logits and with masked classes."""
    estimator = ReinMaxCv(mode="unbiased", control_tau=0.01)
    for scale in (1, 50, 1e30):
        theta = torch.randn(200, classes, generator=seeded()).mul(scale)
        theta[::2, 0] = -torch.inf
        draws, found = pulled_back(estimator, theta, torch.linspace(-1, 2, classes))
        assert found.isfinite().all()
        assert not found[::2, 0].any()
        assert not draws[::2, 0].any()
