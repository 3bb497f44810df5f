"""REBAR and RELAX: the law of their noise, no bias whatever the parts are, and parts that lower the variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torch import Tensor, nn

from reinmax_core import categorical, relaxation
from reinmax_core.estimators import Exact, Learned, Rebar, Reinforce, Relax

if TYPE_CHECKING:
    from reinmax_core.estimators import Estimator
    from reinmax_core.estimators.base import Cost

ESTIMATORS = [Rebar(), Relax()]


@pytest.fixture(params=ESTIMATORS, ids=lambda estimator: estimator.name)
def estimator(request: pytest.FixtureRequest) -> Learned:
    found: Learned = request.param
    return found


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def trained(estimator: Learned, latents: int, classes: int) -> nn.Module:
    """Parts far from where they start: another temperature and scale, and a network of some size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = estimator.parts(latents, classes).double()
        with torch.no_grad():
            for name, parameter in parts.named_parameters():
                settings = {"log_temperature": -0.7, "scale": 0.7}
                value = settings.get(name.rpartition(".")[2])
                parameter.copy_(torch.randn_like(parameter).mul(0.3) if value is None else torch.tensor(value))
    return parts


def sine(latents: int, classes: int) -> Cost:
    """A cost of all latents jointly that is nowhere near a polynomial of low degree."""
    weights = normal(latents, classes, seed=7).mul(1.5)
    return lambda draws: (draws * weights.to(draws.dtype)).sum((-1, -2)).sin()


def gradient(estimator: Estimator, logits: Tensor, cost: Cost, seed: int = 0) -> Tensor:
    leaf = logits.detach().requires_grad_()
    total = estimator.expectation(leaf, cost, generator=seeded(seed)).sum()
    return torch.autograd.grad(total, leaf)[0]


def difference(by_class: Tensor) -> Tensor:
    """What counts of rows [..., n]: for two classes only the difference, [..., 1]."""
    return by_class[..., :1] - by_class[..., 1:] if by_class.shape[-1] == 2 else by_class


def given_draw(log_probs: Tensor, drawn: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """z~ and its rates, both [..., n], or [..., 1] for two classes."""
    if log_probs.shape[-1] == 2:
        odds = difference(log_probs).squeeze(-1)
        given, rates = relaxation.given_draw_of_two(odds, drawn.to(odds.dtype), generator)
        return given.unsqueeze(-1), rates.unsqueeze(-1)
    return relaxation.given_draw(log_probs, drawn, generator)


@pytest.mark.parametrize("classes", [2, 4])
def test_other_noise_has_the_law_of_the_noise_given_the_draw(classes: int) -> None:
    noisy = relaxation.perturbed(normal(classes).expand(60_000, classes), seeded())
    drawn = noisy.draws.argmax(-1)
    assert torch.equal((noisy.points < 0).squeeze(-1) if classes == 2 else noisy.points.argmax(-1), drawn.expand(2, -1))
    for number in range(classes):
        here = drawn == number
        free, given = noisy.points[:, here]
        for one, other in zip(free.T, given.T, strict=True):
            assert ks_2samp(one, other).pvalue > 1e-4
        products = [(z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(1) for z in (free, given)]
        errors = (sum(product.var(0) for product in products) / here.sum()).sqrt()
        assert ((products[0].mean(0) - products[1].mean(0)).abs() < 4.5 * errors).all()


def test_noise_is_that_of_gumbel_numbers() -> None:
    """Of the largest perturbed log-probability the law is known: a Gumbel number's, whatever was drawn."""
    many = relaxation.perturbed(normal(4).expand(60_000, 4), seeded()).points.amax(-1)
    two = relaxation.perturbed(normal(2).expand(60_000, 2), seeded()).points.squeeze(-1)
    log_odds = difference(normal(2))
    for uniform in (*(-(-many).exp()).exp(), *(two - log_odds).sigmoid()):
        assert kstest(uniform, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_rates_are_those_of_finite_differences(classes: int) -> None:
    theta, drawn = normal(classes), torch.arange(classes)

    def given(at: Tensor) -> tuple[Tensor, Tensor]:
        return given_draw(at.log_softmax(-1).expand(classes, classes), drawn, seeded())

    _, rates = given(theta)
    assert ((rates >= 0) & (rates <= 1)).all()
    for number, direction in enumerate(torch.eye(classes, dtype=torch.float64)):
        found = (given(theta + 1e-6 * direction)[0] - given(theta - 1e-6 * direction)[0]) / 2e-6
        # d log p_j / d theta_k = [j = k] - p_k
        assert torch.allclose(found, rates * difference(direction - theta.softmax(-1)[number]), atol=1e-8)


@pytest.mark.parametrize("classes", [2, 4])
def test_gradients_are_those_of_the_formula_by_automatic_differentiation(estimator: Learned, classes: int) -> None:
    """c(z) and c(z~) followed through noise, draw and softmax all the way to the logits."""
    parts, cost, theta = trained(estimator, 3, classes), sine(3, classes), normal(6, 3, classes).requires_grad_()
    generator, log_probs = seeded(), theta.log_softmax(-1)
    perturbed = log_probs + categorical.gumbel(theta, generator)
    draws = nn.functional.one_hot(perturbed.argmax(-1), classes).double()
    free, (given, _) = difference(perturbed), given_draw(log_probs, perturbed.argmax(-1), generator)

    def variate(z: Tensor) -> Tensor:
        surrogate: Any = parts["surrogate"] if estimator.name == "relax" else parts
        both = torch.cat((z, torch.zeros_like(z)), -1) if classes == 2 else z
        height = surrogate["scale"] * cost((both / surrogate["log_temperature"].exp()).softmax(-1))
        if estimator.name == "rebar":
            return height
        read = torch.cat((difference(log_probs.detach()), z), -1).flatten(1)
        return height + parts["network"](read).squeeze(-1)

    scores = (cost(draws) - variate(given)).detach() * (draws * log_probs).sum((-1, -2))
    (wanted,) = torch.autograd.grad((scores + variate(free) - variate(given)).sum(), theta)
    assert torch.allclose(gradient(estimator.using(parts), theta, cost), wanted, atol=1e-12)


@pytest.mark.parametrize(("latents", "classes"), [(3, 2), (1, 4), (2, 3)])
@pytest.mark.parametrize("is_bound", [True, False])
def test_no_bias(estimator: Learned, latents: int, classes: int, is_bound: bool) -> None:
    logits, cost = normal(latents, classes), sine(latents, classes)
    if is_bound:
        estimator = estimator.using(trained(estimator, latents, classes).float().requires_grad_(False))
    rows = logits.float().expand(50_000, latents, classes)
    found = torch.cat([gradient(estimator, rows, cost, seed).double() for seed in range(8)])
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - gradient(Exact(), logits, cost)).abs() < 4 * error).all()
    assert (error < 0.005).all()


def test_values_for_each_latent_are_estimated_one_by_one(estimator: Learned) -> None:
    """The gradient of a value is that of its own latent, and the network reads no other."""
    estimator = estimator.using(trained(estimator, 1, 3).requires_grad_(False))
    logits = normal(4, 3)
    found = gradient(estimator, logits.expand(40_000, 4, 3), lambda z: sine(1, 3)(z.unsqueeze(-2)))
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - gradient(Exact(), logits, lambda z: sine(1, 3)(z.unsqueeze(-2)))).abs() < 4 * error).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_without_parts_it_is_as_with_untrained_ones(estimator: Learned, classes: int) -> None:
    estimator = type(estimator).model_validate({"tau": 0.3, "scale": 0.8})
    bound = estimator.using(estimator.parts(3, classes).double())
    logits, cost = normal(20, 3, classes), sine(3, classes)
    assert torch.allclose(gradient(estimator, logits, cost), gradient(bound, logits, cost), atol=1e-6)


def test_a_scale_of_0_is_reinforce() -> None:
    logits, cost, seen = normal(20, 3, 4).requires_grad_(), sine(3, 4), []

    def spied(draws: Tensor) -> Tensor:
        seen.append(draws)
        return cost(draws)

    found = gradient(Rebar(scale=0.0), logits, spied)
    assert torch.allclose(found, cost(seen[0])[:, None, None] * (seen[0] - logits.softmax(-1)), atol=1e-14)


@pytest.mark.parametrize("classes", [2, 4])
def test_parts_get_the_gradient_of_the_mean_square(estimator: Learned, classes: int) -> None:
    """Whatever the loss makes of the values; against finite differences at the same draws and noise."""
    logits, cost, parts = normal(20, 3, classes), sine(3, classes), trained(estimator, 3, classes)
    bound = estimator.using(parts)
    leaf = logits.clone().requires_grad_()
    bound.expectation(leaf, cost, generator=seeded()).square().mean().backward()

    def mean_square() -> float:
        return float(gradient(bound, logits, cost).square().mean())

    for name, parameter in parts.named_parameters():
        assert parameter.grad is not None
        numbers = parameter.data.view(-1)
        for number in {0, len(numbers) // 3, len(numbers) - 1}:
            old = float(numbers[number])
            squares = []
            for step in (1e-5, -1e-5):
                numbers[number] = old + step
                squares.append(mean_square())
            numbers[number] = old
            wanted = (squares[0] - squares[1]) / 2e-5
            assert float(parameter.grad.view(-1)[number]) == pytest.approx(wanted, rel=1e-5, abs=1e-9), name


def test_nothing_of_the_parts_training_reaches_logits_or_cost(estimator: Learned) -> None:
    logits, weights = normal(20, 3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    parts = trained(estimator, 3, 4)
    seen: list[Tensor] = []

    def cost(draws: Tensor) -> Tensor:
        seen.append(draws.detach())
        return (draws * weights).sum((-1, -2)).sin()

    def both(estimates: Tensor) -> list[Tensor]:
        logits.grad = weights.grad = None
        estimates.sum().backward()
        assert logits.grad is not None and weights.grad is not None
        return [logits.grad, weights.grad]

    learning = both(estimator.using(parts).expectation(logits, cost, generator=seeded()))
    frozen = both(estimator.using(parts.requires_grad_(False)).expectation(logits, cost, generator=seeded()))
    assert torch.allclose(learning[0], frozen[0], atol=1e-14)
    (ordinary,) = torch.autograd.grad(cost(seen[0]).sum(), weights)
    assert torch.equal(learning[1], ordinary)
    assert torch.equal(frozen[1], ordinary)


@pytest.mark.parametrize("classes", [2, 3])
def test_training_the_parts_lowers_the_variance_below_that_of_reinforce(estimator: Learned, classes: int) -> None:
    estimator = type(estimator).model_validate({"parts_lr": 0.01})
    logits = normal(3, classes).float().expand(200, 3, classes)
    target = torch.linspace(0.2, 0.9, classes)

    def cost(draws: Tensor) -> Tensor:
        return (draws - target).square().sum((-1, -2))

    def variance(of: Estimator) -> float:
        return float(gradient(of, logits.expand(50, 200, 3, classes).flatten(0, 1), cost, 1000).var(0).sum())

    torch.manual_seed(0)
    parts = estimator.parts(3, classes)
    optimizer, bound = estimator.optimizer(parts), estimator.using(parts)
    untrained = variance(bound)
    leaf = logits.detach().requires_grad_()
    for step in range(300):
        optimizer.zero_grad()
        bound.expectation(leaf, cost, generator=seeded(step)).mean().backward()
        optimizer.step()
    assert variance(bound) < 0.4 * min(untrained, variance(Reinforce()))


def test_the_cost_is_called_with_draws_and_with_two_relaxed_draws(estimator: Learned) -> None:
    seen: list[Tensor] = []

    def cost(draws: Tensor) -> Tensor:
        seen.append(draws.detach())
        return draws.square().sum((-1, -2))

    with torch.no_grad():
        estimator.expectation(torch.zeros(5, 3, 4), cost)
    assert [tuple(draws.shape) for draws in seen] == [(5, 3, 4)]
    seen.clear()
    estimator.expectation(torch.zeros(5, 3, 4), cost)
    assert [tuple(draws.shape) for draws in seen] == [(5, 3, 4), (2, 5, 3, 4)]
    assert sum(draws.numel() for draws in seen) == estimator.evaluations * 60
    assert torch.allclose(seen[1].sum(-1), torch.ones(2, 5, 3))
    assert torch.equal(seen[1].argmax(-1), seen[0].argmax(-1).expand(2, 5, 3))


@pytest.mark.parametrize("is_bound", [True, False])
def test_a_second_derivative_is_refused(estimator: Learned, is_bound: bool) -> None:
    logits = normal(5, 3, 4).requires_grad_()
    if is_bound:
        estimator = estimator.using(trained(estimator, 3, 4))
    total = estimator.expectation(logits, sine(3, 4)).sum()
    (first,) = torch.autograd.grad(total, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="use an estimator without a relaxation"):
        first.square().sum().backward()


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4, 1e30])
def test_masks_and_extreme_logits_leave_the_parts_finite(estimator: Learned, classes: int, scale: float) -> None:
    logits = normal(40, 3, classes).float().mul(scale)
    mask = torch.rand(40, 3, classes, generator=seeded()) < 0.5
    mask[..., 0] = True
    leaf, parts = logits.requires_grad_(), trained(estimator, 3, classes).float()
    estimator.using(parts).expectation(leaf, sine(3, classes), mask=mask, generator=seeded()).sum().backward()
    assert leaf.grad is not None
    assert not leaf.grad[~mask].any()
    for tensor in (leaf, *parts.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parts_learn_from_costs_of_half_precision(estimator: Learned, dtype: torch.dtype) -> None:
    """All but the cost is computed in single, as with a cost that rounds single draws."""
    cost, logits = sine(3, 4), normal(20, 3, 4).to(dtype)

    def slopes(at: Tensor, rounding: Cost) -> list[Tensor]:
        parts = trained(estimator, 3, 4).float()
        estimator.using(parts).expectation(at.requires_grad_(), rounding, generator=seeded()).sum().backward()
        return [parameter.grad for parameter in parts.parameters() if parameter.grad is not None]

    for found, wanted in zip(
        slopes(logits, cost), slopes(logits.float(), lambda draws: cost(draws.to(dtype))), strict=True
    ):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_transformed_code_uses_parts_that_are_frozen(estimator: Learned, classes: int) -> None:
    parts, cost = trained(estimator, 3, classes), sine(3, classes)
    bound, logits = estimator.using(parts), normal(3, classes)

    def transformed() -> Tensor:
        return torch.func.grad(lambda row: bound.expectation(row, cost).sum())(logits)

    with pytest.raises(RuntimeError, match=r"are not trained inside torch\.compile"):
        transformed()
    parts.requires_grad_(False)
    torch.manual_seed(0)
    found = transformed()
    torch.manual_seed(0)
    leaf = logits.clone().requires_grad_()
    bound.expectation(leaf, cost).sum().backward()
    assert leaf.grad is not None
    assert torch.allclose(found, leaf.grad, atol=1e-14)


def test_a_cost_without_a_derivative_is_refused(estimator: Learned) -> None:
    logits = torch.zeros(5, 3, 4, requires_grad=True)
    for each in (estimator, estimator.using(estimator.parts(3, 4))):
        with pytest.raises(ValueError, match="the cost has none; leave out detach and argmax"):
            each.expectation(logits, lambda draws: draws.argmax(-1).sum(-1).float())


def test_a_network_for_other_latents_is_refused() -> None:
    estimator = Relax()
    for latents, classes, wanted in ((2, 4, 16), (3, 2, 6)):
        bound = estimator.using(estimator.parts(latents, classes))
        with pytest.raises(ValueError, match=rf"reads {wanted} numbers .* have 24; make the parts for the latents"):
            bound.expectation(torch.zeros(5, 3, 4, requires_grad=True), lambda draws: draws.sum((-1, -2)))


def test_parts_start_from_the_settings() -> None:
    """The last layer of the network starts at 0, all else is learned from where the settings put it."""
    parts: Any = Relax(tau=0.5, scale=2.0).parts(6, 2)
    assert parts["surrogate"]["log_temperature"].exp().item() == pytest.approx(0.5)
    assert parts["surrogate"]["scale"].item() == 2
    assert [tuple(weight.shape) for weight in parts["network"].parameters()] == [(137, 12), (137,), (1, 137), (1,)]
    assert not parts["network"][-1].weight.any()
