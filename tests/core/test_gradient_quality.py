"""The study of gradients at snapshots: the same snapshots whatever is examined, and figures that are right."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reinmax_core import RunSpec, Trainer
from reinmax_core.diagnostics import exact_gradient
from reinmax_core.estimators import Estimator, ReinMax, StraightThrough
from reinmax_core.tasks.gradient_quality import GradientQuality
from reinmax_core.value import discover

TASK = {"name": "gradient_quality", "categories": 3, "latents": 2, "batch": 50, "images": 7, "draws": 400}
ESTIMATORS = {name: found for name, found in discover(Estimator).items() if not found.binary_only}
FIGURES = ("relative_bias", "relative_bias_corrected", "relative_bias_to_mean", "relative_std", "cosine")


def spec(estimator: Any = "reinmax", steps: int = 3, **task: Any) -> RunSpec:
    run = {"task": TASK | task, "estimator": estimator, "steps": steps, "evaluate_every": steps, "seed": 5}
    return RunSpec.model_validate(run)


def finished(run: RunSpec) -> Trainer:
    trainer = Trainer(run)
    for _ in trainer:
        pass
    return trainer


def model_at_work(task: GradientQuality) -> tuple[torch.nn.Module, torch.Tensor]:
    """A model in double precision, away from the uniform posterior of an untrained one, and images."""
    torch.manual_seed(0)
    model = task.model().double()
    with torch.no_grad():
        model.get_parameter("encoder.4.weight").mul_(40)
        model.get_parameter("decoder.0.weight").mul_(10)
    return model, torch.rand(6, 784, dtype=torch.float64)


@pytest.fixture(scope="module")
def reference() -> Trainer:
    """A `categorical_vae` that is trained with ReinMax and examined with nothing."""
    settings = {name: TASK[name] for name in ("categories", "latents", "batch")}
    return finished(spec().model_copy(update={"task": spec().task.vae.model_copy(update=settings)}))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_snapshots_are_the_same_whichever_estimator_is_examined(estimator: str, reference: Trainer) -> None:
    examined = finished(spec(estimator, draws=4, images=2))
    for name, tensor in reference.model.state_dict().items():
        assert torch.equal(examined.model.state_dict()[name], tensor), name
    for name in ("loss", "train_loss", "test_loss", "test_reconstruction", "test_kl"):
        assert examined.final[name] == reference.final[name]


def test_snapshots_are_those_of_the_estimator_that_trains(reference: Trainer) -> None:
    for trained_with in ("straight_through", {"name": "straight_through", "tau": 1.3}):
        other = finished(spec(trained_with=trained_with))
        assert other.final["test_loss"] != reference.final["test_loss"]


@pytest.mark.parametrize(("categories", "latents"), [(3, 2), (2, 4), (5, 1)])
def test_the_exact_gradient_is_that_of_enumeration(categories: int, latents: int) -> None:
    task = GradientQuality(categories=categories, latents=latents)
    model, images = model_at_work(task)
    logits = model.logits(images).detach()
    wanted = exact_gradient(logits, lambda draws: model.reconstruction(images, draws))
    assert torch.allclose(task.exact_gradient(model, images, logits), wanted, rtol=1e-9, atol=1e-12)
    assert wanted.abs().max() > 1e-3


def test_figures_are_enumerated_where_draws_suffice_and_else_have_errors() -> None:
    runs = [finished(spec("straight_through", steps=40, draws=draws)) for draws in (9, 8)]
    enumerated, sampled = (run.final for run in runs)
    names = [f"{part}{figure}" for part in ("", "image_") for figure in FIGURES]
    assert {*names, *(f"{name}_error" for name in names)} < set(enumerated)
    assert all(enumerated[f"{name}_error"] == 0 < sampled[f"{name}_error"] for name in names)
    assert 0 < enumerated["relative_bias"] == pytest.approx(enumerated["relative_bias_corrected"])
    assert runs[0].best is not None
    assert (runs[0].best.metric, runs[0].best.value) == ("relative_bias", enumerated["relative_bias"])


def test_figures_are_of_the_first_training_images_and_of_the_estimator() -> None:
    task = GradientQuality.model_validate(TASK)
    model, images = model_at_work(task)
    pixels = (images * 255).byte()
    found = task.quality(model.float(), pixels, StraightThrough(), torch.Generator())
    logits = model.logits(pixels.float() / 255).detach()
    drawn = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    mean = torch.zeros_like(logits)
    for classes in drawn:
        leaf = logits.clone().requires_grad_()
        draws = StraightThrough().through(leaf, classes.expand(6, 2), leaf.softmax(-1))
        (gradient,) = torch.autograd.grad(model.reconstruction(pixels.float() / 255, draws).sum(), leaf)
        chance = logits.softmax(-1).gather(-1, classes.expand(6, 2).unsqueeze(-1)).prod(-2, keepdim=True)
        mean += chance * gradient
    assert torch.allclose(found.mean.float(), mean, rtol=1e-4, atol=1e-5)
    assert found.exact.shape == (6, 2, 3)


def test_learned_parts_learn_at_the_snapshots() -> None:
    trainer = Trainer(spec({"name": "double_cv", "alpha": 0.0}, steps=20, draws=4))
    assert trainer.learning is not None
    for _ in islice(iter(trainer), 10):
        pass
    (alpha,) = trainer.learning.parts.parameters()
    assert alpha != 0


def test_a_space_too_large_for_the_exact_gradient_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"here 10\^5, and at most 16384 are summed; choose fewer"):
        spec(categories=10, latents=5)
    assert spec(categories=2, latents=14).task.refusal(ReinMax()) is None


def test_only_pathwise_estimators_train_the_snapshots() -> None:
    with pytest.raises(ValidationError, match=r"'reinmax'.*straight_through"):
        spec(trained_with="rloo")
    assert spec().task.trained_with == ReinMax()
    assert RunSpec.model_validate_json(spec().model_dump_json()) == spec()


def test_every_estimator_is_examined_with_the_published_settings() -> None:
    run = RunSpec.model_validate({"task": "gradient_quality", "estimator": "gumbel_rao"})
    assert (run.estimator.tau, run.optimizer.name, run.optimizer.lr, run.steps) == (1.0, "adam", 5e-4, 30_000)
    assert (run.task.images, run.task.draws, run.task.batch) == (100, 1024, 100)
