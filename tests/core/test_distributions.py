"""Distributions in the manner of torch.distributions, against torch's own and against the estimators alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    kl_divergence,
)

from reinmax_core.distributions import (
    OneHotCategoricalGappedStraightThrough,
    OneHotCategoricalGumbelRao,
    OneHotCategoricalGumbelSoftmax,
    OneHotCategoricalPathwise,
    OneHotCategoricalReinMax,
    OneHotCategoricalTemperedStraightThrough,
)
from reinmax_core.estimators import (
    Estimator,
    Exact,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    Pathwise,
    ReinMax,
    Rloo,
    StraightThrough,
)
from reinmax_core.value import discover

NAMED: dict[type[OneHotCategoricalPathwise], tuple[dict[str, Any], Pathwise]] = {
    OneHotCategoricalReinMax: ({"tau": 1.3}, ReinMax(tau=1.3)),
    OneHotCategoricalTemperedStraightThrough: ({"tau": 0.8}, StraightThrough(tau=0.8)),
    OneHotCategoricalGumbelSoftmax: ({"tau": 0.6}, GumbelSoftmax(tau=0.6)),
    OneHotCategoricalGumbelRao: ({"tau": 0.6, "samples": 7}, GumbelRao(tau=0.6, samples=7)),
    OneHotCategoricalGappedStraightThrough: ({"tau": 0.7, "gap": "p"}, GappedStraightThrough(tau=0.7, gap="p")),
}
RANDOM = [
    estimator_class()
    for name, estimator_class in discover(Estimator).items()
    if issubclass(estimator_class, Pathwise) and name != "argmax_straight_through"
]
MASKED = torch.tensor([[0.3, float("-inf"), 1.2, -0.5], [0.1, float("-inf"), -0.7, 0.0]], dtype=torch.float64)


@pytest.fixture(params=NAMED, ids=lambda named: named.__name__)
def named(request: pytest.FixtureRequest) -> type[OneHotCategoricalPathwise]:
    return request.param  # type: ignore[no-any-return]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seeded(draw: Callable[[], Tensor], seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return draw()


def gradient(of: Tensor, at: Tensor, upstream: Tensor | None = None) -> Tensor:
    upstream = torch.ones_like(of) if upstream is None else upstream
    return torch.autograd.grad(of, at, upstream, retain_graph=True)[0]


@pytest.mark.parametrize("sample_shape", [(), (6,), (2, 3, 1)])
def test_draws_and_gradients_are_those_of_the_estimator(
    named: type[OneHotCategoricalPathwise], sample_shape: tuple[int, ...]
) -> None:
    settings, estimator = NAMED[named]
    logits = normal(5, 4).requires_grad_()
    distribution = named(logits=logits, **settings)
    assert distribution.has_rsample
    assert distribution.estimator == estimator
    draws = seeded(lambda: distribution.rsample(sample_shape))
    wanted = seeded(lambda: estimator.sample(logits.expand(*sample_shape, 5, 4)))
    upstream = normal(*sample_shape, 5, 4, seed=1)
    assert draws.shape == (*sample_shape, 5, 4)
    assert torch.equal(draws, wanted)
    assert torch.equal(gradient(draws, logits, upstream), gradient(wanted, logits, upstream))


@pytest.mark.parametrize("estimator", RANDOM, ids=lambda estimator: estimator.name)
def test_frequencies_are_the_probabilities(estimator: Pathwise) -> None:
    probs = torch.tensor([0.1, 0.0, 0.55, 0.35])
    for argument in ({"probs": 3 * probs}, {"logits": probs.log() + 2}):
        distribution = OneHotCategoricalPathwise(**argument, estimator=estimator)
        draws = seeded(lambda distribution=distribution: distribution.rsample((20_000,)))
        distribution.log_prob(draws)  # exactly one-hot, or it would be refused
        counts = draws.sum(0)
        assert counts[1] == 0
        assert chisquare(counts[probs > 0], 20_000 * probs[probs > 0].double()).pvalue > 1e-3


def test_sample_is_rsample_without_a_gradient(named: type[OneHotCategoricalPathwise]) -> None:
    distribution = named(logits=normal(5, 4).requires_grad_())
    draws = seeded(lambda: distribution.sample(torch.Size([3])))
    assert not draws.requires_grad
    assert torch.equal(draws, seeded(lambda: distribution.rsample((3,))))
    assert not torch.equal(draws, distribution.sample((3,)))


def test_expansion_keeps_type_settings_and_gradient(named: type[OneHotCategoricalPathwise]) -> None:
    settings, estimator = NAMED[named]
    logits = normal(5, 4).requires_grad_()
    for argument in ({"logits": logits}, {"probs": logits.softmax(-1)}):
        distribution = named(**argument, **settings, validate_args=False)
        expanded = distribution.expand((3, 5)).expand(torch.Size([2, 3, 5]))
        assert type(expanded) is named
        assert (expanded.batch_shape, expanded.event_shape) == ((2, 3, 5), (4,))
        assert expanded.estimator == estimator
        assert not expanded._validate_args
        assert distribution.batch_shape == (5,)
        draws, wanted = seeded(expanded.rsample), seeded(lambda one=distribution: one.rsample((2, 3)))
        upstream = normal(2, 3, 5, 4, seed=1)
        assert torch.equal(draws, wanted)
        assert torch.allclose(gradient(draws, logits, upstream), gradient(wanted, logits, upstream), atol=1e-14)
        assert torch.equal(expanded.entropy(), distribution.entropy().expand(2, 3, 5))


@pytest.mark.parametrize("argument", ["logits", "probs"])
def test_numbers_are_those_of_torch(named: type[OneHotCategoricalPathwise], argument: str) -> None:
    tensor = normal(5, 4) if argument == "logits" else normal(5, 4).exp()
    ours, theirs = named(**{argument: tensor}), OneHotCategorical(**{argument: tensor})
    for name in ("probs", "logits", "mean", "mode", "variance", "param_shape", "batch_shape", "event_shape"):
        assert torch.equal(torch.as_tensor(getattr(ours, name)), torch.as_tensor(getattr(theirs, name)))
    assert torch.equal(ours.entropy(), theirs.entropy())
    for expand in (True, False):
        support = ours.enumerate_support(expand)
        assert torch.equal(support, theirs.enumerate_support(expand))
        assert torch.equal(ours.log_prob(support), theirs.log_prob(support))


@pytest.mark.parametrize("argument", ["logits", "probs"])
def test_divergences_are_those_of_torch(argument: str) -> None:
    """Of ours from ours, and of ours from torch's, both ways, gradients included; broadcast."""
    tensors = [normal(5, 4).exp(), normal(3, 1, 4, seed=1).exp()]
    upstream = normal(3, 5, seed=2)

    def found(p: Callable[..., OneHotCategorical], q: Callable[..., OneHotCategorical]) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        divergence = kl_divergence(p(**{argument: leaves[0]}), q(**{argument: leaves[1]}))
        return [divergence, *torch.autograd.grad(divergence, leaves, upstream)]

    wanted = found(OneHotCategorical, OneHotCategorical)
    classes = [OneHotCategorical, OneHotCategoricalReinMax, OneHotCategoricalGumbelRao]
    for p, q in itertools.product(classes, classes):
        torch.testing.assert_close(found(p, q), wanted, atol=1e-14, rtol=1e-12)


def test_divergence_where_classes_are_masked() -> None:
    """Finite with a gradient where both mask the class, infinite where only the second does."""
    logits, other = MASKED.clone().requires_grad_(), normal(2, 4)
    also_masked = other.masked_fill(MASKED.isinf(), float("-inf"))
    kept = [0, 2, 3]
    leaf = MASKED[:, kept].clone().requires_grad_()
    wanted = kl_divergence(OneHotCategorical(logits=leaf), OneHotCategorical(logits=other[:, kept]))
    found = kl_divergence(OneHotCategoricalReinMax(logits=logits), OneHotCategorical(logits=also_masked))
    assert torch.allclose(found, wanted, atol=1e-15)
    slope = gradient(found, logits)
    assert torch.allclose(slope[:, kept], gradient(wanted, leaf), atol=1e-15)
    assert not slope[:, 1].any()
    infinite = kl_divergence(OneHotCategorical(logits=other), OneHotCategoricalReinMax(logits=logits))
    assert (infinite == float("inf")).all()


def test_masked_classes(named: type[OneHotCategoricalPathwise]) -> None:
    """Entropy, log-probability and draws, with the gradients of the distribution that lacks the class."""
    logits, kept = MASKED.clone().requires_grad_(), [0, 2, 3]
    leaf = MASKED[:, kept].clone().requires_grad_()
    ours, smaller = named(logits=logits), OneHotCategorical(logits=leaf)
    values = torch.eye(4, dtype=torch.float64)[kept].unsqueeze(1)
    pairs = [(ours.entropy(), smaller.entropy()), (ours.log_prob(values), smaller.log_prob(values[..., kept]))]
    for found, wanted in pairs:
        assert torch.allclose(found, wanted, atol=1e-15)
        slope = gradient(found, logits)
        assert torch.allclose(slope[:, kept], gradient(wanted, leaf), atol=1e-14)
        assert not slope[:, 1].any()
    assert (ours.log_prob(torch.eye(4, dtype=torch.float64)[1]) == float("-inf")).all()
    draws = ours.rsample((50,))
    assert not draws[..., 1].any()
    slope = gradient(ours.log_prob(draws) + draws @ normal(4), logits)
    assert slope.isfinite().all()
    assert not slope[:, 1].any()


def test_log_probability_of_a_draw_passes_a_gradient_to_both() -> None:
    """The mean gradient of log q(z) - log p(z) over all draws is that of the divergence, as both are linear in z."""
    logits, prior = normal(1, 4).requires_grad_(), OneHotCategoricalReinMax(logits=normal(4, seed=1))
    for estimator in (ReinMax(), StraightThrough()):
        rows = logits.expand(4, 4)
        probs = rows.detach().softmax(-1)
        draws = estimator.through(rows, torch.arange(4), probs)
        q = OneHotCategoricalPathwise(logits=rows, estimator=estimator)
        mean = (probs.diagonal() * (q.log_prob(draws) - prior.log_prob(draws))).sum()
        wanted = kl_divergence(OneHotCategoricalPathwise(logits=logits, estimator=estimator), prior).sum()
        assert torch.allclose(mean, wanted, atol=1e-15)
        assert torch.allclose(gradient(mean, logits), gradient(wanted, logits), atol=1e-15)


def test_log_probability_under_functional_derivatives() -> None:
    estimator, prior = ReinMax(), OneHotCategoricalReinMax(logits=normal(4, seed=1))

    def loss(logits: Tensor) -> Tensor:
        return prior.log_prob(estimator.sample(logits)).sum()

    logits = normal(3, 4).requires_grad_()
    wanted = gradient(seeded(lambda: loss(logits)), logits)
    torch.manual_seed(0)
    assert wanted.abs().sum() > 0
    assert torch.allclose(torch.func.grad(loss)(logits.detach()), wanted, atol=1e-15)


@pytest.mark.parametrize("argument", ["logits", "probs"])
def test_gradient_is_that_of_torch_where_it_has_the_estimator(argument: str) -> None:
    """For `probs` too, through their normalisation."""
    tensor = normal(5, 4) if argument == "logits" else normal(5, 4).exp()
    upstream = normal(3, 5, 4, seed=1)
    leaves = [tensor.clone().requires_grad_() for _ in range(2)]
    theirs = OneHotCategoricalStraightThrough(**{argument: leaves[0]})
    ours = OneHotCategoricalTemperedStraightThrough(**{argument: leaves[1]})
    for shape in ((), (3,)):
        found, wanted = (
            gradient(one.rsample(shape), leaf, upstream if shape else upstream[0])
            for one, leaf in zip((ours, theirs), reversed(leaves), strict=True)
        )
        assert torch.allclose(found, wanted, atol=1e-14)


def test_impossible_classes_given_by_probabilities() -> None:
    probs = torch.tensor([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    draws = seeded(lambda: OneHotCategoricalReinMax(probs=probs).rsample((100,)))
    assert not draws[:, 0, 0].any()
    assert draws[:, 1, 0].all()
    slope = gradient(draws, probs, normal(100, 2, 3))
    assert slope.isfinite().all()
    assert slope[probs == 0].abs().max() < 1e-12
    assert slope[0, 1:].abs().min() > 0.1


@pytest.mark.parametrize("argument", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(named: type[OneHotCategoricalPathwise], dtype: torch.dtype, argument: str) -> None:
    """Values in the dtype of the argument; numbers about them in single precision."""
    tensor = normal(50, 7).softmax(-1).to(dtype).requires_grad_()
    distribution = named(**{argument: tensor})
    expanded = distribution.expand((2, 50))
    draws = seeded(distribution.rsample)
    for values in (draws, expanded.sample(), distribution.mean, distribution.mode, expanded.enumerate_support()):
        assert values.dtype == dtype
    for numbers in (distribution.log_prob(draws), distribution.entropy(), distribution.probs):
        assert numbers.dtype == torch.float32
    upstream = normal(50, 7, seed=1).to(dtype)
    leaf = tensor.detach().float().requires_grad_()
    single = seeded(named(**{argument: leaf}).rsample)
    assert torch.equal(single, draws.float())
    wanted = gradient(single, leaf, upstream.float())
    assert torch.allclose(gradient(draws, tensor, upstream).float(), wanted, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_any_layout_and_size(named: type[OneHotCategoricalPathwise], classes: int) -> None:
    theta = normal(4, classes).requires_grad_()
    dense = theta.expand(3, 4, classes).contiguous()
    transposed = dense.transpose(0, 1).contiguous().transpose(0, 1)
    upstream = normal(6, 3, 4, classes, seed=1)
    found = [
        gradient(seeded(lambda logits=logits: named(logits=logits).rsample((6,))), theta, upstream)
        for logits in (dense, theta.expand(3, 4, classes), transposed)
    ]
    torch.testing.assert_close(found, [found[0]] * 3, atol=1e-13, rtol=1e-13)
    single = named(logits=torch.zeros(classes))
    assert single.rsample().shape == (classes,)
    assert single.expand((0,)).rsample((2,)).shape == (2, 0, classes)


def test_independent_and_mixtures(named: type[OneHotCategoricalPathwise]) -> None:
    logits, prior = normal(5, 3, 4).requires_grad_(), normal(5, 3, 4, seed=1)
    joint = Independent(named(logits=logits), 1)
    assert joint.has_rsample
    draws = joint.rsample((2,))
    assert joint.log_prob(draws).shape == (2, 5)
    assert gradient(draws, logits, normal(2, 5, 3, 4)).abs().sum() > 0
    theirs = Independent(OneHotCategorical(logits=prior), 1)
    wanted = kl_divergence(Independent(OneHotCategorical(logits=logits), 1), theirs)
    assert torch.allclose(kl_divergence(joint, theirs), wanted, atol=1e-14)
    weights = Categorical(logits=normal(5, 3, seed=2))
    mixture, same = (MixtureSameFamily(weights, one(logits=logits)) for one in (named, OneHotCategorical))
    values = torch.eye(4, dtype=torch.float64).unsqueeze(1)
    assert torch.allclose(mixture.log_prob(values), same.log_prob(values), atol=1e-15)
    assert mixture.log_prob(mixture.sample((2,))).shape == (2, 5)


@pytest.mark.parametrize("estimator", [Rloo(), Exact()])
def test_estimators_without_a_path_are_refused(estimator: Any) -> None:
    with pytest.raises(TypeError, match=rf"got {type(estimator).__name__}\(.*pass a Pathwise one"):
        OneHotCategoricalPathwise(logits=torch.zeros(3), estimator=estimator)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValidationError, match=r"(?s)tau.*greater than or equal to 1.*0\.5"):
        OneHotCategoricalReinMax(logits=torch.zeros(3), tau=0.5)
    with pytest.raises(ValueError, match="but not both"):
        OneHotCategoricalReinMax(torch.ones(3), torch.zeros(3))
    for logits in ([float("nan"), 0.0], [float("-inf"), float("-inf")], [float("inf"), 0.0]):
        with pytest.raises(ValueError, match="invalid values"):
            OneHotCategoricalReinMax(logits=torch.tensor(logits))
    with pytest.raises(ValueError, match="within the support"):
        OneHotCategoricalReinMax(logits=torch.zeros(2)).log_prob(torch.tensor([0.5, 0.5]))


def test_a_distribution_shows_what_it_was_given_and_its_estimator() -> None:
    logits = normal(3, 4)
    distribution = OneHotCategoricalReinMax(logits=logits, tau=1.3)
    shown = "OneHotCategoricalReinMax(logits: torch.Size([3, 4]), estimator: ReinMax(tau=1.3))"
    assert repr(distribution) == shown
    assert distribution.probs.shape == (3, 4)
    assert repr(distribution) == shown, "what was worked out since is shown as well"
    assert repr(distribution.expand((2, 3))) == shown.replace("[3, 4]", "[2, 3, 4]")
    given = OneHotCategoricalPathwise(logits.softmax(-1), estimator=GumbelRao(tau=0.5, samples=7))
    assert repr(given) == (
        "OneHotCategoricalPathwise(probs: torch.Size([3, 4]), estimator: GumbelRao(tau=0.5, samples=7))"
    )
