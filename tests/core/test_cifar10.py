"""CIFAR-10: its records, the published archive, and the part of it that is kept beside the tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy
import pytest

from reinmax_core.data import DataCorrupt, DataSource, DataUnavailable, cifar
from reinmax_core.data.cifar10 import TEST, TRAIN, Cifar10, read_archive
from reinmax_core.data.cifar10_prefix import Cifar10Prefix


def record(label: int, red: int, green: int, blue: int) -> bytes:
    return bytes([label]) + bytes([red]) * 1024 + bytes([green]) * 1024 + bytes([blue]) * 1024


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def test_records_are_read_plane_by_plane_and_row_by_row() -> None:
    pixels = numpy.arange(3072) % 251
    images, labels = cifar.read(bytes([7]) + pixels.astype(numpy.uint8).tobytes(), "records")
    assert (images.shape, labels.tolist()) == ((1, 3, 32, 32), [7])
    assert images[0, 2, 5, 6] == (2 * 1024 + 5 * 32 + 6) % 251
    assert images.flags.writeable
    assert labels.flags.writeable


@pytest.mark.parametrize(
    ("content", "finding"),
    [(b"", "holds 0 bytes"), (record(1, 0, 0, 0)[:-1], "holds 3072 bytes"), (record(10, 0, 0, 0), "holds 10")],
)
def test_what_are_no_records_is_refused(content: bytes, finding: str) -> None:
    with pytest.raises(DataCorrupt, match=finding):
        cifar.read(content, "records")


def test_the_archive_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    # Later files first, as nothing says that an archive is sorted.
    files = {name: record(number, number, 0, 255) for number, name in enumerate(TRAIN)}
    data = read_archive(archive(tmp_path / "cifar.tar.gz", {TEST: record(9, 1, 2, 3), **dict(reversed(files.items()))}))
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert data.train_images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.test_labels.tolist() == [9]
    assert data.test_images[0, :, 31, 31].tolist() == [1, 2, 3]


def test_what_is_no_such_archive_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    incomplete = archive(tmp_path / "incomplete.tar.gz", {name: record(0, 0, 0, 0) for name in TRAIN})
    for path in (broken, incomplete):
        with pytest.raises(DataCorrupt, match="fetch it again"):
            read_archive(path)


def test_the_prefix_holds_the_first_published_images() -> None:
    data = Cifar10Prefix().load(DataSource.from_environment())
    assert data.train_images.shape == (2500, 3, 32, 32)
    assert data.test_images.shape == (500, 3, 32, 32)
    # The first classes of the published files: frog, truck, truck, deer, automobile; cat, ship, ship, airplane, frog.
    assert data.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.test_labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.train_images[0, :, 0, 0].tolist() == [59, 62, 63]
    # The means that the field normalises by, of red, green and blue.
    assert data.train_images.mean((0, 2, 3)) == pytest.approx([125.3, 123.0, 113.9], abs=2)


def test_what_has_no_address_is_not_promised_to_be_downloaded(tmp_path: Path) -> None:
    source = DataSource(directory=tmp_path)
    prefix, whole = Cifar10Prefix().availability(source), Cifar10().availability(source)
    assert "no address publishes them" in (prefix.reason or "")
    assert "the first job that needs it downloads it" in (whole.reason or "")
    with pytest.raises(DataUnavailable, match=r"data_batch_1_first2500.bin.gz .* is neither on this machine nor to be"):
        Cifar10Prefix().digests(source)
