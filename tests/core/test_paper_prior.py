"""The learned prior of the published code, whose probabilities stand in another order than those of the posterior."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reinmax_core import RunSpec, Trainer
from reinmax_core.categorical import one_hot_draws
from reinmax_core.estimators import Exact
from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder
from reinmax_core.tasks.bernoulli_vae import BernoulliVae
from tests.core.test_bernoulli_vae import SMALL, codes, generator, images

PRIOR = [-1.0, 0.3, 2.0]


def autoencoder(prior: list[float] = PRIOR, pairing: str = "paper") -> BernoulliAutoencoder:
    torch.manual_seed(0)
    model = BernoulliAutoencoder(6, 5, len(prior), prior=pairing, parameterisation="paper").double()  # type: ignore[arg-type]
    with torch.no_grad():
        model.encoder[-1].weight.mul_(2)
        model.prior.copy_(torch.tensor(prior))
    return model


def in_order(model: BernoulliAutoencoder) -> list[float]:
    """Probabilities of the prior as the published code lays them out, (p_1, ..., p_L, 1 - p_1, ..., 1 - p_L)."""
    p = [1 / (1 + math.exp(-value)) for value in model.prior.tolist()]
    return p + [1 - value for value in p]


def reference(model: BernoulliAutoencoder, posterior: list[list[float]]) -> float:
    """sum over entries of q (log q - log p), for q in the order (q_1, 1 - q_1, q_2, ...)."""
    entries = [value for row in posterior for value in row]
    return sum(q * math.log(q / p) for q, p in zip(entries, in_order(model), strict=True))


@pytest.mark.parametrize("prior", [PRIOR, [0.7, -0.4], [1.5]])
def test_the_divergence_is_the_formula_of_the_published_code(prior: list[float]) -> None:
    model, x = autoencoder(prior), images()
    logits = model.logits(x)
    expected = [reference(model, posterior) for posterior in logits.softmax(-1).tolist()]
    assert model.divergence(logits).tolist() == pytest.approx(expected, rel=1e-12)


def test_its_mean_over_all_codes_is_the_sampled_one() -> None:
    model, x = autoencoder(), images()
    logits, draws = model.logits(x), codes()
    weights = (draws * logits.log_softmax(-1)).sum((-2, -1)).exp()
    torch.testing.assert_close((weights * model.log_ratio(draws, logits)).sum(0), model.divergence(logits))


def least_divergence(model: BernoulliAutoencoder) -> float:
    """Over all posteriors: -log of the mass of the prior, which is 0 for a distribution."""
    probs = model.prior_logits().log_softmax(-1).exp()
    return model.divergence(probs.log()).item()


def mass(model: BernoulliAutoencoder) -> float:
    """Of the prior, summed over all codes in the published order."""
    entries = in_order(model)
    pairs = zip(entries[::2], entries[1::2], strict=True)
    return math.prod(one + zero for one, zero in pairs)


def test_at_one_half_it_is_a_divergence_and_elsewhere_none() -> None:
    assert least_divergence(autoencoder([0.0, 0.0, 0.0])) == pytest.approx(0, abs=1e-12)
    moved = autoencoder()
    assert mass(moved) < 0.9
    assert least_divergence(moved) == pytest.approx(-math.log(mass(moved)), rel=1e-12)
    assert least_divergence(moved) > 0.1
    # Paired rightly, a posterior equal to the prior is at distance 0.
    rightly = autoencoder(pairing="learned")
    assert rightly.divergence(rightly.prior_logits()).item() == pytest.approx(0, abs=1e-12)


def test_its_mass_is_never_above_one_so_that_bounds_remain_bounds() -> None:
    draws = torch.randn(200, 5, generator=generator()) * 3
    assert max(mass(autoencoder(prior)) for prior in draws.tolist()) <= 1 + 1e-12


def test_the_bound_of_many_draws_is_near_the_evidence_under_that_mass() -> None:
    model, x = autoencoder(), images()
    logits = model.logits(x)
    draws = one_hot_draws(logits.softmax(-1), 20_000, generator())
    log_joint = -model.reconstruction(x, codes()) + (codes() * model.prior_logits()).sum((-2, -1))
    expected: Tensor = -log_joint.logsumexp(0)
    assert model.bound(x, draws, logits).tolist() == pytest.approx(expected.tolist(), abs=0.03)


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_its_gradient_is_that_of_the_formula(kl: str) -> None:
    task, model, x = BernoulliVae.model_validate({"prior": "paper", "kl": kl}), autoencoder(), images()
    loss = task.loss(model, x, Exact(), generator())["loss"]
    found = torch.autograd.grad(loss, (model.prior, *model.encoder.parameters()))
    q = model.logits(x).softmax(-1)
    p = model.prior.sigmoid()
    divergence = (q.flatten(1) * (q.flatten(1) / torch.cat((p, 1 - p))).log()).sum(-1)
    weights = (codes() * q.log()).sum((-2, -1)).exp()
    expected = ((weights * model.reconstruction(x, codes())).sum(0) + divergence).mean()
    for one, other in zip(
        found, torch.autograd.grad(expected, (model.prior, *model.encoder.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_it_is_off_by_default_and_trains() -> None:
    assert BernoulliVae().prior == "fixed"
    run = {"task": SMALL | {"prior": "paper"}, "estimator": "reinmax", "steps": 20, "optimizer": {"lr": 0.05}}
    trainer = Trainer(RunSpec.model_validate(run))
    for _ in trainer:
        pass
    model = trainer.model
    assert isinstance(model, BernoulliAutoencoder)
    assert model.prior.abs().max() > 0.01
    assert trainer.final["test_bound"] > 0
    assert set(trainer.pictures()) == {"reconstructions", "samples"}
