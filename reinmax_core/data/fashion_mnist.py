"""Pictures of clothes in the format of MNIST, harder to model."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from reinmax_core.data import idx
from reinmax_core.data.base import Citation, DataSource
from reinmax_core.data.file import DataFile
from reinmax_core.data.images import ImageData, ImageDataSet


def _file(name: str, size: int, sha256: str, md5: str) -> DataFile:
    urls = (
        f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",
        f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}",
    )
    return DataFile(name=f"fashion-mnist/{name}", bytes=size, sha256=sha256, md5=md5, urls=urls)


@final
class FashionMnist(ImageDataSet):
    """60,000 training and 10,000 test images of ten kinds of clothes, 28 x 28 grey levels, as many of each kind."""

    name: Literal["fashion_mnist"] = "fashion_mnist"

    title: ClassVar[str] = "Fashion-MNIST"
    terms: ClassVar[str] = "MIT licence, (c) 2017 Zalando SE"
    citation: ClassVar[Citation] = Citation(
        authors="Han Xiao, Kashif Rasul, Roland Vollgraf",
        title="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        year=2017,
        link="https://arxiv.org/abs/1708.07747",
    )
    files: ClassVar[tuple[DataFile, ...]] = (
        _file(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        _file(
            "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        _file(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        _file(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    )

    def load(self, source: DataSource) -> ImageData:
        """Images [60000, 28, 28] and [10000, 28, 28], labels 0 to 9; see `DataSet.load`."""
        return idx.read_image_data(source, self.files)
