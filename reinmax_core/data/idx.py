"""The IDX file format of MNIST and its successors, gzip-compressed or not.

Two zero bytes, the type of the elements (8: unsigned byte), the number of axes, the length of each axis
as a big-endian 32-bit number, then the elements, last axis fastest. Source: Yann LeCun, Corinna Cortes
and Christopher J. C. Burges, The MNIST database of handwritten digits, 1998,
http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reinmax_core.data.base import DataSource
from reinmax_core.data.file import DataCorrupt, DataFile
from reinmax_core.data.images import ImageData

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

FETCH: Final = "fetch it again"


def read_image_data(source: DataSource, files: tuple[DataFile, ...]) -> ImageData:
    """Training images, training labels, test images and test labels, from four files in this order.

    Raises:
        DataCorrupt: a file is not the published one, or not an IDX file of bytes with the expected axes.
        DataUnavailable: a file is neither on this machine nor to be had.
    """
    train_images, train_labels, test_images, test_labels = (source.fetch(file) for file in files)
    return ImageData(
        train_images=read(train_images, axes=3),
        train_labels=read(train_labels, axes=1),
        test_images=read(test_images, axes=3),
        test_labels=read(test_labels, axes=1),
    )


def read(path: Path, axes: int, remedy: str = FETCH) -> NDArray[numpy.uint8]:
    """The array of an IDX file of unsigned bytes, compressed if its name ends in .gz, writable, with those axes.

    Args:
        path: of the file.
        axes: how many.
        remedy: what is to be done about a damaged file, for the message.

    Raises:
        DataCorrupt: the file holds something else.
    """
    from numpy import frombuffer, uint8

    content = _decompressed(path, remedy) if path.suffix == ".gz" else bytearray(path.read_bytes())
    header_bytes = 4 + 4 * axes
    shape = _shape(path, content[:header_bytes], axes, remedy)
    if len(content) != header_bytes + math.prod(shape):
        raise DataCorrupt(
            f"{path} announces {shape} bytes and should hold {header_bytes + math.prod(shape)} in all, "
            f"but holds {len(content)}; {remedy}"
        )
    return frombuffer(content, uint8, offset=header_bytes).reshape(shape)


def _decompressed(path: Path, remedy: str) -> bytearray:
    # A bytearray, because torch takes over only arrays that may be written to.
    try:
        return bytearray(gzip.decompress(path.read_bytes()))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataCorrupt(f"{path} should be a whole gzip file, but is not: {error}; {remedy}") from error


def _shape(path: Path, header: bytearray, axes: int, remedy: str) -> tuple[int, ...]:
    expected = bytes((0, 0, 8, axes))
    if header[:4] != expected or len(header) != 4 + 4 * axes:
        raise DataCorrupt(
            f"{path} should begin with {expected.hex()} (IDX, unsigned bytes, {axes} axes) and {axes} lengths, "
            f"but begins with {header.hex() or 'nothing'}; {remedy}"
        )
    return struct.unpack_from(f">{axes}I", header, 4)
