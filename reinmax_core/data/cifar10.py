"""Small colour photographs, the images of the architecture search's published table."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import ClassVar, Literal, final

from reinmax_core.data import cifar
from reinmax_core.data.base import DataSource
from reinmax_core.data.cifar import CifarImages
from reinmax_core.data.file import DataCorrupt, DataFile
from reinmax_core.data.images import ImageData

TRAIN = tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6))
TEST = "cifar-10-batches-bin/test_batch.bin"


@final
class Cifar10(CifarImages):
    """50,000 training and 10,000 test images of ten kinds of things, 32 x 32 in colour, as many of each kind."""

    name: Literal["cifar10"] = "cifar10"

    title: ClassVar[str] = "CIFAR-10"
    training_images: ClassVar[int] = 50_000
    files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            name="cifar10/cifar-10-binary.tar.gz",
            bytes=170052171,
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            urls=(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
            ),
        ),
    )

    def load(self, source: DataSource) -> ImageData:
        """Images [50000, 3, 32, 32] and [10000, 3, 32, 32], red, green, blue; labels 0 to 9; see `DataSet.load`."""
        return read_archive(source.fetch(self.files[0]))


def read_archive(path: Path) -> ImageData:
    """The images of the published archive: five files of training records in their order, one of test records.

    Raises:
        DataCorrupt: the archive cannot be read, or lacks a file.
    """
    try:
        with tarfile.open(path) as archive:
            train = b"".join(_content(archive, member) for member in TRAIN)
            test = _content(archive, TEST)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise DataCorrupt(
            f"{path} should be a whole archive with {TEST} and five training files, but is not: {error}; fetch it again"
        ) from error
    return ImageData(*cifar.read(train, path.name), *cifar.read(test, path.name))


def _content(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file.read()
