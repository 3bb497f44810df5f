"""The mathematics of the gradients, in double precision and over all draws wherever theory gives the answer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reinmax_core import categorical, conditional, gradients
from reinmax_core.estimators import (
    ArgmaxStraightThrough,
    Exact,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    Pathwise,
    Reinforce,
    ReinMax,
    Rloo,
    StraightThrough,
)
from reinmax_core.estimators.base import DrawDetermined
from reinmax_core.estimators.from_costs import ScoreFunction

Cost = Callable[[Tensor], Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def states(latents: int, classes: int) -> Tensor:
    """All joint draws, [n^L, L], in the form of `categorical.draw`."""
    numbers = torch.cartesian_prod(*[torch.arange(classes)] * latents).view(-1, latents)
    return numbers.double() if classes == 2 else numbers


def chances(drawn: Tensor, probs: Tensor) -> Tensor:
    """The probability of each joint draw [S, L] under probabilities [L, n]."""
    return probs.expand(len(drawn), *probs.shape).gather(-1, drawn.long().unsqueeze(-1)).prod(-2).squeeze(-1)


def mean_gradient(estimator: DrawDetermined, logits: Tensor, cost: Cost) -> Tensor:
    """The estimator's mean over all joint draws for logits [L, n]."""
    logits = logits.detach().requires_grad_()
    drawn, probs = states(*logits.shape), categorical.probabilities(logits)
    draws = estimator.through(logits.expand(len(drawn), *logits.shape), drawn, probs)
    mean = (chances(drawn, probs.detach()) * cost(draws)).sum()
    return torch.autograd.grad(mean, logits)[0]


def exact_gradient(logits: Tensor, cost: Cost) -> Tensor:
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(Exact().expectation(logits, cost), logits)[0]


def quadratic(latents: int, classes: int, seed: int) -> Cost:
    """A random quadratic of all latents jointly, cross terms included."""
    size = latents * classes
    matrix, vector = normal(size, size, seed=seed), normal(size, seed=seed + 1)

    def cost(draws: Tensor) -> Tensor:
        flat = draws.flatten(-2)
        return ((flat @ matrix) * flat).sum(-1) + flat @ vector

    return cost


def jacobian(p: Tensor) -> Tensor:
    """diag(p) - p p^T, written out."""
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


SHAPES = [(1, 2), (1, 3), (1, 5), (1, 10), (3, 4), (5, 2)]


@pytest.mark.parametrize(("latents", "classes"), SHAPES)
def test_reinmax_is_exact_for_quadratics_and_straight_through_is_not(latents: int, classes: int) -> None:
    for seed in range(5):
        logits, cost = normal(latents, classes, seed=seed), quadratic(latents, classes, seed + 100)
        wanted = exact_gradient(logits, cost)
        assert relative(mean_gradient(ReinMax(), logits, cost), wanted) < 1e-12
        assert relative(mean_gradient(StraightThrough(), logits, cost), wanted) > 1e-2
        assert relative(mean_gradient(ReinMax(tau=1.5), logits, cost), wanted) > 1e-3


@pytest.mark.parametrize(("latents", "classes"), SHAPES)
def test_straight_through_is_exact_for_linear_costs_at_tau_1_only(latents: int, classes: int) -> None:
    logits, weights = normal(latents, classes), normal(latents, classes, seed=1)

    def cost(draws: Tensor) -> Tensor:
        return (draws * weights).sum((-1, -2))

    wanted = exact_gradient(logits, cost)
    assert relative(mean_gradient(StraightThrough(), logits, cost), wanted) < 1e-12
    assert relative(mean_gradient(StraightThrough(tau=1.3), logits, cost), wanted) > 1e-2


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_reinmax_is_not_exact_for_cubics(classes: int) -> None:
    logits, weights = normal(1, classes), normal(classes, seed=1)

    def cost(draws: Tensor) -> Tensor:
        return (draws @ weights + 1).pow(3).sum(-1)

    assert relative(mean_gradient(ReinMax(), logits, cost), exact_gradient(logits, cost)) > 1e-2


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("tau", [1.0, 1.3, 4.0])
def test_closed_forms_at_every_draw(classes: int, tau: float) -> None:
    """The operators of the papers, with their matrices written out, one draw of each class."""
    theta, g = normal(classes), normal(classes, classes, seed=1)
    drawn = states(1, classes).squeeze(-1)
    p, q, one_hot = theta.softmax(-1), (theta / tau).softmax(-1), torch.eye(classes, dtype=torch.float64)
    gap = theta.max() - 1.0
    lowered = torch.where(one_hot > 0, theta.max(), theta.minimum(gap))
    wanted = {
        ReinMax(tau=tau): 2 * apply(jacobian((q + one_hot) / 2), g) - apply(jacobian(p), g) / 2,
        StraightThrough(tau=tau): apply(jacobian(q), g) / tau,
        GappedStraightThrough(tau=tau): apply(jacobian((lowered / tau).softmax(-1)), g) / tau,
    }
    for estimator, product in wanted.items():
        logits = theta.expand(classes, classes).clone().requires_grad_()
        draws = estimator.through(logits, drawn, categorical.probabilities(logits))
        assert torch.equal(draws, one_hot)
        assert torch.allclose(torch.autograd.grad(draws, logits, g)[0], product, atol=1e-13), estimator


def test_reinmax_averages_straight_through_and_a_linearised_score() -> None:
    """At tau = 1: (J(p) g + (D - p) (g . (D - p))) / 2."""
    logits, g = normal(7, 5).requires_grad_(), normal(7, 5, seed=1)
    draws = ReinMax().sample(logits, generator=seeded())
    centred = draws.detach() - logits.detach().softmax(-1)
    wanted = (apply(jacobian(logits.detach().softmax(-1)), g) + centred * (g * centred).sum(-1, keepdim=True)) / 2
    assert torch.allclose(torch.autograd.grad(draws, logits, g)[0], wanted, atol=1e-14)


def test_binary_reinmax_is_straight_through_over_twice_the_probability() -> None:
    logits, g = normal(50, 2).requires_grad_(), normal(50, 2, seed=1)
    both = [estimator.sample(logits, generator=seeded()) for estimator in (ReinMax(), StraightThrough())]
    assert torch.equal(*both)
    reinmax, straight = (torch.autograd.grad(draws, logits, g)[0] for draws in both)
    chance = (both[0] * logits.softmax(-1)).sum(-1, keepdim=True).detach()
    assert torch.allclose(reinmax, straight / (2 * chance), atol=1e-14)


def test_argmax_straight_through_has_the_gradient_of_its_softmax() -> None:
    logits, g = normal(20, 6).requires_grad_(), normal(20, 6, seed=1)
    draws = ArgmaxStraightThrough(tau=0.6).sample(logits)
    assert torch.equal(draws.argmax(-1), logits.argmax(-1))
    wanted = torch.autograd.grad((logits / 0.6).softmax(-1), logits, g)[0]
    assert torch.allclose(torch.autograd.grad(draws, logits, g)[0], wanted, atol=1e-14)
    ties = ArgmaxStraightThrough().sample(torch.zeros(3, 2))
    assert torch.equal(ties, torch.eye(2)[:1].expand(3, 2))


def test_the_gap_by_probability() -> None:
    """gap "p" is -log(1 - p) / p at the drawn class."""
    theta = normal(4)
    p = theta.softmax(-1) * (1 - 1e-5)
    drawn = states(1, 4).squeeze(-1)
    logits = theta.expand(4, 4).clone().requires_grad_()
    draws = GappedStraightThrough(gap="p").through(logits, drawn, categorical.probabilities(logits))
    lowered = torch.where(
        draws.detach() > 0, theta.max(), theta.minimum(theta.max() + ((1 - p).log() / p).unsqueeze(-1))
    )
    g = normal(4, 4, seed=1)
    assert torch.allclose(torch.autograd.grad(draws, logits, g)[0], apply(jacobian(lowered.softmax(-1)), g), atol=1e-13)


def scored_mean(estimator: ScoreFunction, drawn: Tensor, logits: Tensor, values: Tensor) -> Tensor:
    """The estimator's mean gradient over all combinations of draws [K or batch, combinations] of one row."""
    logits = logits.detach().requires_grad_()
    probs = categorical.probabilities(logits)
    scored = gradients.scored(logits.expand(*drawn.shape, len(logits)), drawn, probs)
    estimates = estimator.surrogate(values, scored)
    weights = probs.detach()[drawn.long()].prod(0)
    return torch.autograd.grad((weights * estimates).sum(), logits)[0]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("estimator", [Reinforce(), Reinforce(baseline="batch"), Rloo(samples=3)])
def test_score_functions_are_unbiased(estimator: ScoreFunction, classes: int) -> None:
    """Over all combinations of three independent draws, with an arbitrary cost."""
    logits, table = normal(classes), normal(classes, seed=1)
    drawn = states(3, classes).T
    found = scored_mean(estimator, drawn, logits, table[drawn.long()])
    wanted = exact_gradient(logits, lambda z: z @ table)
    rows = 1 if estimator.evaluations > 1 else 3
    assert torch.allclose(found, rows * wanted, atol=1e-14)


def gradients_of(estimator: Pathwise, theta: Tensor, g: Tensor, count: int) -> Tensor:
    logits = theta.repeat(count, 1).requires_grad_()
    return torch.autograd.grad(estimator.sample(logits, generator=seeded()), logits, g.expand_as(logits))[0]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_gumbel_rao_has_the_mean_of_gumbel_softmax_and_less_variance(classes: int, tau: float) -> None:
    theta, g = normal(classes), normal(classes, seed=1)
    rao = gradients_of(GumbelRao(tau=tau, samples=10), theta, g, 40_000)
    single = gradients_of(GumbelSoftmax(tau=tau), theta, g, 40_000)
    errors = ((rao.var(0) + single.var(0)) / 40_000).sqrt()
    assert ((rao.mean(0) - single.mean(0)).abs() < 4 * errors).all()
    assert rao.var(0).sum() < single.var(0).sum()


@pytest.mark.parametrize("samples", [3, 200])
def test_gumbel_rao_keeps_none_of_its_samples(samples: int) -> None:
    """With fewer samples than classes, and with more: the mean Jacobian of the soft samples."""
    logits, g = normal(6, 5).requires_grad_(), normal(6, 5, seed=1)
    probs, drawn = logits.detach().softmax(-1), torch.arange(6) % 5
    # They are drawn in the backward pass, from a generator of their own.
    source = seeded(conditional.seed(seeded()))
    soft = conditional.soft_samples(probs, drawn, 0.7, samples, source)
    draws = gradients.averaged(logits, drawn, probs, 0.7, samples, seeded())
    wanted = apply(jacobian(soft.mT).mean(1), g) / 0.7
    assert torch.allclose(torch.autograd.grad(draws, logits, g)[0], wanted, atol=1e-13)
    assert torch.equal(soft.argmax(-2), drawn.unsqueeze(-1).expand(6, samples))


@pytest.mark.parametrize("samples", [3, 200])
def test_moments_of_soft_samples_say_the_same(samples: int) -> None:
    """As they are used on accelerators and inside transforms."""
    logits, g = normal(6, 5).requires_grad_(), normal(6, 5, seed=1)
    probs, drawn = logits.detach().softmax(-1), torch.arange(6) % 5

    def gradient(row: Tensor, number: Tensor, upstream: Tensor) -> Tensor:
        def along(at: Tensor) -> Tensor:
            return gradients.averaged(at, number, at.softmax(-1), 0.7, samples, None) @ upstream

        return torch.func.grad(along)(row)

    torch.manual_seed(0)
    found = torch.vmap(gradient, randomness="different")(logits.detach(), drawn, g)
    torch.manual_seed(0)
    soft = conditional.soft_samples(probs, drawn, 0.7, samples)
    assert torch.allclose(found, apply(jacobian(soft.mT).mean(1), g) / 0.7, atol=1e-12)


@pytest.mark.parametrize("samples", [3, 20])
def test_gumbel_rao_in_parts_is_the_mean_of_all_parts(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a working set that holds a few samples only: the law is the same, here by the mean of many rows."""
    theta, g = normal(5), normal(5, seed=1)
    whole = gradients_of(GumbelRao(samples=samples), theta, g, 40_000)
    monkeypatch.setattr(conditional, "WORKING_SET", 40_000 * 5 * 2)
    parts = gradients_of(GumbelRao(samples=samples), theta, g, 40_000)
    errors = ((whole.var(0) + parts.var(0)) / 40_000).sqrt()
    assert ((whole.mean(0) - parts.mean(0)).abs() < 4.5 * errors).all()
    assert torch.allclose(parts.var(0), whole.var(0), rtol=0.1)


def test_conditional_samples_have_the_law_of_gumbel_softmax_given_its_draw() -> None:
    theta, tau, count = normal(3), 0.8, 60_000
    perturbed = theta + categorical.gumbel(theta.expand(count, 3), seeded())
    soft, drawn = (perturbed / tau).softmax(-1), perturbed.argmax(-1)
    for number in range(3):
        rejection = soft[drawn == number]
        direct = conditional.soft_samples(theta.softmax(-1), torch.tensor(number), tau, count, seeded(1)).T
        for moment in (1, 2):
            a, b = rejection.pow(moment), direct.pow(moment)
            errors = (a.var(0) / len(a) + b.var(0) / count).sqrt()
            assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * errors).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_gumbel_rao_tends_to_reinmax_as_tau_goes_to_0(classes: int) -> None:
    """Two implementations that share no formula."""
    g = normal(classes, seed=1)
    logits = normal(1, classes).requires_grad_()
    pair = [
        estimator.sample(logits, generator=seeded()) for estimator in (ReinMax(), GumbelRao(tau=0.03, samples=10**5))
    ]
    assert torch.equal(*pair)
    reinmax, rao = (torch.autograd.grad(draws, logits, g.unsqueeze(0))[0] for draws in pair)
    assert relative(rao, reinmax) < 0.1
    assert math.isclose(float(rao.sum()), 0, abs_tol=1e-9)


@pytest.mark.parametrize("classes", [2, 4])
def test_gumbel_softmax_tends_to_reinmax_as_tau_goes_to_0(classes: int) -> None:
    """In the mean over its noise at each drawn class, ever closer, within what the number of draws lets through."""
    theta, g, count = normal(classes), normal(classes, seed=1), 400_000
    logits = theta.expand(classes, classes).clone().requires_grad_()
    identity = ReinMax().through(logits, states(1, classes).squeeze(-1), categorical.probabilities(logits))
    (wanted,) = torch.autograd.grad(identity, logits, g.expand_as(logits))
    distances = []
    for tau in (1.0, 0.3, 0.03):
        single = theta.expand(count, classes).clone().requires_grad_()
        draws = GumbelSoftmax(tau=tau).sample(single, generator=seeded())
        (found,) = torch.autograd.grad(draws, single, g.expand_as(draws))
        given = [found[draws[:, number] == 1] for number in range(classes)]
        means, errors = (torch.stack(parts) for parts in zip(*map(mean_and_error, given), strict=True))
        distances.append(relative(means, wanted))
    assert distances[0] > 2 * distances[1] > 4 * distances[2]
    # What is left is of the order of tau, besides the noise.
    assert ((means - wanted).abs() < 4 * errors + 0.03 * wanted.abs().max()).all()


def mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    return samples.mean(0), (samples.var(0) / len(samples)).sqrt()
