"""Labelled colour images of a user's own, from a file in the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, final

from pydantic import AfterValidator

from reinmax_core.data import image_file
from reinmax_core.data.base import DataSource, Readable
from reinmax_core.data.file import sha256_of
from reinmax_core.data.image_file import STEM, ImagesUnfit, in_bytes, npz_arrays

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

PATTERN: Final = rf"^{STEM}\.npz$"
SHAPES: Final = ((3, 32, 32), (32, 32, 3))


def checked_name(name: str) -> str:
    """The name itself, if an `.npz` file below a data folder can have it.

    Raises:
        ValueError: it cannot; the message says what a name looks like.
    """
    if image_file.checked_name(name).endswith(".npz"):
        return name
    raise ValueError(f"{name!r} should end in .npz, as images in colour with their labels are read from such files")


@final
class ColourImageFile(Readable):
    """An `.npz` file of labelled colour images in a data folder, which NumPy writes.

    It holds `train_images`, [images, 3, 32, 32] or [images, 32, 32, 3], red, green and blue: 0 to 255 as uint8, or
    0 to 1 as floats, which are rounded to 8 bits; and `train_labels`, [images], integers from 0 on.
    """

    name: Annotated[str, AfterValidator(checked_name)]
    """The file's name below the data folder."""

    def digests(self, source: DataSource) -> dict[str, str]:
        """The SHA-256 of the file; see `Readable.digests`."""
        return {self.name: sha256_of(source.own(self.name))}

    def load(self, source: DataSource, classes: int) -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]:
        """Images [images, 3, 32, 32] and labels [images], 0 to `classes` - 1, in the order of the file.

        Raises:
            DataUnavailable: no data folder has the file.
            ImagesUnfit: the file cannot be read, or its arrays are missing or of another shape, type or range.
        """
        arrays = npz_arrays(source.own(self.name), ("train_images", "train_labels"))
        images = self._images(arrays["train_images"])
        return images, self._labels(arrays["train_labels"], len(images), classes)

    def _images(self, found: NDArray[Any]) -> NDArray[numpy.uint8]:
        from numpy import ascontiguousarray

        subject = f"train_images of {self.name!r}"
        if not len(found.shape) or not len(found) or found.shape[1:] not in SHAPES:
            raise ImagesUnfit(
                f"{subject} should have the shape [images, 3, 32, 32] or [images, 32, 32, 3], but has "
                f"{list(found.shape)}; save it so"
            )
        (levels,) = in_bytes({subject: found})
        return ascontiguousarray(levels if found.shape[1:] == SHAPES[0] else levels.transpose(0, 3, 1, 2))

    def _labels(self, found: NDArray[Any], images: int, classes: int) -> NDArray[numpy.int64]:
        from numpy import int64, integer, issubdtype

        subject = f"train_labels of {self.name!r}"
        if found.shape != (images,):
            raise ImagesUnfit(
                f"{subject} should have the shape [{images}], a label for every image, but has {list(found.shape)}; "
                f"save as many labels as images"
            )
        if not issubdtype(found.dtype, integer):
            raise ImagesUnfit(f"{subject} should be integers, but is {found.dtype}; number the classes from 0 on")
        if found.min() < 0 or found.max() >= classes:
            raise ImagesUnfit(
                f"{subject} should be from 0 to {classes - 1}, but is from {found.min()} to {found.max()}; number the "
                f"classes from 0 on, and set the task's classes to how many there are"
            )
        return found.astype(int64)
