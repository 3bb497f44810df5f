"""The search: what a step does, its schedules, its score, and that it learns and resumes."""

import math
from itertools import islice
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from reinmax_core import RunSpec, Trainer
from reinmax_core.augmentation import flipped_and_shifted
from reinmax_core.checkpoint import encode, restore
from reinmax_core.data import DataSource
from reinmax_core.data.nats_bench import OPERATIONS, parsed
from reinmax_core.estimators import GumbelSoftmax, ReinMax, Rloo
from reinmax_core.optimizers import Adam
from reinmax_core.seeds import seed_for
from reinmax_core.tasks.architecture_search import ArchitectureSearch

CPU = torch.device("cpu")
SMALL = {"name": "architecture_search", "dataset": "cifar10_prefix", "cells": 1, "channels": 4, "batch": 8}


def spec(task: dict[str, Any] | None = None, **settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": SMALL | (task or {}), "estimator": "reinmax", "steps": 6} | settings)


def finished(trainer: Trainer) -> Trainer:
    for _ in trainer:
        pass
    return trainer


def small() -> ArchitectureSearch:
    return ArchitectureSearch.model_validate(SMALL)


def test_a_step_moves_the_weights_and_then_the_architecture_at_the_new_weights() -> None:
    run = spec(steps=3, estimator="gumbel_softmax")
    trainer = finished(Trainer(run))
    by_hand = Trainer(run)
    net, batches = by_hand.model, by_hand.batches
    # Nothing of the trainer but its new model and its data: the published recipe in plain torch.
    weights = torch.optim.SGD(net.weights(), lr=0.025, momentum=0.9, nesterov=True, weight_decay=5e-4)
    architecture = torch.optim.Adam([net.architecture], lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    generator = torch.Generator().manual_seed(seed_for("draws", 0))

    def loss(half: Any, tau: float) -> torch.Tensor:
        z = GumbelSoftmax(tau=tau).sample(net.architecture, generator=generator)
        images = flipped_and_shifted(half.images, generator).float()
        mean, deviation = torch.tensor([125.3, 123.0, 113.9]), torch.tensor([63.0, 62.1, 66.7])
        images = (images - mean[:, None, None]) / deviation[:, None, None]
        return functional.cross_entropy(net(images, z), half.labels)

    for step in range(3):
        tau = 10 + (0.1 - 10) * step / 3
        weights.param_groups[0]["lr"] = 0.001 + 0.024 * (1 + math.cos(math.pi * step / 3)) / 2
        net.zero_grad()
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        loss(batches[step].first, tau).backward()  # type: ignore[no-untyped-call]
        weights.step()
        net.zero_grad()
        loss(batches[step].second, tau).backward()  # type: ignore[no-untyped-call]
        architecture.step()
    for name, parameter in trainer.model.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], parameter, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("evaluation", ["full", "sparse"])
def test_neither_loss_leaves_a_gradient_in_the_others_parameters(evaluation: str) -> None:
    trainer = Trainer(spec({"evaluation": evaluation}))
    task, net, batch = trainer.spec.task, trainer.model, trainer.batches[0]
    task.inner_loss(net, batch, ReinMax(), trainer.generator)["inner_loss"].backward()
    assert net.architecture.grad is None
    assert net.classifier.weight.grad is not None
    net.zero_grad()
    task.loss(net, batch, ReinMax(), trainer.generator)["loss"].backward()
    assert net.architecture.grad is not None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.weights())


def test_weights_that_no_draw_has_picked_decay_like_the_others() -> None:
    trainer = Trainer(spec(steps=1))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    finished(trainer)
    after = trainer.model.state_dict()
    # (1 + momentum) lr decay, as gradient descent that looks ahead has it in its first step
    decayed = [
        name for name in before if torch.allclose(after[name], before[name] * (1 - 1.9 * 0.025 * 5e-4), rtol=1e-6)
    ]
    convolutions = [name for name in decayed if "pointwise" in name or "spatial" in name]
    assert len(convolutions) >= 3 * 6, "of the two convolutions of an edge at least one was not picked"
    assert "classifier.weight" not in decayed


def test_the_learning_rate_of_the_weights_falls_along_a_cosine() -> None:
    rates = [small().inner_lr(done) for done in (0, 0.5, 1)]
    assert rates == pytest.approx([0.025, 0.013, 0.001])
    assert ArchitectureSearch(weights_lr=0.0005).inner_lr(0.7) == pytest.approx(0.0005)


def test_the_temperature_falls_as_published_or_as_told() -> None:
    task = small()
    published = GumbelSoftmax(tau=10.0)
    assert [task.tempered(published, done).tau for done in (0, 0.5, 1)] == pytest.approx([10, 5.05, 0.1])
    assert task.tempered(ReinMax(tau=1.3), 0.5) == ReinMax(tau=1.3)
    told = task.model_copy(update={"tau_end": 2.0})
    assert told.tempered(ReinMax(tau=1.0), 0.25).tau == pytest.approx(1.25)
    assert told.tempered(published, 1).tau == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("task", "estimator", "words"),
    [
        ({}, "rloo", ["draws inside its model", "'rloo'"]),
        ({"batch": 1251}, "reinmax", ["1251", "1250 images"]),
        ({"tau_end": 0.5}, "reinmax", ["tau_end of 0.5", "greater than or equal to 1"]),
    ],
)
def test_what_cannot_be_trained_is_refused(task: dict[str, Any], estimator: str, words: list[str]) -> None:
    with pytest.raises(ValidationError) as refusal:
        spec(task, estimator=estimator)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_an_end_of_the_temperature_is_for_estimators_that_have_one() -> None:
    task = small().model_copy(update={"tau_end": 0.5})
    assert "'rloo' has no temperature" in (task.refusal(Rloo()) or "")
    assert task.refusal(GumbelSoftmax()) is None


def test_the_published_settings_fill_the_gaps() -> None:
    run = RunSpec.model_validate({"task": "architecture_search", "estimator": "gumbel_softmax"})
    assert run.optimizer == Adam(lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    assert (run.estimator.tau, run.steps) == (10.0, 78_000)
    assert spec(optimizer={"lr": 0.1}).optimizer == Adam(lr=0.1, betas=(0.5, 0.999), weight_decay=1e-3)
    assert [data_set.name for data_set in run.task.datasets()] == ["cifar10", "nats_bench"]
    assert [data_set.name for data_set in small().datasets()] == ["cifar10_prefix", "nats_bench"]


def test_the_score_is_that_of_the_likeliest_cell() -> None:
    task = small()
    data = task.data(CPU, DataSource.from_environment())
    net: Any = task.model()
    best = parsed(data.table.cells[6111])
    with torch.no_grad():
        net.architecture.zero_()
        for edge, operation in enumerate(best):
            net.architecture[edge, operation] = 2.0
        metrics = task.evaluate(net, data, ReinMax(), torch.Generator())
    assert metrics["cell"] == 6111
    assert (metrics["cifar10_valid"], metrics["cifar10_test"]) == (91.606667, 94.373333)
    assert (metrics["cifar10_valid_rank"], metrics["cifar10_test_rank"]) == (1, 1)
    assert metrics["imagenet16_120_test"] == 46.711111
    assert OPERATIONS[int(metrics["edge_1_3"])] == "nor_conv_3x3"
    assert OPERATIONS[int(metrics["edge_2_3"])] == "nor_conv_1x1"
    p, q = math.exp(2) / (math.exp(2) + 4), 1 / (math.exp(2) + 4)
    assert metrics["entropy"] == pytest.approx(-p * math.log(p) - 4 * q * math.log(q), rel=1e-5)
    assert metrics["images"] == 1250
    assert task.notes(net, data)["cell"] == data.table.cells[6111]


def test_notes_name_the_cell_and_the_images_searched_on() -> None:
    trainer = Trainer(spec(steps=1))
    with torch.no_grad():
        trainer.model.architecture[:, 3] = 9.0
        trainer.model.architecture[3] = torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0])
    assert trainer.result().notes == {
        "cell": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "images": "the first 2,500 training images of CIFAR-10 alone, so this is no published result",
    }
    whole = ArchitectureSearch().notes(trainer.model, trainer.data)
    assert whole["images"] == "all 50,000 training images of CIFAR-10"


def test_a_sparse_search_resumes_bit_for_bit() -> None:
    run = spec({"evaluation": "sparse"}, estimator="gumbel_softmax", log_every=4, evaluate_every=3)
    stopped, resumed = Trainer(run), Trainer(run)
    for _ in islice(stopped, 4):
        pass
    restore(resumed, encode(stopped))
    one, other = finished(Trainer(run)), finished(resumed)
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    assert (one.final, one.best) == (other.final, other.best)


def test_a_search_on_real_images_learns_them_and_leaves_chance_behind() -> None:
    trainer = Trainer(spec({"batch": 32}, steps=60, optimizer={"lr": 0.05}, log_every=20, evaluate_every=60))
    points = [item.metrics for item in trainer if "loss" in item.metrics]
    assert points[-1]["inner_loss"] < points[0]["inner_loss"] - 0.03
    assert points[-1]["loss"] < points[0]["loss"] - 0.03
    assert trainer.final["entropy"] < math.log(5) - 0.05
