"""Every task with every estimator that it accepts: trained, stopped, resumed to the last bit, and evaluated."""

import math
from itertools import islice, product
from typing import Any

import numpy
import pytest
import torch
from pydantic import ValidationError

from reinmax_core import RunSpec, Trainer
from reinmax_core.buckets import Sequences
from reinmax_core.checkpoint import encode, restore
from reinmax_core.data import DataSource
from reinmax_core.data.cifar10_prefix import Cifar10Prefix
from reinmax_core.data.expressions import encoded, plain
from reinmax_core.data.listops import Listops as ListopsDataSet
from reinmax_core.data.listops import read
from reinmax_core.data.mnist import Mnist
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.tasks.base import Task
from reinmax_core.tasks.listops import Splits
from reinmax_core.value import discover

CPU = torch.device("cpu")
SOURCE = DataSource.from_environment()
IMAGES = {"dataset": "own/digits.npz", "image_shape": (14, 14), "batch": 8}
BOUND = {"bound_samples": 2, "bound_images": 10}
SMALL: dict[str, dict[str, Any]] = {
    "architecture_search": {"dataset": "own/photographs.npz", "cells": 1, "channels": 2, "batch": 4},
    "bernoulli_vae": IMAGES | BOUND | {"hidden": 8, "latents": 2, "gradient_batches": 2},
    "categorical_vae": IMAGES | BOUND | {"categories": 3, "latents": 2},
    "gradient_quality": IMAGES | {"categories": 3, "latents": 2, "images": 4, "draws": 20},
    "listops": {"tokens": "words", "embedding": 6, "hidden": 6, "batch": 8},
    "polynomial": {"latents": 8, "batch": 16},
}


def spec(task: str, estimator: str) -> RunSpec:
    """Three steps of a small task, with binary variables for an estimator of such."""
    settings = {"name": task} | SMALL[task]
    if discover(Estimator)[estimator].binary_only and "categories" in settings:
        settings["categories"] = 2
    run = {"task": settings, "estimator": estimator, "steps": 3, "log_every": 3, "evaluate_every": 2}
    if task == "listops":
        run["optimizer"] = {"lr": 0.1}  # at the published rate, steps of the smallest gradients are below rounding
    return RunSpec.model_validate(run)


def is_accepted(task: str, estimator: str) -> bool:
    try:
        return bool(spec(task, estimator))
    except ValidationError:
        return False


ALL = list(product(discover(Task), discover(Estimator)))
PAIRS = [pair for pair in ALL if is_accepted(*pair)]


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    """A data folder with files of a few published images each, beside what the environment has."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "own").mkdir()
    digits, photographs = Mnist().load(SOURCE), Cifar10Prefix().load(SOURCE)
    train, test = digits.train_images[:200, ::2, ::2], digits.test_images[:40, ::2, ::2]
    numpy.savez(folder / "own/digits.npz", train_images=train, test_images=test)
    images, labels = photographs.train_images[:60], photographs.train_labels[:60]
    numpy.savez(folder / "own/photographs.npz", train_images=images, train_labels=labels)
    return DataSource(directory=folder, mirrors=(str(SOURCE.directory), *SOURCE.mirrors))


@pytest.fixture(scope="module")
def small_data(small_files: DataSource) -> dict[str, Any]:
    """Data of every task. Files of ListOps are known by their checksums, so of its expressions a few short ones."""
    found = read(SOURCE.fetch(ListopsDataSet.files[1]))
    short = [
        (plain(text), label) for text, label in zip(found.texts, found.labels, strict=True) if 60 < len(text) < 120
    ]
    tokens, lengths = (torch.from_numpy(array) for array in encoded([text for text, _ in short], "words"))
    expressions = Sequences(tokens, lengths, torch.tensor([label + 1 for _, label in short]))
    parts = (expressions.at(torch.arange(len(short))[part]) for part in (slice(40), slice(40, 50), slice(50, 60)))
    read_from_files = {
        name: task.model_validate(SMALL[name]).data(CPU, small_files)
        for name, task in discover(Task).items()
        if name != "listops"
    }
    return read_from_files | {"listops": Splits(*parts, origin="the published validation expressions")}


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Trees of tensors and values, equal to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            assert_same(one[name], other[name], f"{path}/{name}")
    elif isinstance(one, list | tuple):
        for number, (item, counterpart) in enumerate(zip(one, other, strict=True)):
            assert_same(item, counterpart, f"{path}/{number}")
    else:
        assert one == other, path


def test_all_pairs_are_accepted_but_costs_alone_where_the_model_draws() -> None:
    tasks, estimators = discover(Task), discover(Estimator)
    refused = {
        (task, name) for task, name in ALL if tasks[task].needs_pathwise and not issubclass(estimators[name], Pathwise)
    }
    assert set(ALL) - set(PAIRS) == refused


@pytest.mark.parametrize(("task", "estimator"), PAIRS)
def test_every_task_trains_resumes_and_evaluates_with_every_estimator_it_accepts(
    task: str, estimator: str, small_data: dict[str, Any]
) -> None:
    run = spec(task, estimator)
    whole, stopped, resumed = (Trainer(run, data=small_data[task]) for _ in range(3))
    before = [parameter.detach().clone() for parameter in whole.model.parameters()]
    assert [progress.step for progress in whole] == [1, 2, 3]
    for old, parameter in zip(before, whole.model.parameters(), strict=True):
        assert parameter.grad is not None
        assert not torch.equal(old, parameter), "a parameter was not trained"
    assert {"loss", "train_loss", run.task.objective} <= whole.final.keys()
    assert all(math.isfinite(value) for value in whole.final.values())
    assert whole.best is not None
    assert whole.best.metric == run.task.objective
    assert all(name.isidentifier() and note for name, note in whole.result().notes.items())

    assert [progress.step for progress in islice(stopped, 2)] == [1, 2]
    restore(resumed, encode(stopped))
    assert [progress.step for progress in resumed] == [3]
    # The whole state: model, optimisers, what the estimator has learned, random numbers, `final` and `best`.
    untimed = (trainer.state_dict() | {"wall_time_s": 0} for trainer in (whole, resumed))
    assert_same(*untimed)
