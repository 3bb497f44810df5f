"""Bias, spread and direction of estimators: against loops over all draws, and sampled against enumerated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from itertools import product

import pytest
import torch
from torch import Tensor

from reinmax_core import categorical, deviations
from reinmax_core.diagnostics import Figure, Figures, Quality, compare, exact_gradient, quality
from reinmax_core.estimators import (
    Estimator,
    Exact,
    GumbelRao,
    GumbelSoftmax,
    Reinforce,
    ReinMax,
    Rloo,
    Separable,
    StraightThrough,
)
from reinmax_core.estimators.base import DrawDetermined
from reinmax_core.value import discover

Cost = Callable[[Tensor], Tensor]
ESTIMATORS = discover(Estimator)
DETERMINED = [name for name, estimator_class in ESTIMATORS.items() if issubclass(estimator_class, DrawDetermined)]
NAMES = [field.name for field in fields(Figures)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def network(latents: int, classes: int, seed: int = 5) -> Cost:
    """A value for all latents jointly, of every order in the draws."""
    first, second = normal(latents * classes, 6, seed=seed), normal(6, seed=seed + 1)
    return lambda draws: (draws.flatten(-2) @ first).tanh() @ second


def quadratic(latents: int, classes: int, seed: int = 5) -> Cost:
    matrix = normal(latents * classes, latents * classes, seed=seed)
    return lambda draws: ((draws.flatten(-2) @ matrix) * draws.flatten(-2)).sum(-1)


def draws_and_chances(logits: Tensor) -> list[tuple[Tensor, float]]:
    """Every choice of classes for rows of logits [L, n], as `categorical.draw` gives it, with its probability."""
    probs, found = logits.softmax(-1), []
    for classes in product(range(logits.shape[-1]), repeat=len(logits)):
        drawn = torch.tensor(classes, dtype=torch.float64 if logits.shape[-1] == 2 else torch.int64)
        found.append((drawn, math.prod(float(row[number]) for row, number in zip(probs, classes, strict=True))))
    return found


def moments(estimator: DrawDetermined, logits: Tensor, cost: Cost) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the gradient for logits [L, n], one draw after the other."""
    mean, square = torch.zeros_like(logits), torch.zeros_like(logits)
    for drawn, chance in draws_and_chances(logits):
        leaf = logits.clone().requires_grad_()
        value = cost(estimator.through(leaf, drawn, categorical.probabilities(leaf)))
        (gradient,) = torch.autograd.grad(value, leaf)
        mean, square = mean + chance * gradient, square + chance * gradient**2
    return mean, (square - mean**2).clamp(min=0).sqrt()


DEFINED = ("relative_bias", "relative_bias_to_mean", "relative_std", "cosine")


def by_definition(exact: Tensor, mean: Tensor, std: Tensor) -> tuple[float, ...]:
    bias = (exact - mean).norm()
    cosine = exact @ mean / (exact.norm() * mean.norm())
    return tuple(map(float, (bias / exact.norm(), bias / mean.norm(), std.norm() / mean.norm(), cosine)))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", DETERMINED)
def test_enumerated_is_the_loop_over_all_draws(name: str, classes: int) -> None:
    estimator, logits, cost = ESTIMATORS[name](), normal(4, 2, classes), network(2, classes)  # type: ignore[call-arg]
    assert isinstance(estimator, DrawDetermined)
    found = quality(estimator, logits, cost)
    by_hand = [moments(estimator, row, cost) for row in logits]
    mean, std = (torch.stack(column) for column in zip(*by_hand, strict=True))
    assert (found.how, found.count) == ("enumerated", classes**2)
    assert torch.allclose(found.mean, mean, atol=1e-13)
    assert torch.allclose(found.std, std, atol=1e-8)
    for figures, rows in ((found.whole, [slice(None)]), (found.rows, list(range(4)))):
        wanted = [by_definition(found.exact[row].ravel(), mean[row].ravel(), std[row].ravel()) for row in rows]
        for figure, values in zip(DEFINED, zip(*wanted, strict=True), strict=True):
            assert getattr(figures, figure).value == pytest.approx(sum(values) / len(rows))
        assert all(getattr(figures, figure).error == 0 for figure in NAMES)
    assert found.whole.relative_bias_corrected.value == pytest.approx(found.whole.relative_bias.value)


def test_reinmax_has_no_bias_for_quadratics_and_others_have() -> None:
    logits, cost = normal(3, 2, 4), quadratic(2, 4)
    reinmax, tempered, straight = compare((ReinMax(), ReinMax(tau=1.5), StraightThrough()), logits, cost)
    assert reinmax.whole.relative_bias.value < 1e-12
    assert reinmax.whole.cosine.value == pytest.approx(1)
    assert tempered.whole.relative_bias.value > 0.01
    assert straight.whole.relative_bias.value > 0.01
    assert straight.whole.cosine.value < 1


def test_exact_has_neither_bias_nor_spread() -> None:
    found = quality(Exact(), normal(3, 2, 4), network(2, 4))
    assert [getattr(found.whole, name) for name in NAMES] == [Figure(0, 0)] * 4 + [Figure(pytest.approx(1), 0)]
    assert not found.std.any()


@pytest.mark.parametrize("name", DETERMINED)
def test_sampled_and_enumerated_agree_within_errors(name: str) -> None:
    estimator, logits, cost = ESTIMATORS[name](), normal(3, 2, 3), network(2, 3)  # type: ignore[call-arg]
    enumerated = quality(estimator, logits, cost)
    sampled = quality(estimator, logits, cost, exact=enumerated.exact, draws=20_000, generator=seeded(), max_states=1)
    assert (sampled.how, sampled.count) == ("sampled", 20_000)
    assert ((sampled.mean - enumerated.mean).abs() < 4.5 * enumerated.std / 20_000**0.5).all()
    for part in ("whole", "rows"):
        for figure in NAMES:
            estimate, value = getattr(getattr(sampled, part), figure), getattr(getattr(enumerated, part), figure).value
            assert estimate.error > 0
            assert abs(estimate.value - value) < 4 * estimate.error + 2e-4, (part, figure)


@pytest.mark.parametrize("estimator", [Reinforce(), Reinforce(baseline="batch"), Rloo()])
def test_score_functions_have_no_bias_that_draws_show(estimator: Estimator) -> None:
    found = quality(estimator, normal(3, 2, 3), network(2, 3), draws=20_000, generator=seeded())
    assert ((found.mean - found.exact).abs() < 4.5 * found.std / 20_000**0.5).all()
    corrected = found.whole.relative_bias_corrected
    assert corrected.value < 3 * corrected.error
    assert found.whole.relative_bias.value > 0


def test_gumbel_rao_has_the_bias_of_gumbel_softmax_and_less_spread() -> None:
    single, rao = compare(
        (GumbelSoftmax(tau=0.5), GumbelRao(tau=0.5)), normal(3, 2, 4), network(2, 4), draws=20_000, generator=seeded()
    )
    a, b = single.whole.relative_bias_corrected, rao.whole.relative_bias_corrected
    assert abs(a.value - b.value) < 4 * math.hypot(a.error, b.error)
    less, more = rao.whole.relative_std, single.whole.relative_std
    assert less.value < more.value - 4 * math.hypot(less.error, more.error)


@pytest.mark.parametrize("part", ["whole", "rows"])
def test_errors_are_the_spread_of_repetitions(part: str) -> None:
    logits, cost = normal(3, 2, 3), network(2, 3)
    exact = exact_gradient(logits, cost)
    found = [
        getattr(quality(GumbelSoftmax(), logits, cost, exact=exact, draws=600, generator=seeded(seed)), part)
        for seed in range(60)
    ]
    for name in NAMES:
        figures = [getattr(figure, name) for figure in found]
        values = torch.tensor([figure.value for figure in figures])
        error = torch.tensor([figure.error for figure in figures]).mean()
        assert 0.7 < (error / values.std()).item() < 1.4, name


def test_noise_raises_the_bias_and_the_correction_takes_it_off() -> None:
    """With few draws an unbiased estimator looks biased by ||std|| / sqrt(draws), unless that is taken off."""
    logits, cost = normal(3, 2, 3), network(2, 3)
    exact = exact_gradient(logits, cost)
    found = [quality(Rloo(), logits, cost, exact=exact, draws=64, generator=seeded(seed)).whole for seed in range(40)]
    plain = sum(figures.relative_bias.value**2 for figures in found) / 40
    noise = sum(figures.relative_std.value**2 for figures in found) / 40 / 64
    assert plain == pytest.approx(noise, rel=0.3)
    nothing = [figures for figures in found if figures.relative_bias_corrected.value == 0]
    assert 10 < len(nothing) < 35
    assert all(figures.relative_bias_corrected.error > 0 for figures in nothing)


def test_a_batch_is_a_batch_to_an_estimator_that_compares_its_rows() -> None:
    """Three rows of two classes: the spread with a baseline of the other rows, over all eight joint draws."""
    logits, table = normal(3, 2), torch.tensor([[5.0, 6.0], [9.0, 5.0], [3.0, 8.0]], dtype=torch.float64)
    probs, square = logits.softmax(-1), torch.zeros(3, 2, dtype=torch.float64)
    for drawn, chance in draws_and_chances(logits):
        values = table.gather(1, drawn.long().unsqueeze(-1)).squeeze(-1)
        advantage = values - (values.sum() - values) / 2
        square += chance * (advantage.unsqueeze(-1) * (torch.eye(2)[drawn.long()] - probs)) ** 2

    found = quality(
        Reinforce(baseline="batch"), logits, lambda z: (z * table).sum(-1), draws=40_000, generator=seeded()
    )
    assert torch.allclose(found.std, (square - found.exact**2).sqrt(), rtol=0.03)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3)])
def test_a_batch_of_one_has_no_others_to_compare_with(shape: tuple[int, ...]) -> None:
    with_baseline, without = (
        quality(Reinforce(baseline=baseline), normal(*shape), network(2, 3), draws=100, generator=seeded())
        for baseline in ("batch", "none")
    )
    assert torch.equal(with_baseline.std, without.std)
    assert with_baseline.std.shape == shape


def term(draws: Tensor) -> Tensor:
    return ((draws * torch.arange(3.0, dtype=torch.float64)).sum(-1) - 0.4) ** 3


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 3)])
def test_separable_costs_are_enumerated_one_latent_at_a_time(shape: tuple[int, ...]) -> None:
    logits, separable = normal(*shape), Separable(term)
    apart, joint = quality(ReinMax(), logits, separable), quality(ReinMax(), logits, lambda z: separable(z))
    assert (apart.count, joint.count) == (3, 27)
    for name in ("exact", "mean", "std"):
        assert torch.allclose(getattr(apart, name), getattr(joint, name), atol=1e-8)
    many = quality(StraightThrough(), normal(128, 3), separable, max_states=3)
    assert many.how == "enumerated"
    one, other = (
        quality(Rloo(), logits, given, draws=99, generator=seeded()) for given in (separable, lambda z: separable(z))
    )
    assert torch.allclose(one.std, other.std, atol=1e-12)


def test_too_many_states_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"limited to 16384 states, but 128 latents of 2 classes .* 2\^128"):
        quality(ReinMax(), normal(128, 2), network(128, 2))
    found = quality(ReinMax(), normal(128, 2), network(128, 2), exact=normal(128, 2), draws=4, generator=seeded())
    assert found.how == "sampled"


def test_what_cannot_be_told_apart_from_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 4, .* got 3"):
        quality(Rloo(), normal(2, 3), network(2, 3), draws=3)
    with pytest.raises(ValueError, match=r"shape of the logits, \(2, 3\), but has \(3, 2\)"):
        quality(Rloo(), normal(2, 3), network(2, 3), exact=normal(3, 2))
    with pytest.raises(ValueError, match="leading part"):
        quality(Rloo(), normal(4, 2, 3), lambda z: z.sum((-1, -3)))


@pytest.mark.parametrize("estimator", [ReinMax(), Rloo()])
def test_classes_that_cannot_be_drawn_change_nothing(estimator: Estimator) -> None:
    logits, table = normal(4, 2, 3), normal(4, 2, 3, seed=1)
    masked = torch.cat((logits, torch.full((4, 2, 1), -torch.inf, dtype=torch.float64)), -1)

    def cost(draws: Tensor) -> Tensor:
        forbidden = torch.where(draws[..., 3:].sum((-1, -2)) > 0, torch.inf, 0.0) if draws.shape[-1] > 3 else 0.0
        return (draws[..., :3] * table).sum((-1, -2)).exp() + forbidden

    with_it, without = (quality(estimator, given, cost, draws=50, generator=seeded()) for given in (masked, logits))
    for name in ("exact", "mean", "std"):
        assert torch.allclose(getattr(with_it, name)[..., :3], getattr(without, name), atol=1e-12)
        assert not getattr(with_it, name)[..., 3].any()


def test_parts_without_a_gradient_are_left_out_of_averages() -> None:
    logits, cost = normal(3, 2, 3), network(2, 3)
    weights = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    found = quality(StraightThrough(), logits, lambda z: weights * cost(z))
    others = quality(StraightThrough(), logits[::2], cost)
    assert found.rows.relative_bias.value == pytest.approx(others.rows.relative_bias.value)
    nothing = quality(StraightThrough(), logits, lambda z: 0 * cost(z))
    assert all(math.isnan(getattr(nothing.whole, name).value) for name in NAMES)


def test_what_never_varies_has_no_spread() -> None:
    """Straight-through with a linear cost, and rows that are all but certain, so that all draws are equal."""
    logits, weights = normal(3, 2, 3), normal(2, 3, seed=1)

    def cost(draws: Tensor) -> Tensor:
        return (draws * weights).sum((-1, -2))

    exact = exact_gradient(logits, cost)
    for max_states in (1, 9):
        found = quality(
            StraightThrough(), logits, cost, exact=exact, max_states=max_states, draws=50, generator=seeded()
        )
        assert found.std.max() < 1e-16
        assert found.whole.relative_bias.value < 1e-12
    certain = torch.cat((logits, torch.tensor([[[60.0, 0, 0], [0, 60.0, 0]]])))
    found = quality(Rloo(samples=2), certain, cost, draws=50, generator=seeded())
    assert not found.mean[3].any()
    others = quality(Rloo(samples=2), logits, cost, draws=50, generator=seeded())
    assert found.rows.relative_std.value == pytest.approx(others.rows.relative_std.value, rel=0.3)


@pytest.mark.parametrize("estimator", [StraightThrough(), GumbelSoftmax(), Rloo()])
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, estimator: Estimator) -> None:
    logits, cost = normal(5, 4, 2), network(4, 2)
    seen: list[int] = []
    exact, whole = exact_gradient(logits, cost), quality(StraightThrough(), logits, cost)
    monkeypatch.setattr(deviations, "WORKING_SET", 200)

    def counted(draws: Tensor) -> Tensor:
        seen.append(draws.numel())
        return cost(draws)

    found = quality(estimator, logits, counted, exact=exact, draws=200, generator=seeded())
    assert max(seen) <= 200
    # One evaluation tells the shape of the values, and one estimate is what the others are compared with.
    assert sum(seen[2:]) == found.count * estimator.evaluations * logits.numel()
    if found.how == "enumerated":
        assert torch.allclose(found.std, whole.std, atol=1e-8)


@pytest.mark.parametrize("name", [name for name, found in ESTIMATORS.items() if not found.binary_only])
def test_every_estimator_is_examined_without_a_trace(name: str) -> None:
    estimator, layer = ESTIMATORS[name](), torch.nn.Linear(6, 1)  # type: ignore[call-arg]
    before = torch.get_rng_state()

    def cost(draws: Tensor) -> Tensor:
        values: Tensor = layer(draws.flatten(-2)).squeeze(-1).sin()
        return values

    def found() -> Quality:
        with torch.no_grad():
            return quality(estimator, normal(3, 2, 3).float().requires_grad_(), cost, draws=8, generator=seeded())

    first = found()
    assert first.mean.shape == first.std.shape == (3, 2, 3)
    assert first.mean.dtype == torch.float64
    assert first.mean.isfinite().all() and first.std.isfinite().all()
    assert first.mean.sum(-1).abs().max() < 1e-5
    assert torch.equal(first.mean, found().mean)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer.weight.grad is None


def test_binary_estimators_are_examined() -> None:
    for name, estimator_class in ESTIMATORS.items():
        found = quality(estimator_class(), normal(3, 2, 2), network(2, 2), draws=64, generator=seeded())  # type: ignore[call-arg]
        assert found.estimator.name == name
        assert name in str(found)
