"""Autoencoders of images: bounds by enumeration, what they are shown and show, and models that load again."""

from __future__ import annotations

import copy
import io
import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from reinmax_core import RunSpec, Trainer, load_model
from reinmax_core.checkpoint import MODEL, CheckpointCorrupt, CheckpointVersion, save_to
from reinmax_core.estimators import ArgmaxStraightThrough, ReinMax
from reinmax_core.estimators.base import Estimator
from reinmax_core.models.autoencoder import Autoencoder
from reinmax_core.models.categorical_autoencoder import CategoricalAutoencoder
from reinmax_core.pictures import png
from reinmax_core.tasks.categorical_vae import CategoricalVae
from reinmax_core.value import discover

PIXELS, LATENTS, CATEGORIES = 6, 2, 3
TASKS = {
    "categorical_vae": {"latents": 2, "categories": 3, "bound_samples": 2, "bound_images": 5},
    "bernoulli_vae": {"latents": 3, "hidden": 4, "bound_samples": 2, "bound_images": 5, "gradient_batches": 2},
    "gradient_quality": {"latents": 2, "categories": 3, "images": 4, "draws": 9},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> CategoricalAutoencoder:
    """In double precision, away from the uniform posterior of an untrained model."""
    torch.manual_seed(0)
    found = CategoricalAutoencoder(PIXELS, LATENTS, CATEGORIES).double().requires_grad_(False)
    found.get_parameter("encoder.4.weight").mul_(8)
    found.get_parameter("decoder.0.weight").mul_(20)
    return found


def images(count: int = 4) -> Tensor:
    return torch.rand(count, PIXELS, generator=generator(), dtype=torch.float64)


def by_enumeration(model: CategoricalAutoencoder, image: list[float]) -> tuple[float, float, float, float]:
    """Reconstruction, divergence, entropy and -log p(x) of an image, with plain loops over all codes."""
    rows = model.encoder(torch.tensor(image).double()).view(LATENTS, CATEGORIES).tolist()
    posterior = [[math.exp(a) / sum(map(math.exp, row)) for a in row] for row in rows]
    reconstruction = divergence = entropy = evidence = 0.0
    for code in product(range(CATEGORIES), repeat=LATENTS):
        q = math.prod(row[index] for row, index in zip(posterior, code, strict=True))
        one_hot = [float(index == k) for index in code for k in range(CATEGORIES)]
        means = model.decoder(torch.tensor(one_hot).double()).sigmoid().tolist()
        likelihood = sum(x * math.log(m) + (1 - x) * math.log(1 - m) for x, m in zip(image, means, strict=True))
        reconstruction -= q * likelihood
        divergence += q * (math.log(q) + LATENTS * math.log(CATEGORIES))
        entropy -= q * math.log(q)
        evidence += math.exp(likelihood) / CATEGORIES**LATENTS
    return reconstruction, divergence, entropy, -math.log(evidence)


def codes(count: int = 4) -> Tensor:
    """All codes as one-hot draws for each image, [9, images, 2, 3]."""
    numbers = torch.tensor(list(product(range(CATEGORIES), repeat=LATENTS)))
    return nn.functional.one_hot(numbers, CATEGORIES).double().unsqueeze(1).expand(-1, count, -1, -1)


def test_the_terms_of_the_bound_are_those_by_enumeration(model: CategoricalAutoencoder) -> None:
    x = images()
    logits, draws = model.logits(x), codes()
    weights = (draws * logits.log_softmax(-1)).sum((-2, -1)).exp()
    expected = torch.tensor([by_enumeration(model, image) for image in x.tolist()], dtype=torch.float64).unbind(-1)
    reconstruction, divergence, entropy, evidence = expected
    torch.testing.assert_close((weights * model.reconstruction(x, draws)).sum(0), reconstruction)
    torch.testing.assert_close((weights * model.log_ratio(draws, logits)).sum(0), divergence)
    torch.testing.assert_close(model.divergence(logits), divergence)
    torch.testing.assert_close(model.entropy(logits), entropy)
    assert entropy.max() < 0.9 * LATENTS * math.log(CATEGORIES), "the posterior is not uniform"
    # The mean weight of all codes, each as often as q has it, is p(x).
    log_joint = -model.reconstruction(x, draws) - model.log_ratio(draws, logits) + weights.log()
    torch.testing.assert_close(-log_joint.logsumexp(0), evidence)


def levels() -> Tensor:
    return (images(3) * 255).byte()


def test_the_bound_of_one_draw_is_the_loss_in_the_mean_and_that_of_many_the_evidence(
    model: CategoricalAutoencoder,
) -> None:
    task = Precise(categories=CATEGORIES, latents=LATENTS)
    x = levels().double() / 255
    found = torch.tensor([by_enumeration(model, image) for image in x.tolist()], dtype=torch.float64).mean(0)
    repeated = levels().repeat(5000, 1)
    one = task.bound(model, repeated, 1, generator())["test_bound"]
    assert one == pytest.approx((found[0] + found[1]).item(), abs=0.05)
    many = task.bound(model, levels(), 100_000, generator())["test_bound"]
    assert many == pytest.approx(found[3].item(), abs=0.02)
    assert many < task.bound(model, repeated, 3, generator())["test_bound"] < one
    assert task.bound(model, levels(), 0, generator()) == {}


class Precise(CategoricalVae):
    """Shows images in double precision."""

    def seen(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        return levels.double() / 255


def test_the_bound_of_one_draw_is_the_cost_of_that_draw(model: CategoricalAutoencoder) -> None:
    x = images()
    logits = model.logits(x)
    draws = ReinMax().sample(logits, generator=generator())
    log_q = (draws * logits.log_softmax(-1)).sum((-2, -1))
    cost = model.reconstruction(x, draws) + log_q + LATENTS * math.log(CATEGORIES)
    torch.testing.assert_close(model.bound(x, draws.unsqueeze(0), logits), cost)


def finished(task: str, seed: int = 0, steps: int = 3, **settings: Any) -> Trainer:
    run = {"task": {"name": task, "batch": 20} | TASKS[task] | settings, "estimator": "reinmax", "seed": seed}
    trainer = Trainer(RunSpec.model_validate(run | {"steps": steps, "log_every": 1, "evaluate_every": steps}))
    for _ in trainer:
        pass
    return trainer


def test_training_logs_the_entropy_of_the_posterior(model: CategoricalAutoencoder) -> None:
    task = CategoricalVae(categories=CATEGORIES, latents=LATENTS)
    single = copy.deepcopy(model).float()
    found = task.loss(single, levels(), ReinMax(), generator())
    torch.testing.assert_close(found["entropy"], single.entropy(single.logits(levels().float() / 255)).mean())


def test_figures_of_test_images_agree_with_one_another() -> None:
    trainer = finished("categorical_vae", steps=40, bound_samples=10, bound_images=10_000)
    found = trainer.final
    assert "test_bound" not in trainer.evaluate(), "it is for the end"
    assert found["test_loss"] == pytest.approx(found["test_reconstruction"] + found["test_kl"])
    assert found["test_kl"] + found["test_entropy"] == pytest.approx(2 * math.log(3), rel=1e-4)
    assert found["train_loss"] == pytest.approx(found["train_reconstruction"] + found["train_kl"])
    assert 0 < found["test_loss"] - found["test_bound"] < 5
    assert "test_bound" not in finished("categorical_vae", bound_samples=0).final


@pytest.mark.parametrize("estimator", [found for found in discover(Estimator).values() if not found.binary_only])
def test_figures_are_at_draws_of_the_posterior_whichever_the_estimator(
    model: CategoricalAutoencoder, estimator: type[Estimator]
) -> None:
    task = Precise(categories=CATEGORIES, latents=LATENTS)
    x = levels().double() / 255
    reconstruction, divergence, entropy, _ = (
        sum(column) / len(x) for column in zip(*(by_enumeration(model, image) for image in x.tolist()), strict=True)
    )
    found = task.terms(model, levels().repeat(3000, 1), estimator(), generator())  # type: ignore[call-arg]
    assert found["reconstruction"] == pytest.approx(reconstruction, abs=0.05)
    assert found["kl"] == pytest.approx(divergence)
    assert found["entropy"] == pytest.approx(entropy)
    at_mode = ArgmaxStraightThrough().sample(model.logits(x))
    assert abs(model.reconstruction(x, at_mode).mean().item() - reconstruction) > 0.2, "no likeliest code"


@pytest.mark.parametrize(("activation", "lowest"), [("relu", 0.0), ("leaky_relu", -0.01)])
def test_rectifiers_are_as_the_task_says(activation: Any, lowest: float) -> None:
    model = CategoricalVae(categories=64, latents=32, activation=activation).model()
    (first, second), (third, fourth) = ([part[1], part[3]] for part in (model.encoder, model.decoder))
    assert [layer(torch.tensor(-1.0)).item() for layer in (first, second, third, fourth)] == [pytest.approx(lowest)] * 4
    assert [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() == 2] == [
        (512, 784), (256, 512), (2048, 256), (256, 2048), (512, 256), (784, 512),
    ]  # fmt: skip


def test_the_larger_setting_has_the_scripts_settings() -> None:
    task = {"name": "categorical_vae", "categories": 64, "latents": 32, "batch": 200, "activation": "leaky_relu"}
    spec = RunSpec.model_validate({"task": task, "estimator": "reinmax"})
    assert (spec.optimizer.name, spec.optimizer.lr, spec.estimator.tau) == ("radam", 5e-4, 1.1)


@pytest.mark.parametrize("task", TASKS)
def test_pictures_show_the_test_images_and_what_the_model_makes_of_them(task: str) -> None:
    trainer = finished(task)
    before = trainer.generator.get_state()
    pictures = trainer.pictures()
    assert torch.equal(trainer.generator.get_state(), before)
    shapes = {name: (picture.shape, picture.dtype) for name, picture in pictures.items()}
    assert shapes == dict.fromkeys(("reconstructions", "samples"), ((8 * 28, 16 * 28), torch.uint8))
    first = pictures["reconstructions"][:28, 28:56]
    if task == "bernoulli_vae":
        assert set(first.unique().tolist()) == {0, 255}
    else:
        assert torch.equal(first.flatten(), trainer.data.test[1])
    # An untrained decoder makes everything half grey.
    assert (pictures["reconstructions"][28:56].float() - 127.5).abs().max() < 60
    again, other = trainer.pictures(), finished(task, seed=1).pictures()
    for name, picture in pictures.items():
        assert torch.equal(picture, again[name])
        assert not torch.equal(picture, other[name]), "another model has other pictures"


def test_fewer_test_images_than_a_picture_holds_leave_room() -> None:
    task = CategoricalVae()
    torch.manual_seed(0)
    model, data = task.model(), finished("categorical_vae").data
    few = type(data)(data.train, data.test[:20])
    picture = task.pictures(model, few, ReinMax(), generator())["reconstructions"].detach()
    assert picture.shape == (4 * 28, 16 * 28)
    assert torch.equal(picture[56:84, 3 * 28 : 4 * 28].flatten(), data.test[19])
    assert not picture[56:, 4 * 28 :].any()


def test_pictures_of_other_tasks_are_none() -> None:
    run = {"task": {"name": "polynomial", "latents": 2}, "estimator": "reinmax", "steps": 1}
    assert Trainer(RunSpec.model_validate(run)).pictures() == {}


def test_a_png_has_the_levels() -> None:
    picture = torch.arange(256, dtype=torch.uint8).view(8, 32)
    with Image.open(io.BytesIO(png(picture))) as found:
        assert (found.format, found.mode, found.size) == ("PNG", "L", (32, 8))
        assert list(found.tobytes()) == list(range(256))


@pytest.mark.parametrize("task", TASKS)
def test_a_model_loads_from_its_file_to_the_last_bit(task: str, tmp_path: Path) -> None:
    trainer = finished(task)
    save_to(tmp_path, trainer)
    state = torch.get_rng_state()
    spec, model = load_model(tmp_path / MODEL)
    assert torch.equal(torch.get_rng_state(), state)
    assert spec == trainer.spec
    assert isinstance(model, Autoencoder)
    assert not model.training
    x = torch.rand(5, 784, generator=generator())
    draws = ReinMax().sample(model.logits(x), generator=generator())
    assert torch.equal(model.encoder(x), trainer.model.encoder(x))
    assert torch.equal(model.decoded(draws), trainer.model.decoded(draws))
    assert torch.equal(model.reconstruction(x, draws), trainer.model.reconstruction(x, draws))


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    path, weight = tmp_path / MODEL, {"weight": torch.zeros(2)}
    run = json.dumps({"spec": {"task": "polynomial", "estimator": "reinmax"}, "step": 1})
    later = run.replace("polynomial", "not_yet_known")
    for content, reason in (
        (b"", "cannot be read"),
        (b"plain text, long enough", "cannot be read"),
        (save(weight), "run"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointCorrupt, match=reason):
            load_model(path)
    for written in (run, later):
        path.write_bytes(save(weight, metadata={"run": written}))
        with pytest.raises(CheckpointVersion, match="use the version that wrote it"):
            load_model(path)
