"""Variational inference by Pyro itself, with latents that pass our gradients."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from reinmax_core.distributions import (
    OneHotCategoricalPathwise,
    OneHotCategoricalReinMax,
    OneHotCategoricalTemperedStraightThrough,
    for_pyro,
)
from reinmax_core.estimators import GumbelSoftmax, ReinMax

CENTRES = torch.tensor([-2.0, -0.5, 0.5, 1.5], dtype=torch.float64)
WEIGHTS = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
DATA = torch.tensor([-1.5, 0.1, 1.2], dtype=torch.float64)


@pytest.fixture
def pyro() -> Iterator[ModuleType]:
    import pyro
    import pyro.distributions.torch_distribution
    import pyro.infer
    import pyro.optim

    pyro.clear_param_store()
    yield pyro
    pyro.clear_param_store()


def mixture(pyro: ModuleType, guide_class: type, prior_class: type) -> SimpleNamespace:
    """A mixture of normals with known parts, each observation with a latent part and a posterior of its own."""

    def model() -> None:
        with pyro.plate("data", len(DATA)):
            part = pyro.sample("part", prior_class(probs=WEIGHTS))
            pyro.sample("observed", pyro.distributions.Normal(part @ CENTRES, 1.0), obs=DATA)

    def guide() -> None:
        logits = pyro.param("logits", torch.zeros(len(DATA), len(CENTRES), dtype=torch.float64))
        with pyro.plate("data", len(DATA)):
            pyro.sample("part", guide_class(logits=logits))

    return SimpleNamespace(model=model, guide=guide)


def log_joint() -> Tensor:
    """log p(part, observed) [observations, parts]."""
    return WEIGHTS.log() + torch.distributions.Normal(CENTRES, 1.0).log_prob(DATA.unsqueeze(-1))


def gradient_by_pyro(pyro: ModuleType, elbo: str, parts: SimpleNamespace, particles: int) -> Tensor:
    pyro.set_rng_seed(0)
    loss = getattr(pyro.infer, elbo)(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    loss.loss_and_grads(parts.model, parts.guide)
    gradient = pyro.param("logits").grad
    assert gradient is not None
    return gradient  # type: ignore[no-any-return]


@pytest.mark.parametrize("estimator", [ReinMax(), GumbelSoftmax(tau=0.5)], ids=lambda estimator: estimator.name)
def test_the_gradient_is_that_of_the_estimator_draw_by_draw(
    pyro: ModuleType, estimator: ReinMax | GumbelSoftmax
) -> None:
    """The evidence bound with the same seed, written out: no score function enters."""

    def guide_class(logits: Tensor) -> OneHotCategoricalPathwise:
        return for_pyro(OneHotCategoricalPathwise)(logits=logits, estimator=estimator)

    parts = mixture(pyro, guide_class, for_pyro(OneHotCategoricalReinMax))  # type: ignore[arg-type]
    found = gradient_by_pyro(pyro, "Trace_ELBO", parts, particles=11)
    logits = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    draws = estimator.sample(logits.expand(11, 3, 4))
    likelihood = torch.distributions.Normal(draws @ CENTRES, 1.0).log_prob(DATA)
    bound = likelihood + draws @ WEIGHTS.log() - (draws * logits.log_softmax(-1)).sum(-1)
    wanted = torch.autograd.grad(-bound.sum(-1).mean(), logits)[0]
    assert torch.allclose(found, wanted, atol=1e-14)


@pytest.mark.parametrize(
    ("elbo", "own_prior", "unbiased"),
    [("Trace_ELBO", True, True), ("TraceMeanField_ELBO", False, True), ("Trace_ELBO", False, False)],
)
def test_the_gradient_is_unbiased(pyro: ModuleType, elbo: str, own_prior: bool, unbiased: bool) -> None:
    """ReinMax is exact here, the bound being quadratic in the draws, unless the prior passes them no gradient."""
    prior_class = for_pyro(OneHotCategoricalReinMax) if own_prior else pyro.distributions.OneHotCategorical
    found = gradient_by_pyro(pyro, elbo, mixture(pyro, for_pyro(OneHotCategoricalReinMax), prior_class), 200_000)
    logits = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    bound = (logits.softmax(-1) * (log_joint() - logits.log_softmax(-1))).sum()
    wanted = torch.autograd.grad(-bound, logits)[0]
    error = float((found - wanted).norm() / wanted.norm())
    assert error < 0.02 if unbiased else error > 0.2


def test_inference_finds_the_exact_posterior_and_evidence(pyro: ModuleType) -> None:
    parts = mixture(pyro, for_pyro(OneHotCategoricalReinMax), for_pyro(OneHotCategoricalReinMax))
    pyro.set_rng_seed(0)
    optimizer = pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.985})
    elbo = pyro.infer.Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1)
    inference = pyro.infer.SVI(parts.model, parts.guide, optimizer, elbo)
    start = inference.evaluate_loss()
    for _ in range(300):
        inference.step()
    found, joint = pyro.param("logits").detach().softmax(-1), log_joint()
    evidence = joint.logsumexp(-1).sum().item()
    assert torch.allclose(found, joint.softmax(-1), atol=0.02)
    assert -inference.evaluate_loss() == pytest.approx(evidence, abs=0.01)
    assert start + evidence > 0.5


def test_classes_for_pyro_are_pyros_and_ours(pyro: ModuleType) -> None:
    mixed = for_pyro(OneHotCategoricalTemperedStraightThrough)
    assert for_pyro(OneHotCategoricalTemperedStraightThrough) is mixed is for_pyro(mixed)
    assert issubclass(mixed, OneHotCategoricalTemperedStraightThrough)
    assert issubclass(mixed, pyro.distributions.torch_distribution.TorchDistributionMixin)
    assert mixed.__doc__ == OneHotCategoricalTemperedStraightThrough.__doc__
    distribution = mixed(logits=torch.zeros(5, 4), tau=0.7)
    expanded = distribution.expand_by([3])  # type: ignore[attr-defined]
    assert type(expanded) is mixed
    assert expanded.estimator.tau == 0.7
    joint = expanded.to_event(1).mask(torch.tensor([True, False, True]))
    draws = joint()
    assert draws.shape == (3, 5, 4)
    assert joint.has_rsample
    wanted = torch.tensor([-5 * math.log(4), 0, -5 * math.log(4)])
    assert torch.allclose(joint.log_prob(draws), wanted)


def test_a_class_of_the_users_own(pyro: ModuleType) -> None:
    @for_pyro
    class Own(OneHotCategoricalReinMax):
        pass

    pyro.set_rng_seed(0)
    draw = pyro.sample("z", Own(logits=torch.zeros(4).requires_grad_()))
    assert draw.requires_grad
    assert draw.sum() == 1


def test_without_pyro_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(OneHotCategoricalReinMax):
        pass

    monkeypatch.setitem(sys.modules, "pyro.distributions.torch_distribution", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyro-ppl"):
        for_pyro(Own)


def test_pyro_is_not_imported_before_it_is_asked_for() -> None:
    program = "import reinmax_core.distributions, sys; sys.exit('pyro' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
