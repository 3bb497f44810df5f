"""Estimators that work their gradients out themselves: their means over all draws, and what learned parts learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from reinmax_core import RunSpec, Trainer, gradients, stein
from reinmax_core.estimators import Arms, Disarm, DoubleCv, Estimator, Learned, Rloo, Rodeo
from tests.core.enumerated import (
    Cost,
    cost_of_each,
    exact_gradient,
    gradient,
    joint_cost,
    mean_and_variance,
    normal,
    seeded,
    states,
)

SHAPES = [(2, 2, 2), (2, 2, 3), (2, 3, 2), (1, 3, 3), (3, 2, 2)]


def learned_at_random(estimator: Learned, latents: int, classes: int) -> nn.Module:
    """Parts with which a control variate matters, and whose shares are not 0."""
    parts = estimator.parts(latents, classes).double()
    with torch.no_grad():
        for number, parameter in enumerate(parts.parameters()):
            parameter.copy_(0.3 + normal(*parameter.shape, seed=number) / 2)
    return parts


def over_all_draws(estimator: DoubleCv | Rodeo, logits: Tensor, cost: Cost) -> tuple[Tensor, Tensor]:
    """Chances [T], and gradients [T, L, n], of all combinations of K joint draws."""
    probs, joint = logits.softmax(-1), states(*logits.shape)
    numbers = torch.cartesian_prod(*[torch.arange(len(joint))] * estimator.samples).T
    draws = joint[numbers]
    values, slopes = gradients.values_and_slopes(cost, draws)
    found = estimator._gradient(values.detach(), slopes, draws, probs.expand(draws.shape[1:]))
    return (probs * joint).sum(-1).prod(-1)[numbers].prod(0), found.detach()


RODEO = Rodeo().using(learned_at_random(Rodeo(), 2, 2).float())


@pytest.mark.parametrize("cost_in", [joint_cost, cost_of_each])
@pytest.mark.parametrize(("latents", "classes", "samples"), SHAPES)
@pytest.mark.parametrize("kind", [DoubleCv, Rodeo])
def test_control_variates_leave_no_bias_whatever_was_learned(
    kind: type[DoubleCv | Rodeo], latents: int, classes: int, samples: int, cost_in: Callable[[int, int], Cost]
) -> None:
    estimator, logits, cost = kind(samples=samples), normal(latents, classes), cost_in(latents, classes)
    bound = estimator.using(learned_at_random(estimator, latents, classes))
    chances, found = over_all_draws(bound, logits, cost)
    assert torch.allclose(mean_and_variance(chances, found)[0], exact_gradient(logits, cost), atol=1e-12)
    plain = over_all_draws(estimator.using(estimator.parts(latents, classes).double()), logits, cost)[1]
    assert (found - plain).abs().max() > 0.01, "the control variates make no difference, so the test has no power"


@pytest.mark.parametrize(("latents", "classes"), [(1, 2), (3, 2), (2, 3), (3, 4), (2, 1)])
def test_the_stein_operator_is_its_definition_and_has_mean_0(latents: int, classes: int) -> None:
    probs, joint = normal(latents, classes).softmax(-1), states(latents, classes)
    table = {tuple(x.argmax(-1).tolist()): value for x, value in zip(joint, normal(len(joint), seed=1), strict=True)}
    chances = (probs * joint).sum(-1).prod(-1)

    def h(x: Tensor) -> Tensor:
        return table[tuple(x.argmax(-1).tolist())]

    def moved(x: Tensor, latent: int, number: int) -> Tensor:
        x = x.clone()
        x[latent] = torch.eye(classes, dtype=torch.float64)[number]
        return x

    def applied(function: Cost, x: Tensor) -> Tensor:
        moves = product(range(latents), range(classes))
        return sum(probs[d, c] * (function(moved(x, d, c)) - function(x)) for d, c in moves) / latents

    changes = torch.stack(
        [torch.stack([h(moved(x, d, c)) - h(x) for d in range(latents) for c in range(classes)]) for x in joint]
    ).view(-1, latents, classes)
    of_function = stein.of_function(changes, probs)
    of_product = stein.of_function_times_score(changes, torch.stack([h(x) for x in joint]), joint - probs, probs)
    for x, scalar, vector in zip(joint, of_function, of_product, strict=True):
        assert torch.allclose(scalar, applied(h, x), atol=1e-13)
        assert torch.allclose(vector, applied(lambda y: h(y) * (y - probs), x), atol=1e-13)
    assert (chances * of_function).sum().abs() < 1e-13
    assert torch.einsum("s,sln->ln", chances, of_product).abs().max() < 1e-13


@pytest.mark.parametrize("classes", [2, 3])
def test_rodeo_predicts_from_each_of_the_other_draws(classes: int) -> None:
    """The network's mean over the others j of a draw at (grad f(x_j) . (x - x_j), f(x_j)), with loops."""
    samples, latents = 3, 2
    estimator = Rodeo(samples=samples)
    parts = learned_at_random(estimator, latents, classes)
    values, slopes = normal(samples, seed=1), normal(samples, latents, classes, seed=2)
    draws = states(latents, classes)[[0, 3, 1]]
    first, second, bias, outputs, output_bias = [*parts.parameters()][2:]

    def h(x: Tensor, k: int) -> Tensor:
        hidden = [(slopes[j] * (x - draws[j])).sum() * first + values[j] * second for j in range(samples) if j != k]
        active = [nn.functional.leaky_relu(layer.squeeze(-1) + bias, 0.3) for layer in hidden]
        return sum(outputs @ layer + output_bias for layer in active) / (samples - 1)

    here, changes = estimator.using(parts)._predictions(values, slopes, draws)
    for k, x in enumerate(draws):
        assert torch.allclose(here[:, k], h(x, k), atol=1e-12)
        for latent, number in product(range(latents), range(classes)):
            moved = x.clone()
            moved[latent] = torch.eye(classes, dtype=torch.float64)[number]
            assert torch.allclose(changes[:, k, latent, number], h(moved, k) - h(x, k), atol=1e-12)


@pytest.mark.parametrize(
    "estimator", [Disarm(), Arms(samples=2), Arms(samples=4), DoubleCv(alpha=0.5), RODEO], ids=repr
)
@pytest.mark.parametrize("row", [(0.0, -math.inf), (-math.inf, 0.0), (200.0, -200.0), (0.0, 1e4)])
def test_what_is_certain_has_no_gradient(estimator: Estimator, row: tuple[float, float]) -> None:
    """Beside a variable that is not, whose costs differ; nor has it second derivatives, which could be NaN."""
    logits = torch.tensor([row, (0.3, 0.0)]).repeat(100, 1, 1).requires_grad_()
    total = estimator.expectation(logits, lambda z: (z[..., 0].sum(-1) - 0.3) ** 3, generator=seeded()).sum()
    (first,) = torch.autograd.grad(total, logits, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), logits)
    for derivative in (first, second):
        assert not derivative[:, 0].any()
        assert derivative[:, 1].isfinite().all()
        assert derivative[:, 1].any()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("samples", [2, 5])
def test_nothing_learned_is_leave_one_out(samples: int, classes: int) -> None:
    logits, cost = normal(40, 3, classes), joint_cost(3, classes)
    wanted = gradient(Rloo(samples=samples), logits, cost)
    for estimator in (Rodeo(samples=samples), DoubleCv(samples=samples)):
        bound = estimator.using(estimator.parts(3, classes).double())
        for untrained in (estimator, bound):
            assert torch.allclose(gradient(untrained, logits, cost), wanted, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("estimator", [DoubleCv(samples=3), Rodeo(), Rodeo(samples=3)], ids=repr)
def test_parts_get_the_gradient_of_the_mean_square(estimator: Learned, classes: int) -> None:
    """Whatever is made of the estimates, and none of it goes to the logits or to parameters of the cost."""
    logits = normal(4, 2, classes).requires_grad_()
    weights = normal(2, classes, seed=1).requires_grad_()
    parts = learned_at_random(estimator, 2, classes)

    def cost(draws: Tensor) -> Tensor:
        return (draws * weights).sum((-1, -2)).sin()

    def derivatives() -> tuple[Tensor, Tensor]:
        total = 3 * estimator.using(parts).expectation(logits, cost, generator=seeded()).sum()
        total.backward()
        assert logits.grad is not None
        assert weights.grad is not None
        found = (logits.grad, weights.grad)
        logits.grad = weights.grad = None
        return found

    def mean_square() -> float:
        return (derivatives()[0] / 3).square().mean().item()

    of_model = derivatives()
    of_parts = [parameter.grad for parameter in parts.parameters()]
    parts.requires_grad_(False)
    assert all(torch.equal(*both) for both in zip(of_model, derivatives(), strict=True))

    step = 1e-6
    for number, (parameter, found) in enumerate(zip(parts.parameters(), of_parts, strict=True)):
        assert found is not None
        direction, kept = normal(*parameter.shape, seed=number), parameter.clone()
        up, down = (_at(parameter, kept + sign * step * direction, mean_square) for sign in (1, -1))
        parameter.copy_(kept)
        assert (up - down) / (2 * step) == pytest.approx((found * direction).sum().item(), rel=1e-5, abs=1e-8)
        assert found.abs().max() > 1e-4


def _at(parameter: Tensor, value: Tensor, function: Callable[[], float]) -> float:
    parameter.copy_(value)
    return function()


@pytest.mark.parametrize(
    ("estimator", "share"),
    [(DoubleCv(parts_lr=0.03), 0.68), (DoubleCv(samples=3, parts_lr=0.03), 0.79), (Rodeo(parts_lr=0.01), 0.3)],
    ids=repr,
)
def test_learning_lowers_the_variance(estimator: DoubleCv | Rodeo, share: float) -> None:
    """By enumeration before and after: DoubleCv finds its best alpha, with which it has 0.655 and 0.758 left."""
    logits = normal(3, 2) / 2

    def cost(draws: Tensor) -> Tensor:
        return (draws[..., 1].mean(-1) - 0.3).square()

    torch.manual_seed(0)
    parts = estimator.parts(3, 2).double()
    bound, optimizer = estimator.using(parts), estimator.optimizer(parts)

    def variance() -> float:
        mean, found = mean_and_variance(*over_all_draws(bound, logits, cost))
        assert torch.allclose(mean, exact_gradient(logits, cost), atol=1e-14)
        return found.item()

    before, rows = variance(), logits.expand(50, 3, 2).clone().requires_grad_()
    for step in range(150):
        optimizer.zero_grad()
        bound.expectation(rows, cost, generator=seeded(step)).sum().backward()
        optimizer.step()
    assert variance() < share * before


@pytest.mark.parametrize("estimator", [DoubleCv(parts_lr=0.1), Rodeo(samples=3, parts_lr=0.01)], ids=repr)
def test_a_trainer_trains_the_parts_and_keeps_them(estimator: Learned) -> None:
    run = RunSpec.model_validate({"task": {"name": "polynomial", "latents": 8}, "estimator": estimator, "steps": 20})
    trainer, other = Trainer(run), Trainer(run)
    assert trainer.learning is not None
    assert other.learning is not None
    before = {name: tensor.clone() for name, tensor in trainer.learning.parts.state_dict().items()}
    for _ in trainer:
        pass
    after = trainer.learning.parts.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    other.load_state_dict(trainer.state_dict())
    assert all(torch.equal(after[name], tensor) for name, tensor in other.learning.parts.state_dict().items())


def test_only_what_follows_derivatives_needs_them() -> None:
    logits = torch.zeros(50, 3, 2)

    def cost(draws: Tensor) -> Tensor:
        return draws.argmax(-1).sum(-1).float()

    for estimator in (Disarm(), Arms(), Rodeo()):
        assert gradient(estimator, logits, cost).any()
    for needy in (DoubleCv(), Rodeo().using(Rodeo().parts(3, 2))):
        with pytest.raises(ValueError, match="but the cost has none"):
            gradient(needy, logits, cost)
