"""What a short spec is filled in with: the published tables' settings, and the length of the published runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from reinmax_core import RunSpec
from reinmax_core.data import DataSource
from reinmax_core.data.images import ImageDataSet
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder
from reinmax_core.tasks.categorical_vae import CategoricalVae
from reinmax_core.value import discover


def spec(task: dict[str, Any], estimator: str | dict[str, Any], **settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": task, "estimator": estimator} | settings)


def categorical(categories: int, latents: int, **settings: Any) -> dict[str, Any]:
    return {"name": "categorical_vae", "categories": categories, "latents": latents} | settings


def bernoulli(**settings: Any) -> dict[str, Any]:
    return {"name": "bernoulli_vae"} | settings


@pytest.mark.parametrize(
    ("size", "optimizer", "tau", "control_tau", "eta"),
    [
        ((8, 4), "adam", 1.3, 1.0, 1.5),
        ((4, 24), "adam", 1.5, 1.3, 1.5),
        ((8, 16), "radam", 1.5, 1.1, 1.5),
        ((16, 12), "radam", 1.5, 0.7, 1.5),
        ((64, 8), "radam", 1.5, 0.7, 1.5),
        ((10, 30), "radam", 1.3, 0.7, 1.0),
    ],
)
def test_reinmax_cv_has_the_settings_of_each_size(
    size: tuple[int, int], optimizer: str, tau: float, control_tau: float, eta: float
) -> None:
    filled = spec(categorical(*size), "reinmax_cv")
    found = filled.estimator
    assert (filled.optimizer.name, filled.optimizer.lr) == (optimizer, 5e-4)
    assert (found.tau, found.control_tau, found.eta) == (tau, control_tau, eta)


def test_what_is_given_of_an_estimator_is_kept_and_the_rest_filled_in() -> None:
    found = spec(categorical(8, 4), {"name": "reinmax_cv", "eta": 0.3}).estimator
    assert (found.tau, found.control_tau, found.eta) == (1.3, 1.0, 0.3)
    assert spec(categorical(9, 9), "reinmax_cv").estimator.control_tau == 0.7, "no row: the estimator's own default"


@pytest.mark.parametrize("size", [(64, 32), (32, 64)])
def test_the_larger_setting_is_filled_in_whichever_way_it_is_read(size: tuple[int, int]) -> None:
    filled = spec(categorical(*size, batch=200, activation="leaky_relu"), "reinmax")
    assert (filled.optimizer.name, filled.optimizer.lr, filled.estimator.tau) == ("radam", 5e-4, 1.1)


@pytest.mark.parametrize(
    ("task", "steps"),
    [
        ({"name": "polynomial", "batch": 512}, 8000),
        (categorical(8, 4), 96_000),
        (categorical(8, 4, dataset="fashion_mnist"), 96_000),
        (categorical(8, 4, dataset="own/letters.npz"), 96_000),
        (categorical(8, 4, dataset="omniglot"), 160 * 243),
        (categorical(8, 4, batch=200), 48_000),
        (categorical(8, 4, batch=10_000), 960),
        (categorical(64, 32, batch=200), 500_000),
        (categorical(32, 64, batch=200, dataset="omniglot"), 2000 * 121),
        ({"name": "gradient_quality"}, 30_000),
        ({"name": "gradient_quality", "dataset": "omniglot", "batch": 50}, 50 * 486),
        ({"name": "listops"}, 96_840),
        ({"name": "listops", "batch": 64}, 20 * 1210),
        ({"name": "architecture_search"}, 78_000),
        ({"name": "architecture_search", "batch": 128}, 200 * 195),
        ({"name": "architecture_search", "dataset": "cifar10_prefix"}, 200 * 19),
        ({"name": "architecture_search", "dataset": "own/birds.npz"}, 78_000),
        (bernoulli(), 1_000_000),
        (bernoulli(dataset="omniglot", batch=50), 1_000_000),
    ],
)
def test_runs_are_as_long_as_published_on_other_data_and_in_other_batches_too(task: dict[str, Any], steps: int) -> None:
    assert spec(task, "reinmax").steps == steps
    assert spec(task, "reinmax", steps=7).steps == 7


def test_an_epoch_is_counted_as_the_data_have_it() -> None:
    for dataset in discover(ImageDataSet):
        task = CategoricalVae(dataset=dataset, batch=70)
        data = task.data(torch.device("cpu"), DataSource.from_environment())
        assert task.steps_of(1) == task.batches(data, seed=0).steps_per_epoch


@pytest.mark.parametrize("estimator", ["relax", "rebar"])
@pytest.mark.parametrize(("dataset", "lr"), [("mnist", 1e-3), ("fashion_mnist", 3e-4), ("omniglot", 1e-3)])
def test_a_published_control_variate_learns_as_fast_as_the_encoder(estimator: str, dataset: str, lr: float) -> None:
    filled = spec(bernoulli(dataset=dataset), estimator)
    assert (filled.optimizer.lr, filled.estimator.parts_lr) == (lr, lr)
    assert spec(bernoulli(dataset=dataset), {"name": estimator, "parts_lr": 0.1}).estimator.parts_lr == 0.1


@pytest.mark.parametrize("estimator", ["double_cv", "rodeo"])
def test_the_other_control_variates_learn_at_a_rate_of_their_own(estimator: str) -> None:
    assert spec(bernoulli(dataset="fashion_mnist"), estimator).estimator.parts_lr == 1e-3


def evaluated(run: RunSpec) -> int:
    """Cost evaluations of an image in a step of the run, as counted."""
    counts = []

    class Counted(BernoulliAutoencoder):
        def reconstruction(self, images: Tensor, draws: Tensor) -> Tensor:
            counts.append(draws.shape[:-2].numel())
            return super().reconstruction(images, draws)

    model = Counted(784, 4, run.task.latents)
    run.task.loss(model, torch.zeros(1, 784), run.estimator, torch.Generator().manual_seed(0))
    return sum(counts)


PATHWISE = tuple(discover(Pathwise))
TABLE_6 = [
    *((estimator, samples) for estimator in ("double_cv", "rodeo", "rloo", *PATHWISE) for samples in (2, 3)),
    ("disarm", 2),
    ("arms", 3),
    ("relax", 3),
]


@pytest.mark.parametrize(("estimator", "samples"), TABLE_6)
def test_every_row_of_table_6_is_had_by_the_tasks_samples_alone(estimator: str, samples: int) -> None:
    run = spec(bernoulli(samples=samples, latents=3), estimator)
    assert evaluated(run) == samples
    if estimator in PATHWISE:
        assert run.task.repeats(run.estimator) == samples
        assert getattr(run.estimator, "samples", 100) == 100, "relaxed draws are no cost evaluations"
    else:
        assert run.task.repeats(run.estimator) == 1, "all draws serve one another as baselines"


@pytest.mark.parametrize("estimator", sorted(discover(Estimator).keys() - {"exact"}))
def test_by_default_the_samples_are_a_row_of_table_6(estimator: str) -> None:
    run = spec(bernoulli(latents=3), estimator)
    assert evaluated(run) == (3 if estimator in ("arms", "rebar", "relax") else 2)


def test_more_samples_are_taken_at_once_or_as_the_estimator_says() -> None:
    assert spec(bernoulli(samples=12), "rloo").estimator.samples == 12
    by_fours = spec(bernoulli(samples=12), {"name": "rloo", "samples": 4})
    assert (by_fours.estimator.samples, by_fours.task.repeats(by_fours.estimator)) == (4, 3)
    with pytest.raises(ValidationError, match=r"samples is 1 .* but 'rloo' takes 2 at a time; choose samples 2, 4"):
        spec(bernoulli(samples=1), "rloo")
    with pytest.raises(ValidationError, match=r"samples is 3 .* but 'disarm' takes 2 at a time; choose samples 2, 4"):
        spec(bernoulli(samples=3), "disarm")
