"""The first photographs of CIFAR-10, for where the whole of it is not at hand."""

from __future__ import annotations

import gzip
from typing import ClassVar, Literal, final

from reinmax_core.data import cifar
from reinmax_core.data.base import DataSource
from reinmax_core.data.cifar import CifarImages
from reinmax_core.data.file import DataFile
from reinmax_core.data.images import ImageData


@final
class Cifar10Prefix(CifarImages):
    """The first 2,500 training and 500 test images of CIFAR-10, as published, each part compressed by itself.

    Enough to exercise a model on real photographs. Results on it are not results on CIFAR-10.
    """

    name: Literal["cifar10_prefix"] = "cifar10_prefix"

    title: ClassVar[str] = "CIFAR-10, first records only"
    training_images: ClassVar[int] = 2_500
    files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            name="cifar10/data_batch_1_first2500.bin.gz",
            bytes=7076787,
            sha256="02abc900e9ffe51536a7092c9c60a010c8fa1ebc10d54ac86ecdf576b3376614",
            md5="fb90698b62038fea2ea171e2e67fa415",
            urls=(),
        ),
        DataFile(
            name="cifar10/test_batch_first500.bin.gz",
            bytes=1406727,
            sha256="f83db7bdd32035f13a995a3a6d4fd3b39ae2d8fa94d12f9f2ebde3d064a15853",
            md5="b93e30cb707ceaed35f736b32706e18a",
            urls=(),
        ),
    )

    def load(self, source: DataSource) -> ImageData:
        """Images [2500, 3, 32, 32] and [500, 3, 32, 32], red, green, blue; labels 0 to 9; see `DataSet.load`."""
        train, test = (gzip.decompress(source.fetch(file).read_bytes()) for file in self.files)
        names = [file.name for file in self.files]
        return ImageData(*cifar.read(train, names[0]), *cifar.read(test, names[1]))
