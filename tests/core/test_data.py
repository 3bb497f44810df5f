"""Data sets: facts that hold for the published files, and a clear refusal of what is no such file."""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from reinmax_core.data import DataCorrupt, DataSet, DataSource, ImageDataSet, idx
from reinmax_core.data.fashion_mnist import FashionMnist
from reinmax_core.data.mnist import Mnist
from reinmax_core.value import discover

DATA_SETS = [data_set() for data_set in discover(DataSet).values()]
TOO_LARGE_TO_KEEP = {"cifar10"}
KEPT = [data_set for data_set in DATA_SETS if data_set.name not in TOO_LARGE_TO_KEEP]
WITHOUT_ADDRESS = {"cifar10_prefix", "listops", "nats_bench"}


@pytest.mark.parametrize("data_set", KEPT, ids=lambda data_set: data_set.name)
def test_every_file_has_its_published_size_and_checksums(data_set: DataSet) -> None:
    source = DataSource.from_environment()
    digests = data_set.digests(source)
    assert len(digests) == len(data_set.files)
    for file, path in map(source.found, data_set.files):
        content = path.read_bytes()
        assert file.bytes in (None, len(content))
        assert hashlib.sha256(content).hexdigest() == digests[file.name]
        assert file.sha256 in (None, digests[file.name])
        assert hashlib.md5(content).hexdigest() == file.md5
    assert data_set.availability(source).available


@pytest.mark.parametrize("data_set", DATA_SETS, ids=lambda data_set: data_set.name)
def test_every_data_set_says_what_it_is_and_where_it_comes_from(data_set: DataSet) -> None:
    assert data_set.title
    assert data_set.terms
    assert data_set.citation.link.startswith("http")
    assert data_set.name in WITHOUT_ADDRESS or all(len(file.urls) >= 2 for file in data_set.files)
    assert len({file.name for file in data_set.files}) == len(data_set.files)


@pytest.mark.parametrize("data_set", [Mnist(), FashionMnist()], ids=lambda data_set: data_set.name)
def test_images_have_the_published_shapes(data_set: ImageDataSet) -> None:
    data = data_set.load(DataSource.from_environment())
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    assert [array.shape for array in arrays] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    for array in arrays:
        assert array.dtype == numpy.uint8
        assert array.flags.writeable
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)


def test_mnist_has_the_published_digits() -> None:
    data = Mnist().load(DataSource.from_environment())
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert numpy.bincount(data.train_labels).tolist() == train
    assert numpy.bincount(data.test_labels).tolist() == test
    # The mean grey level that the field normalises by.
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_fashion_mnist_has_as_many_of_each_kind() -> None:
    data = FashionMnist().load(DataSource.from_environment())
    assert numpy.bincount(data.train_labels).tolist() == [6000] * 10
    assert numpy.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


IDX = bytes((0, 0, 8, 2)) + struct.pack(">2I", 2, 3) + bytes(range(6))


def test_idx_arrays_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(IDX))
    assert idx.read(path, axes=2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"plain text", "whole gzip file"),
        (gzip.compress(IDX, mtime=0)[:-9], "whole gzip file"),
        (gzip.compress(b"", mtime=0), "begins with nothing"),
        (gzip.compress(IDX[:9], mtime=0), "begins with 00000802"),
        (gzip.compress(bytes((0, 0, 13, 2)) + IDX[4:], mtime=0), "begins with 00000d02"),
        (gzip.compress(IDX[:-1], mtime=0), "should hold 18 in all, but holds 17"),
        (gzip.compress(IDX + b"more", mtime=0), "should hold 18 in all, but holds 22"),
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes, finding: str) -> None:
    path = tmp_path / "array.gz"
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=finding) as refusal:
        idx.read(path, axes=2)
    assert str(path) in str(refusal.value)
    assert str(refusal.value).endswith("; fetch it again")


LISTING = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "pooch", "filelock", "requests", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from reinmax_core.data import DataSet, DataSource
from reinmax_core.value import discover

for name, data_set in discover(DataSet).items():
    print(name, len(data_set.files), data_set().availability(DataSource(directory=sys.argv[1])).available)
"""


def test_data_sets_are_listed_without_torch_numpy_and_pooch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LISTING, str(tmp_path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert {"fashion_mnist 4 False", "mnist 4 False"} <= set(listing.splitlines())
