"""Handwritten digits, the data of the categorical autoencoder's published tables."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from reinmax_core.data import idx
from reinmax_core.data.base import Citation, DataSource
from reinmax_core.data.file import DataFile
from reinmax_core.data.images import ImageData, ImageDataSet


def _file(name: str, size: int, sha256: str, md5: str) -> DataFile:
    urls = (
        f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
        f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}",
    )
    return DataFile(name=f"mnist/{name}", bytes=size, sha256=sha256, md5=md5, urls=urls)


@final
class Mnist(ImageDataSet):
    """60,000 training and 10,000 test images of the digits 0 to 9, 28 x 28 grey levels, ink bright on black."""

    name: Literal["mnist"] = "mnist"

    title: ClassVar[str] = "MNIST"
    terms: ClassVar[str] = "No licence is stated by the authors."
    citation: ClassVar[Citation] = Citation(
        authors="Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
        title="The MNIST database of handwritten digits",
        year=1998,
        link="http://yann.lecun.com/exdb/mnist/",
    )
    files: ClassVar[tuple[DataFile, ...]] = (
        _file(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        _file(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        _file(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        _file(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    )

    def load(self, source: DataSource) -> ImageData:
        """Images [60000, 28, 28] and [10000, 28, 28], labels 0 to 9; see `DataSet.load`."""
        return idx.read_image_data(source, self.files)
