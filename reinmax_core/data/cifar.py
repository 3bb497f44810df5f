"""The binary record format of CIFAR-10: a byte for the class, then 3 x 32 x 32 bytes for the pixels.

Red, green and blue follow one another, each row by row. Source: Alex Krizhevsky, "Learning Multiple
Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reinmax_core.data.base import Citation
from reinmax_core.data.file import DataCorrupt

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

CLASSES: Final = 10
PIXELS: Final = 3 * 32 * 32
RECORD: Final = 1 + PIXELS

CITATION: Final = Citation(
    authors="Alex Krizhevsky",
    title="Learning Multiple Layers of Features from Tiny Images",
    year=2009,
    link="https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
)

TERMS: Final = "No licence is stated by the authors, who ask to cite their report."


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
