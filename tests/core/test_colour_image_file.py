"""A user's own colour images: searched on exactly as published ones, and refused with a reason otherwise."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from reinmax_core import RunSpec, Trainer
from reinmax_core.data import DataSource, DataUnavailable, ImageData
from reinmax_core.data.cifar10_prefix import Cifar10Prefix
from reinmax_core.data.colour_image_file import ColourImageFile
from reinmax_core.data.image_file import ImagesUnfit
from reinmax_core.data.nats_bench import NatsBench
from reinmax_core.tasks.architecture_search import ArchitectureSearch

NAME = "own/birds.npz"
SMALL = {"name": "architecture_search", "dataset": NAME, "cells": 1, "channels": 4, "batch": 8}


@pytest.fixture(scope="module")
def photographs() -> ImageData:
    return Cifar10Prefix().load(DataSource.from_environment())


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    (tmp_path / "own").mkdir()
    table, path = DataSource.from_environment().found(NatsBench.files[0])
    (tmp_path / table.name).parent.mkdir()
    (tmp_path / table.name).symlink_to(path)
    return DataSource(directory=tmp_path)


def saved(source: DataSource, **arrays: Any) -> ColourImageFile:
    numpy.savez(source.directory / NAME, **arrays)
    return ColourImageFile(name=NAME)


def pixels(count: int = 20, shape: tuple[int, ...] = (3, 32, 32)) -> NDArray[numpy.uint8]:
    return numpy.random.default_rng(0).integers(0, 256, (count, *shape), dtype=numpy.uint8)


def labels(count: int = 20, classes: int = 10) -> NDArray[numpy.int64]:
    return numpy.arange(count) % classes


def spec(**task: Any) -> RunSpec:
    run = {"task": SMALL | task, "estimator": "reinmax", "steps": 3, "log_every": 1, "evaluate_every": 3}
    return RunSpec.model_validate(run)


def finished(trainer: Trainer) -> Trainer:
    for _ in trainer:
        pass
    return trainer


@pytest.mark.parametrize("last", ["channels", "columns"])
def test_a_search_on_own_images_is_that_on_the_same_published_ones(
    source: DataSource, photographs: ImageData, last: str
) -> None:
    images = photographs.train_images.transpose(0, 2, 3, 1) if last == "channels" else photographs.train_images
    file = saved(source, train_images=images, train_labels=photographs.train_labels)
    own = finished(Trainer(spec(), source=source))
    published = finished(Trainer(spec(dataset="cifar10_prefix")))
    assert own.final == published.final
    for name, tensor in published.model.state_dict().items():
        assert torch.equal(tensor, own.model.state_dict()[name]), name
    assert own.result().notes == published.result().notes | {
        "images": f"2,500 images of the user's own file {NAME}, while the accuracies are those of the benchmark, "
        "so this is no published result"
    }
    content = (source.directory / NAME).read_bytes()
    assert file.digests(source) == {NAME: hashlib.sha256(content).hexdigest()}
    assert [data.name for data in own.spec.task.datasets()] == [NAME, "nats_bench"]


def test_the_network_tells_as_many_classes_as_there_are(source: DataSource) -> None:
    saved(source, train_images=pixels(), train_labels=labels(classes=3).astype(numpy.int8))
    trainer = finished(Trainer(spec(classes=3), source=source))
    assert trainer.model.get_parameter("classifier.weight").shape[0] == 3
    assert trainer.data.images.first.labels.tolist() == labels(10, classes=3).tolist()
    assert trainer.batches.steps_per_epoch == 1
    assert RunSpec.model_validate_json(trainer.spec.model_dump_json()) == trainer.spec


def test_floats_are_rounded_to_levels(source: DataSource) -> None:
    found, _ = saved(source, train_images=(pixels() / 255).astype("f4"), train_labels=labels()).load(source, 10)
    assert numpy.array_equal(found, pixels())


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (
            {"train_labels": None},
            "should hold an array train_labels, but holds train_images; save it with .*labels=...",
        ),
        ({"train_images": None}, "should hold an array train_images, but holds train_labels"),
        ({"train_images": pixels(shape=(32, 32))}, "[images, 32, 32, 3], but has [20, 32, 32]; save it so"),
        ({"train_images": pixels(shape=(3, 64, 64))}, "but has [20, 3, 64, 64]"),
        ({"train_images": pixels(0)}, "but has [0, 3, 32, 32]"),
        ({"train_images": numpy.uint8(3)}, "but has []"),
        ({"train_images": pixels().astype(int)}, "should be uint8, .* but is int64 from 0 to 255; convert them"),
        ({"train_images": pixels() / 200}, "floats from 0 to 1, but is float64 from 0.0 to 1.275; divide by 255"),
        ({"train_images": numpy.full((20, 3, 32, 32), numpy.nan)}, "floats from 0 to 1, but is float64 from nan"),
        ({"train_labels": labels(19)}, "shape [20], a label for every image, but has [19]; save as many"),
        ({"train_labels": numpy.eye(20)}, "shape [20], a label for every image, but has [20, 20]"),
        ({"train_labels": labels() / 1}, "should be integers, but is float64; number the classes from 0 on"),
        ({"train_labels": labels() + 1}, "should be from 0 to 9, but is from 1 to 10; .* set the task's classes"),
        ({"train_labels": labels() - 1}, "should be from 0 to 9, but is from -1 to 8"),
    ],
)
def test_other_arrays_are_refused_before_any_training(source: DataSource, arrays: Any, reason: str) -> None:
    given = {"train_images": pixels(), "train_labels": labels()} | arrays
    file = saved(source, **{name: array for name, array in given.items() if array is not None})
    with pytest.raises(ImagesUnfit, match=re.escape(reason).replace(r"\.\*", ".*")) as refusal:
        file.load(source, 10)
    assert "birds.npz" in str(refusal.value)


def test_too_few_images_for_a_batch_of_each_half_are_refused(source: DataSource) -> None:
    saved(source, train_images=pixels(15), train_labels=labels(15))
    with pytest.raises(ImagesUnfit, match=r"'own/birds.npz' should hold 16 images or more, .* but a half holds 7; add"):
        Trainer(spec(), source=source)


def test_images_in_the_order_of_their_classes_are_refused(source: DataSource) -> None:
    saved(source, train_images=pixels(), train_labels=labels() // 5)
    Trainer(spec(), source=source)
    saved(source, train_images=pixels(), train_labels=numpy.arange(20) // 2)
    with pytest.raises(ImagesUnfit, match=r"the two halves of 'own/birds.npz' .* none in common; mix the images"):
        Trainer(spec(), source=source)


def test_a_missing_file_is_told_with_the_places_where_it_should_be(source: DataSource) -> None:
    with pytest.raises(DataUnavailable, match=r"'own/birds.npz' should be .*none at .*own/birds.npz; put it there"):
        Trainer(spec(), source=source)


@pytest.mark.parametrize(
    ("task", "field", "words"),
    [
        ({"dataset": "cifar"}, "dataset", "no data set 'cifar'; those that exist are: cifar10, cifar10_prefix; images"),
        ({"dataset": "../birds.npz"}, "dataset", "should be the name of a file below the data folder"),
        ({"dataset": "birds-idx3-ubyte"}, "dataset", "'birds-idx3-ubyte' should end in .npz, as images in colour"),
        ({"dataset": "cifar10", "classes": 7}, "", "classes should be 10 for 'cifar10', but is 7; leave it out"),
        ({"classes": 1}, "classes", "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(task: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)) as refusal:
        ArchitectureSearch.model_validate(SMALL | task)
    assert [error["loc"] for error in refusal.value.errors()] == [(field,) if field else ()]


def test_the_schema_tells_names_and_files() -> None:
    named, own = ArchitectureSearch.model_json_schema()["properties"]["dataset"]["anyOf"]
    assert named["enum"] == ["cifar10", "cifar10_prefix"]
    assert re.search(own["pattern"], NAME)
    assert not re.search(own["pattern"], "own/birds-idx3-ubyte")
    assert not re.search(own["pattern"], "own/../birds.npz")
