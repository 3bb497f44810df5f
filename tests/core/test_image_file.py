"""A user's own images: read as they are, divided where they are not, and refused with a reason otherwise."""

from __future__ import annotations

import gzip
import hashlib
import logging
import re
import struct
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from reinmax_core import RunSpec, Trainer
from reinmax_core.data import DataCorrupt, DataSource, DataUnavailable
from reinmax_core.data.image_file import ImageFile, ImagesUnfit
from reinmax_core.tasks.categorical_vae import CategoricalVae

SHAPE = (4, 3)
TASKS = {
    "categorical_vae": {"latents": 2, "bound_samples": 2, "bound_images": 5},
    "bernoulli_vae": {"latents": 3, "hidden": 4, "bound_samples": 2, "bound_images": 5, "gradient_batches": 2},
    "gradient_quality": {"latents": 2, "categories": 3, "images": 4, "draws": 9},
}


def levels(count: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[numpy.uint8]:
    return numpy.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=numpy.uint8)


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    (tmp_path / "own").mkdir()
    return DataSource(directory=tmp_path)


def saved(source: DataSource, **arrays: Any) -> ImageFile:
    numpy.savez_compressed(source.directory / "own/letters.npz", **arrays)
    return ImageFile(name="own/letters.npz")


def test_levels_are_read_as_they_are(source: DataSource) -> None:
    train, test = levels(20), levels(5, seed=1)
    found = saved(source, train_images=train, test_images=test.reshape(5, 12), labels=train).load(source, SHAPE)
    assert numpy.array_equal(found.train, train)
    assert numpy.array_equal(found.test, test)
    assert found.train.dtype == found.test.dtype == numpy.uint8


def test_floats_and_booleans_become_levels(source: DataSource) -> None:
    fractions = levels(20) / 255
    found = saved(source, train_images=fractions.astype(numpy.float32), test_images=fractions > 0.5).load(source, SHAPE)
    assert numpy.array_equal(found.train, levels(20))
    assert numpy.array_equal(found.test, 255 * (levels(20) > 127))


@pytest.mark.parametrize("train", [levels(20), levels(20) / 255, levels(20) > 127])
def test_test_images_may_be_black(source: DataSource, train: Any) -> None:
    found = saved(source, train_images=train, test_images=0 * levels(5)).load(source, SHAPE)
    assert found.train.max() > 1
    assert found.test.max() == 0


def test_the_last_tenth_is_held_out_where_there_are_no_test_images(
    source: DataSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = saved(source, train_images=levels(57)).load(source, SHAPE)
    assert numpy.array_equal(numpy.concatenate((found.train, found.test)), levels(57))
    assert len(found.test) == 5
    assert caplog.messages == ["own/letters.npz has no test images: the last 5 of its 57 images are held out"]


def idx(images: NDArray[numpy.uint8]) -> bytes:
    return bytes((0, 0, 8, 3)) + struct.pack(">3I", *images.shape) + images.tobytes()


@pytest.mark.parametrize("other", ["t10k", "test"])
def test_idx_files_are_read_with_the_test_images_beside_them(source: DataSource, other: str) -> None:
    (source.directory / "own/kana-train-images.idx3-ubyte").write_bytes(idx(levels(20)))
    (source.directory / f"own/kana-{other}-images.idx3-ubyte").write_bytes(idx(levels(4, seed=1)))
    file = ImageFile(name="own/kana-train-images.idx3-ubyte")
    found = file.load(source, SHAPE)
    assert numpy.array_equal(found.train, levels(20))
    assert numpy.array_equal(found.test, levels(4, seed=1))
    assert file.digests(source) == {
        f"own/kana-{part}-images.idx3-ubyte": hashlib.sha256(idx(content)).hexdigest()
        for part, content in (("train", levels(20)), (other, levels(4, seed=1)))
    }


def test_compressed_idx_files_are_read(source: DataSource) -> None:
    (source.directory / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(levels(20))))
    found = ImageFile(name="images-idx3-ubyte.gz").load(source, SHAPE)
    assert numpy.array_equal(numpy.concatenate((found.train, found.test)), levels(20))


def test_mirror_folders_have_files_too_and_the_data_folder_goes_first(source: DataSource, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "own").mkdir(parents=True)
    both = DataSource(directory=source.directory, mirrors=("https://example.invalid/data", str(mirror)))
    saved(DataSource(directory=mirror), train_images=levels(20, seed=2))
    file = ImageFile(name="own/letters.npz")
    assert numpy.array_equal(file.load(both, SHAPE).train, levels(20, seed=2)[:18])
    saved(source, train_images=levels(20))
    assert numpy.array_equal(file.load(both, SHAPE).train, levels(20)[:18])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"train": levels(20)}, "should hold an array train_images, but holds train; save it with numpy.savez"),
        ({}, "but holds nothing"),
        ({"train_images": levels(20, shape=(3, 4))}, r"\[images, 4, 3\] or \[images, 12\], but has \[20, 3, 4\]"),
        ({"train_images": levels(20, shape=(4, 3, 1))}, r"but has \[20, 4, 3, 1\]; save it so, or set .* image_shape"),
        ({"train_images": levels(0)}, r"but has \[0, 4, 3\]"),
        ({"train_images": numpy.uint8(3)}, r"but has \[\]"),
        ({"train_images": levels(20), "test_images": levels(5, shape=(5,))}, r"test_images of .* but has \[5, 5\]"),
        ({"train_images": levels(20).astype(int)}, "should be uint8, .* but is int64 from 0 to 25.; convert them"),
        ({"train_images": levels(20).astype(float)}, "floats from 0 to 1, but is float64 from 0.0 to 25..0; divide"),
        ({"train_images": levels(20) / 255 - 0.1}, r"float64 from -0.1 to 0\.\d+; scale them, as by \(x - x.min\(\)\)"),
        ({"train_images": numpy.full((20, 4, 3), numpy.nan)}, "float64 from nan to nan; replace what is no finite"),
        ({"train_images": numpy.full((20, 4, 3), numpy.inf)}, "float64 from inf to inf; replace what is no finite"),
        ({"train_images": levels(20) * 257.0}, "float64 from 0.0 to 65535.0; divide by the largest level there can"),
        ({"train_images": levels(20) // 128}, "uint8 from 0 to 255, but is uint8 from 0 to 1; mult.* 0 and 1 as bool"),
        (
            {"train_images": 0 * levels(20), "test_images": levels(5) // 128},
            "test_images of .* should be uint8 from 0 to 255, but is uint8 from 0 to 1",
        ),
        ({"train_images": 0 * levels(20), "test_images": 0 * levels(5)}, "but is uint8 from 0 to 0; multiply"),
        ({"train_images": levels(20) / 255, "test_images": levels(5) // 128}, "test_images of .* is uint8 from 0 to 1"),
        ({"train_images": numpy.full((20, 4, 3), "ink")}, "should be uint8, .* but is <U3; convert"),
        ({"train_images": levels(1)}, "should hold two images or more, but holds 1"),
    ],
)
def test_other_arrays_are_refused_before_any_training(source: DataSource, arrays: Any, reason: str) -> None:
    file = saved(source, **arrays)
    with pytest.raises(ImagesUnfit, match=reason) as refusal:
        file.load(source, SHAPE)
    assert "letters.npz" in str(refusal.value)


def test_objects_are_not_unpickled(source: DataSource) -> None:
    objects = numpy.array([[print]], dtype=object)
    with pytest.raises(ImagesUnfit, match="plain numbers, but cannot be read: Object arrays cannot be loaded"):
        saved(source, train_images=objects).load(source, SHAPE)


@pytest.mark.parametrize("content", [b"", b"plain text", "cut short", "an array alone"])
def test_what_is_no_archive_is_refused(source: DataSource, content: bytes | str) -> None:
    file, path = saved(source, train_images=levels(20)), source.directory / "own/letters.npz"
    if content == "an array alone":
        with path.open("wb") as stream:
            numpy.save(stream, levels(20))
    else:
        path.write_bytes(path.read_bytes()[:-30] if isinstance(content, str) else content)
    with pytest.raises(ImagesUnfit, match=re.escape(f"{path} should be a whole .npz file")):
        file.load(source, SHAPE)


def test_what_is_no_idx_file_is_refused(source: DataSource) -> None:
    for name, content in (
        ("images-idx3-ubyte", idx(levels(20))[:-1]),
        ("plain-idx3-ubyte", b"plain text"),
        ("cut-idx3-ubyte.gz", gzip.compress(idx(levels(20)))[:-9]),
    ):
        (source.directory / name).write_bytes(content)
        with pytest.raises(DataCorrupt, match=f"{name} (announces|should be).*; save it anew$"):
            ImageFile(name=name).load(source, SHAPE)


def test_a_missing_file_is_told_with_the_places_where_it_should_be(source: DataSource) -> None:
    with pytest.raises(DataUnavailable, match=r"'own/none.npz' should be .*none at .*own/none.npz; put it there"):
        ImageFile(name="own/none.npz").digests(source)


@pytest.mark.parametrize(
    "name",
    [
        "../x.npz", "own/../../x.npz", "/etc/x.npz", "own//x.npz", ".hidden.npz", "a\\..\\x.npz", "~/x.npz",
        "x.npy", "own/x", "x.npz\n", "a" * 200 + ".npz",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="should be the name of a file below the data folder") as refusal:
        CategoricalVae(dataset=name)
    assert [error["loc"] for error in refusal.value.errors()] == [("dataset",)]


def test_an_unknown_data_set_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValidationError, match="no data set 'mnits'; those that exist are: fashion_mnist, mnist, omn"):
        CategoricalVae(dataset="mnits")


def test_published_images_have_their_shape() -> None:
    run = {"task": {"name": "categorical_vae", "image_shape": [32, 32]}, "estimator": "reinmax"}
    with pytest.raises(ValidationError, match=r"image_shape should be \[28, 28\] for 'mnist', but is \[32, 32\]"):
        RunSpec.model_validate(run)


def test_the_schema_tells_names_and_files() -> None:
    named, own = CategoricalVae.model_json_schema()["properties"]["dataset"]["anyOf"]
    assert named["enum"] == ["fashion_mnist", "mnist", "omniglot"]
    assert re.search(own["pattern"], "own/letters.npz")
    assert not re.search(own["pattern"], "mnist")
    assert not re.search(own["pattern"], "own/../letters.npz")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_on_images_trains_on_them(source: DataSource, task: str) -> None:
    saved(source, train_images=levels(30), test_images=levels(6, seed=1))
    own = {"name": task, "dataset": "own/letters.npz", "image_shape": SHAPE, "batch": 10}
    run = {"task": own | TASKS[task], "estimator": "reinmax", "steps": 4, "evaluate_every": 2}
    trainer = Trainer(RunSpec.model_validate(run), source=source)
    assert [progress.step for progress in trainer] == [1, 2, 3, 4]
    # An untrained model needs 12 log 2 = 8.3 nats an image.
    assert 5 < trainer.final["test_loss"] < 12
    assert trainer.result().notes == {"images": "the user's own file own/letters.npz, tested on 6 images"}
    (data,) = trainer.spec.task.datasets()
    content = (source.directory / "own/letters.npz").read_bytes()
    assert data.digests(source) == {"own/letters.npz": hashlib.sha256(content).hexdigest()}
    assert RunSpec.model_validate_json(trainer.spec.model_dump_json()) == trainer.spec


def test_a_batch_larger_than_the_file_is_refused(source: DataSource) -> None:
    saved(source, train_images=levels(30))
    own = {"name": "categorical_vae", "dataset": "own/letters.npz", "image_shape": SHAPE}
    with pytest.raises(ValueError, match="a batch of 100 cannot be taken from 27 examples"):
        Trainer(RunSpec.model_validate({"task": own, "estimator": "reinmax"}), source=source)


@pytest.mark.parametrize(("task", "trained_on"), [("categorical_vae", 180), ("bernoulli_vae", 162)])
def test_means_over_the_last_epoch_are_of_as_many_steps_as_the_file_has_batches(
    source: DataSource, task: str, trained_on: int
) -> None:
    saved(source, train_images=levels(180), test_images=levels(20, seed=1))
    own = {"name": task, "dataset": "own/letters.npz", "image_shape": SHAPE, "batch": 30} | TASKS[task]
    run = {"task": own, "estimator": "reinmax", "steps": 14, "log_every": 1, "evaluate_every": 14}
    trainer = Trainer(RunSpec.model_validate(run), source=source)
    losses = [progress.metrics["loss"] for progress in trainer]
    last_epoch = losses[-(trained_on // 30) :]
    assert trainer.final["train_loss"] == pytest.approx(sum(last_epoch) / len(last_epoch), rel=1e-6)
