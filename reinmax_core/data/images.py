"""Labelled images, and the data sets that hold them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinmax_core.data.base import DataSet, DataSource

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """Images and their classes as published: uint8 arrays, grey levels 0 to 255, in the order of the files."""

    train_images: NDArray[numpy.uint8]
    """[train, height, width]"""

    train_labels: NDArray[numpy.uint8]
    """[train]"""

    test_images: NDArray[numpy.uint8]
    """[test, height, width]"""

    test_labels: NDArray[numpy.uint8]
    """[test]"""


class ImageDataSet(DataSet, ABC):
    """A data set of labelled images with a fixed division into training and test images."""

    @abstractmethod
    def load(self, source: DataSource) -> ImageData:
        """The images of the verified files; see `DataSet.load`."""
