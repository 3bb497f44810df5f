"""Pixels that are drawn from grey levels: how often, when, and which ones a run is trained on and judged by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reinmax_core import RunSpec, Trainer
from reinmax_core.batches import Binarised, binarised, binarised_once
from reinmax_core.estimators import ReinMax
from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder
from reinmax_core.tasks.bernoulli_vae import BernoulliVae
from tests.core.test_bernoulli_vae import CPU, SMALL, SOURCE, generator


def test_pixels_are_drawn_as_often_as_their_grey_levels_say() -> None:
    levels = torch.arange(256, dtype=torch.uint8).expand(20_000, 256)
    found = binarised(levels, generator())
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert found[:, 0].sum() == 0
    assert found[:, 255].sum() == 20_000
    p = torch.arange(1, 255, dtype=torch.float64) / 255
    z = (found[:, 1:255].double().mean(0) - p) / (p * (1 - p) / 20_000).sqrt()
    assert z.abs().max() < 4.5


def test_pixels_are_drawn_anew_whenever_an_image_is_read_unless_they_are_drawn_already() -> None:
    levels = torch.full((10, 784), 128, dtype=torch.uint8)
    levels[:, :10] = torch.eye(10, dtype=torch.uint8) * 255  # tells the images apart

    def epoch(number: int, levels: Tensor = levels, *, drawn: bool = False, seed: int = 3) -> Tensor:
        batches = Binarised(levels, 5, seed, drawn=drawn)
        rows = torch.cat([batches[2 * number], batches[2 * number + 1]])
        return rows[rows[:, :10].argmax(1).argsort()]

    assert torch.equal(epoch(0), epoch(0)), "a step's pixels depend on seed and step"
    assert not torch.equal(epoch(0), epoch(1))
    assert not torch.equal(epoch(0), epoch(0, seed=4))
    once = binarised_once(levels, 1)
    assert not torch.equal(once, binarised_once(levels, 0))
    for found in (epoch(0, once, drawn=True), epoch(1, once, drawn=True, seed=4)):
        assert torch.equal(found, once.float() / 255)


def test_static_test_images_are_the_same_for_every_evaluation() -> None:
    data = BernoulliVae(binarisation="static").data(CPU, SOURCE)
    assert set(data.test.unique().tolist()) == set(data.validation.unique().tolist()) == {0, 255}
    assert torch.equal(data.test, BernoulliVae(binarisation="static").data(CPU, SOURCE).test)
    assert torch.equal(data.train, BernoulliVae(binarisation="static").data(CPU, SOURCE).train)
    assert set(data.train.unique().tolist()) == {0, 255}
    grey = BernoulliVae().data(CPU, SOURCE)
    assert len(grey.train.unique()) == 256
    assert data.test.double().mean().item() == pytest.approx(grey.test.double().mean().item(), rel=0.001)


def rows(images: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in images.bool()}


def test_the_gradient_of_an_evaluation_is_at_the_pixels_that_are_trained_on() -> None:
    task = SMALL | {"binarisation": "static", "batch": 1000}
    trainer = Trainer(RunSpec.model_validate({"task": task, "estimator": "reinmax", "steps": 1, "seed": 5}))
    trained = set().union(*(rows(trainer.batches[step]) for step in range(trainer.batches.steps_per_epoch)))
    assert len(trained) > 49_900, "hardly two images have the same pixels"
    seen = []

    class Seeing(BernoulliAutoencoder):
        def logits(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().logits(images)

    for _ in trainer.spec.task._gradients(Seeing(784, 8, 3), trainer.data.train, ReinMax(), generator()):
        pass
    assert len(seen) == 3
    assert all(rows(images) <= trained for images in seen)
