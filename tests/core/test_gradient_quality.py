"""The study of gradients at snapshots: the same snapshots whatever is examined, and figures that are right."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reinmax_core import RunSpec, Trainer
from reinmax_core.diagnostics import exact_gradient
from reinmax_core.estimators import Estimator, GumbelSoftmax, ReinMax, StraightThrough
from reinmax_core.estimators.from_costs import Learned
from reinmax_core.tasks.gradient_quality import GradientQuality
from reinmax_core.tasks.images import Images
from reinmax_core.value import discover

TASK = {"name": "gradient_quality", "categories": 3, "latents": 2, "batch": 50, "images": 7, "draws": 400}
ESTIMATORS = {name: found for name, found in discover(Estimator).items() if not found.binary_only}
FIGURES = ("relative_bias", "relative_bias_corrected", "relative_bias_to_mean", "relative_std", "cosine")
CURVES = [f"{part}relative_{name}" for part in ("", "image_") for name in ("bias", "bias_corrected", "std")]
CURVES += ["cosine", "image_cosine"]
TEMPERED = [
    name for name, found in ESTIMATORS.items() if "tau" in found.model_fields and not issubclass(found, Learned)
]


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
    (found,) = task.qualities(model.float(), pixels, (StraightThrough(),), torch.Generator())
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


def evaluated(estimator: dict[str, Any], **task: Any) -> tuple[dict[str, float], torch.Tensor]:
    """Metrics of a model at work, on few images, and what the generator gives afterwards."""
    run = spec(estimator, **task)
    model, images = model_at_work(run.task)
    levels, generator = (images * 255).byte(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        metrics = run.task.evaluate(model.float(), Images(levels, levels), run.estimator, generator)
    return metrics, torch.rand(5, generator=generator)


@pytest.mark.parametrize("draws", [40, 9])
@pytest.mark.parametrize("estimator", TEMPERED)
def test_temperatures_change_nothing_but_what_they_add(estimator: str, draws: int) -> None:
    alone, after_alone = evaluated({"name": estimator, "tau": 1.25}, draws=draws)
    many, after_many = evaluated({"name": estimator, "tau": 1.25}, draws=draws, temperatures=[1.5, 2.0])
    added = {f"{name}_tau_{tau}" for name in CURVES for tau in (1.5, 2.0)}
    assert {name: value for name, value in many.items() if name not in added} == alone
    assert set(many) - set(alone) == added
    assert torch.equal(after_alone, after_many)


@pytest.mark.parametrize("estimator", TEMPERED)
def test_the_figures_at_a_temperature_are_those_of_an_estimator_of_that_temperature(estimator: str) -> None:
    curves, _ = evaluated({"name": estimator, "tau": 1.25}, draws=8, temperatures=[1.25, 1.5])
    other, _ = evaluated({"name": estimator, "tau": 1.5}, draws=8)
    assert {name: curves[f"{name}_tau_1.25"] for name in CURVES} == {name: curves[name] for name in CURVES}
    assert {name: curves[f"{name}_tau_1.5"] for name in CURVES} == {name: other[name] for name in CURVES}
    assert other["relative_bias"] != curves["relative_bias"]


def test_a_run_has_curves_and_is_otherwise_the_same() -> None:
    alone, many = (finished(spec("gumbel_softmax", draws=99, temperatures=taus)) for taus in ([], [0.5, 2]))
    assert alone.final.items() < many.final.items()
    assert {"relative_std_tau_0.5", "image_cosine_tau_2.0"} < set(many.final)
    assert many.final["relative_std_tau_0.5"] > many.final["relative_std"] > many.final["relative_std_tau_2.0"]


def test_curves_over_temperatures_are_smoother_than_their_standard_errors() -> None:
    task = GradientQuality.model_validate(TASK)
    model, images = model_at_work(task)
    near = tuple(GumbelSoftmax(tau=tau) for tau in (0.5, 0.501, 0.502))
    found = task.qualities(model.float(), (images * 255).byte(), near, torch.Generator())
    biases, error = [quality.whole.relative_bias.value for quality in found], found[0].whole.relative_bias.error
    assert 0 < abs(biases[0] - biases[1]) < error / 5
    assert abs(biases[0] - 2 * biases[1] + biases[2]) < error / 100


@pytest.mark.parametrize(
    ("estimator", "temperatures", "message"),
    [
        ("rloo", [0.5], r"estimator 'rloo' has none; leave temperatures out"),
        ("exact", [0.5], r"estimator 'exact' has none; leave temperatures out"),
        ("rebar", [0.5], r"estimator 'rebar' learns its own, .* leave temperatures out"),
        ("relax", [0.5], r"estimator 'relax' learns its own, .* leave temperatures out"),
        ("reinmax", [1.0, 0.5], r"0\.5 in temperatures is no temperature of 'reinmax': .*greater than or equal to 1"),
        ("gumbel_softmax", [0.0], r"greater than 0"),
        ("gumbel_softmax", [1001], r"less than or equal to 1000"),
        ("gumbel_softmax", [1, 0.5, 0.5], r"each temperature should stand there once, but 0\.5 is repeated"),
        ("gumbel_softmax", [0.1 + i for i in range(51)], r"at most 50"),
    ],
)
def test_what_is_no_temperature_is_refused(estimator: str, temperatures: list[float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(estimator, temperatures=temperatures)
    assert spec(estimator, temperatures=[]) == spec(estimator)
