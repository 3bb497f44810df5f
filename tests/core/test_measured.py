"""Estimators that work their gradients out themselves: their means over all draws, and what learned parts learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor, nn

from reinmax_core import RunSpec, Trainer, categorical, gradients, stein
from reinmax_core.estimators import Arms, Disarm, DoubleCv, Estimator, Exact, Learned, Rloo, Rodeo

Cost = Callable[[Tensor], Tensor]
SHAPES = [(2, 2, 2), (2, 2, 3), (2, 3, 2), (1, 3, 3), (3, 2, 2)]
BINARY = [Disarm(), Disarm(samples=4), Arms(samples=2), Arms(), Arms(samples=4)]


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


def mean_and_variance(chances: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Of gradients [T, L, n], the mean [L, n] and the sum of the variances."""
    mean = torch.einsum("t,tln->ln", chances, found)
    return mean, torch.einsum("t,tln->", chances, (found - mean).square())


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


@pytest.mark.parametrize("estimator", [*BINARY, DoubleCv(alpha=0.5), RODEO], ids=repr)
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
    [(DoubleCv(lr=0.03), 0.68), (DoubleCv(samples=3, lr=0.03), 0.79), (Rodeo(lr=0.01), 0.3)],
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


@pytest.mark.parametrize("estimator", [DoubleCv(lr=0.1), Rodeo(samples=3, lr=0.01)], ids=repr)
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


def test_only_what_follows_derivatives_needs_them() -> None:
    logits = torch.zeros(50, 3, 2)

    def cost(draws: Tensor) -> Tensor:
        return draws.argmax(-1).sum(-1).float()

    for estimator in (Disarm(), Arms(), Rodeo()):
        assert gradient(estimator, logits, cost).any()
    for needy in (DoubleCv(), Rodeo().using(Rodeo().parts(3, 2))):
        with pytest.raises(ValueError, match="but the cost has none"):
            gradient(needy, logits, cost)
