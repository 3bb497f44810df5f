"""The contract of every task, and the tasks' values against ones computed by hand."""

import math
from itertools import product
from typing import Any

import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.data import DataSource
from reinmax_core.estimators import Exact, Reinforce, ReinMax, Rloo, StraightThrough
from reinmax_core.estimators.base import Estimator
from reinmax_core.models.categorical_autoencoder import CategoricalAutoencoder
from reinmax_core.tasks.base import Task
from reinmax_core.tasks.categorical_vae import CategoricalVae
from reinmax_core.tasks.polynomial import Polynomial
from reinmax_core.value import discover

CPU = torch.device("cpu")
POLYNOMIAL = tuple(discover(Estimator))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dataset", ["fashion_mnist", "omniglot"])
def test_vae_trains_on_other_published_images(dataset: str) -> None:
    bound = {"bound_samples": 2, "bound_images": 10}
    settings = {"name": "categorical_vae", "dataset": dataset, "latents": 2} | bound
    intervals = {"log_every": 10, "evaluate_every": 40}
    run = {"task": settings, "estimator": "reinmax", "optimizer": {"lr": 0.005}, "steps": 40} | intervals
    trainer = Trainer(RunSpec.model_validate(run))
    losses = [progress.metrics["loss"] for progress in trainer if "loss" in progress.metrics]
    assert losses == sorted(losses, reverse=True)
    # An untrained model needs 784 log 2 = 543 nats an image.
    assert 100 < trainer.final["test_loss"] < 450
    assert trainer.result().notes == {}


@pytest.mark.parametrize("task", discover(Task))
def test_a_task_says_what_it_is(task: str) -> None:
    task_class = discover(Task)[task]
    assert "arXiv" in (task_class.__doc__ or "")
    assert task_class().default_steps > 0  # type: ignore[call-arg]
    assert task_class.direction in ("min", "max")


# Optimum and value at the start for p = 1.5, 2, 3, in closed form.
@pytest.mark.parametrize(
    ("c", "p", "optimum", "start"),
    [
        (0.45, 1.5, 0.30187, 0.35488),
        (0.45, 2.0, 0.20250, 0.25250),
        (0.45, 3.0, 0.09113, 0.12875),
        ("linear", 1.5, 0.14142, 0.40000),
        ("linear", 2.0, 0.08333, 0.33333),
        ("linear", 3.0, 0.03125, 0.25000),
    ],
)
def test_polynomial_reports_the_published_optimum(c: Any, p: float, optimum: float, start: float) -> None:
    task = Polynomial(c=c, p=p)
    model = task.model()
    with torch.no_grad():
        metrics = task.evaluate(model, task.targets(), ReinMax(), generator())
    assert metrics["expected_loss"] == pytest.approx(start, abs=3e-4)  # the logits start within 0.01 of 0
    assert metrics["expected_loss"] - metrics["gap"] == pytest.approx(optimum, abs=1e-5)


@pytest.mark.parametrize("p", [1e-3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_polynomial_power_is_the_power(p: float) -> None:
    distance = torch.tensor([-0.55, -0.1, 0.45, 1.0], dtype=torch.float64)
    expected = [abs(value) ** p for value in distance.tolist()]
    assert Polynomial(p=p).power(distance).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [1e-3, 0.5, 1.0, 1.5, 2.0, 2.5])
def test_polynomial_power_has_two_derivatives_of_0_at_distance_0_and_finite_ones_near_it(p: float) -> None:
    distance = torch.tensor([0.0, -0.0, 1e-45, -1e-38, 1e-20, 2e-19, 0.5], requires_grad=True)
    values = Polynomial(p=p).power(distance)
    (first,) = torch.autograd.grad(values.sum(), distance, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), distance)
    assert values[:2].tolist() == pytest.approx([0, 0], abs=1e-28)
    assert first[:2].tolist() == [0, 0]
    assert second[:2].tolist() == [2 * (p == 2)] * 2
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert first[-1].item() == pytest.approx(p * 0.5 ** (p - 1))
    assert second[-1].item() == pytest.approx(p * (p - 1) * 0.5 ** (p - 2), abs=1e-6)


@pytest.mark.parametrize("estimator", [*POLYNOMIAL, {"name": "rebar", "tau": 1e-3}, {"name": "relax", "tau": 1e-3}])
@pytest.mark.parametrize("p", [0.5, 1.5])
@pytest.mark.parametrize("c", [0, 1])
def test_polynomial_trains_where_draws_meet_their_targets(estimator: Any, p: float, c: float) -> None:
    task = {"name": "polynomial", "latents": 6, "batch": 12, "p": p, "c": c}
    trainer = Trainer(RunSpec.model_validate({"task": task, "estimator": estimator, "steps": 6, "log_every": 1}))
    assert [progress.step for progress in trainer] == list(range(1, 7))
    for parameter in trainer.model.parameters():
        assert parameter.isfinite().all()
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_polynomial_exact_gradient_is_that_of_the_expected_loss() -> None:
    task = Polynomial(latents=5, p=3, c="linear")
    model = task.model()
    task.loss(model, task.targets(), Exact(), generator())["loss"].backward()
    theta = model.theta.detach().requires_grad_()
    one, zero = task.power(1 - task.targets()), task.power(task.targets())
    probability = theta.softmax(-1)[:, 0]
    (expected,) = torch.autograd.grad((probability * one + (1 - probability) * zero).mean(), theta)
    torch.testing.assert_close(model.theta.grad, expected)


def test_polynomial_takes_batch_cost_evaluations_a_step() -> None:
    seen = []

    class Counted(Polynomial):
        def power(self, distance: torch.Tensor) -> torch.Tensor:
            seen.append(distance.numel() // self.latents)
            return super().power(distance)

    task = Counted(latents=3, batch=12)
    for estimator in (ReinMax(), Reinforce(), Rloo(samples=4), Rloo(samples=12)):
        seen.clear()
        task.loss(task.model(), task.targets(), estimator, generator())
        assert seen == [12]


def negative_bound(task: CategoricalVae, model: CategoricalAutoencoder, image: list[float]) -> float:
    """The negative evidence lower bound of one image in double precision, over all codes, with plain loops."""
    logits = model.logits(torch.tensor([image]).double())[0].tolist()
    posterior = [[math.exp(a) / sum(math.exp(b) for b in row) for a in row] for row in logits]
    bound = 0.0
    for code in product(range(task.categories), repeat=task.latents):
        q = math.prod(row[index] for row, index in zip(posterior, code, strict=True))
        one_hot = [float(index == k) for index in code for k in range(task.categories)]
        means = model.decoder(torch.tensor(one_hot).double()).sigmoid().tolist()
        likelihood = sum(x * math.log(m) + (1 - x) * math.log(1 - m) for x, m in zip(image, means, strict=True))
        bound -= q * (likelihood + task.latents * math.log(1 / task.categories) - math.log(q))
    return bound


def test_vae_loss_is_the_negative_bound_by_enumeration() -> None:
    task = CategoricalVae(categories=3, latents=2)
    torch.manual_seed(0)
    model = task.model().double()
    with torch.no_grad():  # away from the uniform posterior of an untrained model
        model.encoder[-1].weight.mul_(30)
    bytes_ = torch.randint(256, (2, 784), generator=generator(), dtype=torch.uint8)
    images = [[value / 255 for value in row] for row in bytes_.tolist()]
    expected = sum(negative_bound(task, model, image) for image in images) / 2

    logits = model.logits(bytes_.double() / 255)
    cost = Exact().expectation(logits, lambda draws: model.reconstruction(bytes_.double() / 255, draws))
    assert (cost + model.divergence(logits)).mean().item() == pytest.approx(expected, rel=1e-9)


def test_vae_reads_real_images_in_an_order_of_its_seed() -> None:
    task = CategoricalVae(batch=100)
    data = task.data(CPU, DataSource.from_environment())
    assert data.train.shape == (60_000, 784)
    assert data.test.shape == (10_000, 784)
    batches = task.batches(data, seed=1)
    assert batches.steps_per_epoch == 600
    first = batches[0]
    assert not torch.equal(first, batches[1])
    assert torch.equal(batches[0], first)
    assert not torch.equal(first, task.batches(data, seed=2)[0])
    epoch = torch.cat([batches[step] for step in range(batches.steps_per_epoch)])
    assert torch.equal(epoch.long().sum(0), data.train.long().sum(0)), "an epoch reads every image once"


def test_vae_improves_on_real_images() -> None:
    run = {"task": "categorical_vae", "estimator": "reinmax", "steps": 300, "log_every": 50, "evaluate_every": 300}
    trainer = Trainer(RunSpec.model_validate(run))
    losses = [item.metrics["loss"] for item in trainer if "loss" in item.metrics]
    assert max(losses[1:]) < losses[0]
    # An untrained model needs 784 log 2 = 543 nats an image, one that knows the mean image about 207.
    assert trainer.final["test_loss"] < 220


@pytest.mark.parametrize("c", [0.45, "linear"])
def test_reinmax_finds_the_optimum_of_a_quadratic_and_straight_through_does_not(c: Any) -> None:
    def gap(estimator: Estimator) -> float:
        run = {
            "task": Polynomial(p=2, c=c, latents=16),
            "estimator": estimator,
            "steps": 3000,
            "optimizer": {"lr": 0.01},
        }
        trainer = Trainer(RunSpec.model_validate(run))
        for _ in trainer:
            pass
        return trainer.final["gap"]

    assert gap(ReinMax()) < 0.003 < 0.03 < gap(StraightThrough())
