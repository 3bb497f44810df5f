"""The autoencoder with binary latents: bounds and gradients by enumeration, refusals, resumption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, product
from typing import Any

import pytest
import torch
from torch import Tensor

from reinmax_core import RunSpec, Trainer
from reinmax_core.checkpoint import encode, restore
from reinmax_core.data import DataSource
from reinmax_core.estimators import Exact, ReinMax, Relax, Rloo, StraightThrough
from reinmax_core.estimators.base import Estimator
from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder
from reinmax_core.tasks.bernoulli_vae import BernoulliVae
from reinmax_core.value import discover

CPU = torch.device("cpu")
SOURCE = DataSource.from_environment()
PIXELS = 6
SETTINGS = [{"parameterisation": p, "prior": q} for p in ("logit", "paper") for q in ("fixed", "learned")]
SMALL: dict[str, Any] = {
    "name": "bernoulli_vae", "latents": 3, "hidden": 8, "batch": 8, "bound_samples": 3, "bound_images": 20,
    "gradient_batches": 3,
}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def autoencoder(**settings: str) -> BernoulliAutoencoder:
    """Three latents and six pixels in double precision, away from the uniform posterior and prior."""
    torch.manual_seed(0)
    model = BernoulliAutoencoder(
        PIXELS,
        5,
        3,
        prior=settings["prior"],  # type: ignore[arg-type]
        parameterisation=settings["parameterisation"],  # type: ignore[arg-type]
    ).double()
    with torch.no_grad():
        model.encoder[-1].weight.mul_(2)
        if settings["prior"] == "learned":
            model.prior.copy_(torch.tensor([-1.0, 0.3, 2.0]))
    return model


def images(count: int = 4) -> Tensor:
    return (torch.rand(count, PIXELS, generator=generator(), dtype=torch.float64) < 0.4).double()


def log_bernoulli(value: float, probability: float) -> float:
    return math.log(probability if value else 1 - probability)


def by_enumeration(model: BernoulliAutoencoder, image: list[float]) -> tuple[float, float, float, float]:
    """Reconstruction, divergence, entropy and -log p(x) of an image, with plain loops over all codes."""
    outputs = model.encoder(torch.tensor(image).double()).tolist()
    odds = [2 * r - 1 for r in outputs] if model.parameterisation == "paper" else outputs
    posterior = [1 / (1 + math.exp(-eta)) for eta in odds]
    prior = [1 / (1 + math.exp(-pi)) for pi in model.prior.tolist()]
    reconstruction = divergence = entropy = evidence = 0.0
    for code in product((0.0, 1.0), repeat=len(odds)):
        log_q = sum(map(log_bernoulli, code, posterior))
        log_prior = sum(map(log_bernoulli, code, prior))
        means = model.decoder(torch.tensor(code).double()).sigmoid().tolist()
        likelihood = sum(map(log_bernoulli, image, means))
        reconstruction -= math.exp(log_q) * likelihood
        divergence += math.exp(log_q) * (log_q - log_prior)
        entropy -= math.exp(log_q) * log_q
        evidence += math.exp(likelihood + log_prior)
    return reconstruction, divergence, entropy, -math.log(evidence)


def codes(count: int = 4) -> Tensor:
    """All codes of three latents as one-hot draws for each image, [8, images, 3, 2]."""
    first = torch.tensor(list(product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    return torch.stack((first, 1 - first), -1).unsqueeze(1).expand(8, count, 3, 2)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_terms_of_the_bound_are_those_by_enumeration(settings: dict[str, str]) -> None:
    model, x = autoencoder(**settings), images()
    logits, draws = model.logits(x), codes()
    weights = (draws * logits.log_softmax(-1)).sum((-2, -1)).exp()
    expected = torch.tensor([by_enumeration(model, image) for image in x.tolist()], dtype=torch.float64).unbind(-1)
    reconstruction, divergence, entropy, evidence = expected
    torch.testing.assert_close((weights * model.reconstruction(x, draws)).sum(0), reconstruction)
    torch.testing.assert_close((weights * model.log_ratio(draws, logits)).sum(0), divergence)
    torch.testing.assert_close(model.divergence(logits), divergence)
    torch.testing.assert_close(model.entropy(logits), entropy)
    # The mean weight of all codes, each as often as q has it, is p(x).
    log_joint = -model.reconstruction(x, draws) - model.log_ratio(draws, logits) + weights.log()
    torch.testing.assert_close(-log_joint.logsumexp(0), evidence)


def test_the_bound_of_many_draws_is_near_the_evidence_and_that_of_one_is_the_cost() -> None:
    model, x = autoencoder(parameterisation="logit", prior="learned"), images()
    logits = model.logits(x)
    draws = ReinMax().sample(logits.expand(20_000, *logits.shape), generator=generator())
    evidence = [by_enumeration(model, image)[3] for image in x.tolist()]
    assert model.bound(x, draws, logits).tolist() == pytest.approx(evidence, abs=0.03)
    one = model.reconstruction(x, draws[:1]) + model.log_ratio(draws[:1], logits)
    torch.testing.assert_close(model.bound(x, draws[:1], logits), one[0])


def true_gradient(model: BernoulliAutoencoder, x: Tensor) -> list[Tensor]:
    """Of the mean negative bound, from its definition as a sum over codes, for all parameters."""
    logits, draws = model.logits(x), codes()
    log_q = (draws * logits.log_softmax(-1)).sum((-2, -1))
    prior = torch.stack((model.prior, torch.zeros_like(model.prior)), -1).log_softmax(-1)
    cost = model.reconstruction(x, draws) - (draws * prior).sum((-2, -1)) + log_q
    return list(torch.autograd.grad((log_q.exp() * cost).sum(0).mean(), tuple(model.parameters())))


def gradient(task: BernoulliVae, model: BernoulliAutoencoder, x: Tensor, estimator: Estimator) -> list[Tensor]:
    loss = task.loss(model, x, estimator, generator())["loss"]
    return list(torch.autograd.grad(loss, tuple(model.parameters())))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_the_exact_gradient_of_the_loss_is_that_of_the_bound(settings: dict[str, str], kl: str) -> None:
    task, model, x = BernoulliVae.model_validate(settings | {"kl": kl}), autoencoder(**settings), images()
    torch.testing.assert_close(gradient(task, model, x, Exact()), true_gradient(model, x))
    bound = sum(sum(by_enumeration(model, image)[:2]) for image in x.tolist()) / len(x)
    assert task.loss(model, x, Exact(), generator())["loss"].item() == pytest.approx(bound)


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_leave_one_out_has_that_gradient_in_the_mean(kl: str) -> None:
    settings = {"parameterisation": "paper", "prior": "learned"}
    task = BernoulliVae.model_validate(settings | {"kl": kl, "samples": 2000})
    model, x = autoencoder(**settings), images()
    noise, parameters = generator(), tuple(model.parameters())
    losses = (task.loss(model, x, Rloo(samples=2), noise)["loss"] for _ in range(200))
    found = torch.stack([flat(torch.autograd.grad(loss, parameters)) for loss in losses])
    deviation, error = found.mean(0) - flat(true_gradient(model, x)), found.std(0) / math.sqrt(len(found))
    assert (deviation.abs() <= 4.5 * error + 1e-12).all()
    assert error.norm() < 0.02 * found.mean(0).norm(), "precise enough to tell"


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("estimator", [ReinMax(), StraightThrough()])
def test_pathwise_estimators_keep_the_sampled_divergence_exact(estimator: Estimator) -> None:
    """The sampled term is linear in the draw, of which both estimators have the exact gradient in the mean."""
    model = autoencoder(parameterisation="logit", prior="learned")
    logits = model.logits(images()).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model.divergence(logits).sum(), logits)
    repeated = logits.expand(20_000, *logits.shape)
    constant = logits.detach()
    values = estimator.expectation(repeated, lambda draws: model.log_ratio(draws, constant), generator=generator())
    (found,) = torch.autograd.grad(values.mean(0).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


def test_the_paper_parameterisation_has_its_probabilities() -> None:
    model, x = autoencoder(parameterisation="paper", prior="fixed"), images()
    probability = model.logits(x).softmax(-1)[..., 0]
    torch.testing.assert_close(probability, (2 * model.encoder(x) - 1).sigmoid())


def test_the_published_architecture() -> None:
    model = BernoulliVae(prior="learned").model()
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert [shape for name, shape in shapes.items() if name.startswith("encoder") and len(shape) == 2] == [
        (200, 784),
        (200, 200),
        (200, 200),
    ]
    assert [shape for name, shape in shapes.items() if name.startswith("decoder") and len(shape) == 2] == [
        (200, 200),
        (200, 200),
        (784, 200),
    ]
    assert shapes["prior"] == (200,)
    # Glorot: uniform within the square root of 6 / (inputs + outputs)
    limit, weight = math.sqrt(6 / 984), model.get_parameter("encoder.0.weight")
    assert 0.99 * limit < weight.abs().max().item() <= limit
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert not any(model.get_parameter(name).any() for name in shapes if name.endswith("bias") or name == "prior")


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [
        ("mnist", (50_000, 10_000, 10_000)),
        ("fashion_mnist", (50_000, 10_000, 10_000)),
        ("omniglot", (23_000, 1_345, 8_070)),
    ],
)
def test_data_sets_are_divided_as_published(dataset: str, sizes: tuple[int, int, int]) -> None:
    task = BernoulliVae.model_validate({"dataset": dataset})
    data = task.data(CPU, SOURCE)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert task.batches(data, seed=0).steps_per_epoch == sizes[0] // 100
    assert data.train.shape[1:] == (784,)
    assert data.train.dtype == torch.uint8


@pytest.mark.parametrize("estimator", discover(Estimator))
def test_every_estimator_takes_its_fewest_samples_by_default(estimator: str) -> None:
    evaluated = 0

    class Counted(BernoulliAutoencoder):
        def reconstruction(self, images: Tensor, draws: Tensor) -> Tensor:
            nonlocal evaluated
            evaluated += draws.shape[:-2].numel()
            return super().reconstruction(images, draws)

    task, chosen = BernoulliVae(latents=3, hidden=4), discover(Estimator)[estimator]()  # type: ignore[call-arg]
    assert task.refusal(chosen) is None
    task.loss(Counted(784, 4, 3), torch.zeros(7, 784), chosen, generator())
    if estimator == "exact":
        assert evaluated > 0
    elif estimator == "rebar" or estimator == "relax":
        assert evaluated == 3 * 7
    else:
        assert evaluated == 7 * max(2, chosen.evaluations)


def test_samples_that_an_estimator_cannot_share_out_are_refused_with_those_that_fit() -> None:
    assert BernoulliVae(samples=3).refusal(Relax()) is None
    assert BernoulliVae(samples=12).repeats(Rloo()) == 3
    with pytest.raises(ValueError, match=r"samples is 2 .* but 'relax' takes 3 .* choose samples 3, 6 or another"):
        RunSpec.model_validate({"task": {"name": "bernoulli_vae", "samples": 2}, "estimator": "relax"})
    four = {"name": "rloo", "samples": 4}
    with pytest.raises(ValueError, match=r"'rloo' takes 4 .* samples 4, 8 .* give the estimator samples that divide"):
        RunSpec.model_validate({"task": {"name": "bernoulli_vae", "samples": 3}, "estimator": four})
    with pytest.raises(ValueError, match=r"'exact' would enumerate 2\^200 states"):
        RunSpec.model_validate({"task": "bernoulli_vae", "estimator": "exact"})


@pytest.mark.parametrize(
    ("dataset", "samples", "estimator", "expected"),
    [
        ("mnist", 3, "relax", ("adam", 1e-3, None)),
        ("omniglot", 2, "rodeo", ("adam", 1e-3, None)),
        ("fashion_mnist", 3, "arms", ("adam", 3e-4, None)),
        ("mnist", 3, "reinmax", ("radam", 3e-4, 1.1)),
        ("fashion_mnist", 3, "reinmax", ("radam", 3e-4, 1.1)),
        ("omniglot", 3, "reinmax", ("radam", 5e-4, 1.2)),
        ("omniglot", 2, "reinmax", ("radam", 3e-4, 1.1)),
        ("mnist", 2, "reinmax", ("radam", 3e-4, 1.1)),
    ],
)
def test_published_settings_are_filled_in(dataset: str, samples: int, estimator: str, expected: Any) -> None:
    task = {"name": "bernoulli_vae", "dataset": dataset, "samples": samples}
    spec = RunSpec.model_validate({"task": task, "estimator": estimator})
    tau = getattr(spec.estimator, "tau", None) if estimator == "reinmax" else None
    assert (spec.optimizer.name, spec.optimizer.lr, tau) == expected
    assert spec.steps == 1_000_000


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"binarisation": "static", "prior": "learned", "kl": "analytic", "parameterisation": "paper"},
        {"dataset": "omniglot", "samples": 3},
    ],
)
@pytest.mark.parametrize("estimator", ["reinmax", "relax"])
def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one(settings: dict[str, Any], estimator: str) -> None:
    run = RunSpec.model_validate(
        {"task": SMALL | settings, "estimator": estimator, "steps": 6, "log_every": 4, "evaluate_every": 6}
    )
    stopped, resumed, undisturbed = Trainer(run), Trainer(run), Trainer(run)
    for _ in islice(stopped, 3):
        pass
    restore(resumed, encode(stopped))
    for trainer in (resumed, undisturbed):
        for _ in trainer:
            pass
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert undisturbed.final == resumed.final


def test_the_variance_of_the_gradient_is_that_of_many_gradients() -> None:
    task = BernoulliVae.model_validate(SMALL | {"gradient_batches": 40})
    torch.manual_seed(1)
    model = task.model()
    levels = torch.randint(256, (30, 784), generator=generator(), dtype=torch.uint8)
    with torch.no_grad():
        found = task._gradient_variance(model, levels, ReinMax(), generator())
        gradients = torch.stack(list(task._gradients(model, levels, ReinMax(), generator())))
    assert found == pytest.approx(gradients.double().var(0).mean().item(), rel=1e-4)


def test_it_improves_on_real_images_and_reports_its_figures() -> None:
    task = {"name": "bernoulli_vae", "bound_images": 200, "bound_samples": 20, "gradient_batches": 4}
    run = {"task": task, "estimator": "double_cv", "steps": 150, "log_every": 50, "evaluate_every": 150}
    trainer = Trainer(RunSpec.model_validate(run))
    losses = [item.metrics["loss"] for item in trainer if "loss" in item.metrics]
    assert losses == sorted(losses, reverse=True)
    final = trainer.final
    # An untrained model needs 784 log 2 = 543 nats an image, one that knows the mean image about 207.
    assert final["test_loss"] < 205
    assert final["test_loss"] == pytest.approx(final["test_reconstruction"] + final["test_kl"])
    assert final["validation_loss"] == pytest.approx(final["test_loss"], rel=0.05)
    assert final["test_bound"] < final["test_loss"]
    assert 0 < final["test_entropy"] < 200 * math.log(2)
    # A uniform prior: divergence = L log 2 - entropy
    assert final["test_kl"] + final["test_entropy"] == pytest.approx(200 * math.log(2), rel=1e-4)
    assert final["gradient_variance"] > 0
