"""Runs trained side by side are those trained alone, to the last bit, whatever is beside them and happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy
import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.categorical import Streams, uniform
from reinmax_core.checkpoint import encode, restore
from reinmax_core.data import DataSource
from reinmax_core.data.mnist import Mnist
from reinmax_core.models.stacked import stacked
from reinmax_core.replicas import Replicas, form, packable, trainers_of
from reinmax_core.run import Progress
from reinmax_core.trainer import Diverged

IMAGES = {"dataset": "own/digits.npz", "image_shape": [14, 14], "bound_samples": 2, "bound_images": 10}
TASKS: dict[str, dict[str, Any]] = {
    "polynomial": {"name": "polynomial"},
    "polynomial, other exponent": {"name": "polynomial", "p": 1.5, "c": "linear", "latents": 64, "batch": 10},
    "categorical_vae": {"name": "categorical_vae", "batch": 20, **IMAGES},
    "categorical_vae, odd sizes": {
        "name": "categorical_vae", "batch": 7, "categories": 5, "latents": 3, "activation": "leaky_relu", **IMAGES
    },
    "categorical_vae, two classes": {"name": "categorical_vae", "batch": 9, "categories": 2, "latents": 5, **IMAGES},
    "bernoulli_vae": {"name": "bernoulli_vae", "batch": 20, "gradient_batches": 2, **IMAGES},
    "bernoulli_vae, one draw": {
        "name": "bernoulli_vae", "batch": 20, "gradient_batches": 2, "samples": 1, "binarisation": "static", **IMAGES
    },
    "bernoulli_vae, odd sizes": {
        "name": "bernoulli_vae", "batch": 7, "gradient_batches": 2, "samples": 3, "latents": 13, "hidden": 31,
        "kl": "analytic", "parameterisation": "paper", **IMAGES
    },
}  # fmt: skip
VARIED: tuple[dict[str, Any], ...] = (
    {"seed": 0},
    {"seed": 1},
    {"seed": 2, "optimizer": {"name": "radam", "lr": 0.01}},
    {"seed": 3, "estimator": {"tau": 1.4}},
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    """Of a file with a few small digits."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "own").mkdir()
    digits = Mnist().load(DataSource.from_environment())
    train, test = digits.train_images[:60, ::2, ::2], digits.test_images[:20, ::2, ::2]
    numpy.savez(folder / "own/digits.npz", train_images=train, test_images=test)
    return DataSource(directory=folder)


def specs(task: str, estimator: str = "reinmax", steps: int = 12) -> list[RunSpec]:
    """Runs that differ in all that they may differ in."""
    found = []
    for varied in VARIED:
        named = {"name": estimator} | varied.get("estimator", {})
        known = {"task": TASKS[task], "steps": steps, "log_every": 5, "evaluate_every": 7, "optimizer": "radam"}
        found.append(RunSpec.model_validate(known | varied | {"estimator": named}))
    return found


def points(steps: Iterator[Progress]) -> list[tuple[int, dict[str, float]]]:
    return [(progress.step, progress.metrics) for progress in steps if progress.metrics]


def alone(spec: RunSpec, source: DataSource) -> tuple[Trainer, list[tuple[int, dict[str, float]]]]:
    trainer = Trainer(spec, source=source)
    return trainer, points(iter(trainer))


def together(trainers: tuple[Trainer, ...]) -> tuple[Replicas, dict[Trainer, list[tuple[int, dict[str, float]]]]]:
    replicas = Replicas(trainers)
    found: dict[Trainer, list[tuple[int, dict[str, float]]]] = {trainer: [] for trainer in trainers}
    for trainer, progress in replicas:
        found[trainer] += points(iter([progress]))
    return replicas, found


def files(trainer: Trainer) -> dict[str, bytes]:
    """All that a run has come to but the time it took."""
    trainer.wall_time_s = 0.0
    return encode(trainer)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("estimator", ["reinmax", "straight_through", "gumbel_softmax", "gapped_straight_through"])
def test_a_replica_is_its_run_alone(task: str, estimator: str, source: DataSource) -> None:
    trainers = trainers_of(specs(task, estimator), source=source)
    _, found = together(trainers)
    for trainer in trainers:
        other, logged = alone(trainer.spec, source)
        assert found[trainer] == logged
        assert files(trainer) == files(other)
        assert trainer.result().metrics == other.result().metrics


@pytest.mark.parametrize("estimator", ["gumbel_rao", "reinmax_rao", "reinmax_cv", "argmax_straight_through"])
def test_so_it_is_with_every_estimator_that_passes_a_gradient_through_a_draw(
    estimator: str, source: DataSource
) -> None:
    trainers = trainers_of(specs("categorical_vae, odd sizes", estimator, steps=3), source=source)
    together(trainers)
    for trainer in trainers:
        assert files(trainer) == files(alone(trainer.spec, source)[0])


def test_neither_number_nor_order_of_the_others_matters(source: DataSource) -> None:
    several = specs("categorical_vae")
    whole = dict(zip(range(4), together(trainers_of(several, source=source))[0].trainers, strict=True))
    other = together(trainers_of([several[3], several[1]], source=source))[0].trainers
    assert files(whole[3]) == files(other[0])
    assert files(whole[1]) == files(other[1])


@pytest.mark.parametrize("task", ["polynomial", "categorical_vae"])
def test_replicas_are_saved_and_go_on_alone_or_together_from_wherever_they_are(task: str, source: DataSource) -> None:
    several = specs(task)
    begun = trainers_of(several, source=source)
    for _ in islice(Replicas(begun), 4 * 5):
        pass
    assert [trainer.step for trainer in begun] == [5] * 4
    resumed = trainers_of(several, source=source)
    for trainer, saved in zip(resumed[1:], begun[1:], strict=True):
        restore(trainer, encode(saved))
    apart = Trainer(several[1], source=source)
    restore(apart, encode(begun[1]))
    points(iter(apart))
    together(resumed)
    for trainer in resumed:
        assert files(trainer) == files(alone(trainer.spec, source)[0])
    assert files(apart) == files(resumed[1])


@pytest.mark.parametrize("task", ["polynomial", "categorical_vae"])
def test_one_that_diverges_drops_out_and_harms_nobody(task: str, source: DataSource) -> None:
    several = specs(task)
    wild = several[1].model_copy(update={"optimizer": several[1].optimizer.model_copy(update={"lr": 100.0})})
    trainers = trainers_of([several[0], wild, several[2]], source=source)
    torch.nn.init.constant_(next(trainers[1].model.parameters()), torch.inf)
    replicas, _ = together(trainers)
    assert list(replicas.diverged) == [trainers[1]]
    with pytest.raises(Diverged, match="try a smaller learning rate than 100"):
        raise replicas.diverged[trainers[1]]
    for trainer in (trainers[0], trainers[2]):
        assert files(trainer) == files(alone(trainer.spec, source)[0])


def test_one_may_be_dropped_and_keeps_what_it_has_reached(source: DataSource) -> None:
    several = specs("categorical_vae")
    trainers = trainers_of(several, source=source)
    replicas = Replicas(trainers)
    for trainer, _ in replicas:
        if trainer.step == 4:
            replicas.drop(trainers[2])
    assert [trainer.step for trainer in trainers] == [12, 12, 4, 12]
    points(iter(trainers[2]))
    for trainer in trainers:
        assert files(trainer) == files(alone(trainer.spec, source)[0])


def test_time_is_shared_among_replicas(source: DataSource) -> None:
    trainers = trainers_of(specs("polynomial"), source=source)
    together(trainers)
    assert all(trainer.wall_time_s > 0 for trainer in trainers)


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "polynomial", "estimator": "rloo"},
        {"task": {"name": "polynomial", "latents": 65}, "estimator": "reinmax"},
        {"task": "categorical_vae", "estimator": "reinforce"},
        {"task": "categorical_vae", "estimator": "reinmax", "precision": "bfloat16"},
        {"task": "listops", "estimator": "reinmax"},
        {"task": "bernoulli_vae", "estimator": "rloo"},
        {"task": {"name": "bernoulli_vae", "prior": "learned"}, "estimator": "reinmax"},
    ],
)
def test_what_cannot_be_trained_side_by_side_is_refused(settings: dict[str, Any]) -> None:
    spec = RunSpec.model_validate(settings)
    assert not packable(spec)
    trainer = Trainer.__new__(Trainer)
    trainer.spec = spec
    with pytest.raises(ValueError, match="train such runs one by one"):
        Replicas([trainer])


def test_runs_of_different_forms_are_refused() -> None:
    one, other = (RunSpec.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": n}) for n in (5, 6))
    assert form(one) != form(other)
    assert form(one) == form(one.model_copy(update={"seed": 9}))
    with pytest.raises(ValueError, match="may differ in seed, learning rate and tau alone"):
        Replicas([Trainer(one), Trainer(other)])


def test_layers_with_other_parameters_are_not_stacked() -> None:
    with pytest.raises(TypeError, match="parameters of BatchNorm1d cannot be stacked"):
        stacked([torch.nn.Sequential(torch.nn.BatchNorm1d(3)) for _ in range(2)])


def test_streams_draw_for_each_part_what_its_generator_would() -> None:
    seeds = (3, 5)
    streams = Streams([torch.Generator().manual_seed(seed) for seed in seeds])
    for _ in range(2):
        found = uniform((2, 3, 4), torch.zeros(()), streams)
    for part, seed in zip(found, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        uniform((3, 4), torch.zeros(()), generator)
        assert torch.equal(part, uniform((3, 4), torch.zeros(()), generator))
