"""The binary record format of CIFAR-10: a byte for the class, then 3 x 32 x 32 bytes for the pixels.

Red, green and blue follow one another, each row by row. Source: Alex Krizhevsky, "Learning Multiple
Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from reinmax_core.data.base import Citation, DataSet, DataSource
from reinmax_core.data.file import DataCorrupt
from reinmax_core.data.images import ImageData

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

CLASSES: Final = 10
PIXELS: Final = 3 * 32 * 32
RECORD: Final = 1 + PIXELS


class CifarImages(DataSet, ABC):
    """Images of CIFAR-10, all or some of them, with a fixed division into training and test images."""

    terms: ClassVar[str] = "No licence is stated by the authors, who ask to cite their report."
    citation: ClassVar[Citation] = Citation(
        authors="Alex Krizhevsky",
        title="Learning Multiple Layers of Features from Tiny Images",
        year=2009,
        link="https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
    )

    training_images: ClassVar[int]
    """How many there are for training."""

    @abstractmethod
    def load(self, source: DataSource) -> ImageData:
        """Images [..., 3, 32, 32], red, green, blue, and labels 0 to 9; see `DataSet.load`."""


def read(content: bytes, name: str) -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
    """Images [records, 3, 32, 32] and their classes [records], writable, in the order of the records.

    Args:
        content: the records, one after the other.
        name: of the file that they are from, for messages.

    Raises:
        DataCorrupt: these are no such records.
    """
    from numpy import frombuffer, uint8

    if not content or len(content) % RECORD:
        raise DataCorrupt(
            f"{name} should hold records of {RECORD} bytes, but holds {len(content)} bytes; fetch it again"
        )
    records = frombuffer(content, uint8).reshape(-1, RECORD)
    labels, pixels = records[:, 0].copy(), records[:, 1:].copy()
    if labels.max() >= CLASSES:
        raise DataCorrupt(f"{name} should hold classes 0 to {CLASSES - 1}, but holds {labels.max()}; fetch it again")
    return pixels.reshape(-1, 3, 32, 32), labels
