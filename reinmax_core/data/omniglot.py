"""Handwritten characters of fifty alphabets, in the small size in which autoencoders are compared on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from reinmax_core.data.base import Citation, DataSource
from reinmax_core.data.file import DataCorrupt, DataFile
from reinmax_core.data.images import ImageData, ImageDataSet

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

DERIVED = DataFile(
    name="omniglot/omniglot_28x28_derived.mat",
    bytes=4224032,
    sha256="a34d4ce8325b363a45ff24478adf226900057ea1ecb6f5c75bd0f4aedd25ac12",
    md5="b51408037f3a773c82f3ae54475b8da6",
    urls=(),
)
"""The images of the original data set brought to 28 x 28 anew, by averaging areas; same sizes, other divisions."""


@final
class Omniglot(ImageDataSet):
    """24,345 training and 8,070 test images of characters of 50 alphabets, 28 x 28 grey levels, ink bright on black.

    Reads the published file of 28 x 28 images. Where a folder has only a file that was derived anew from the
    original drawings, it reads that one: its images and their division are not the published ones, so that
    likelihoods compare in kind alone. `digests`, and with it the results of a job, tells which one was read.
    Labels are alphabets. Grey levels that are published as fractions are rounded to 8 bits.

    Source of the 28 x 28 images: Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016,
    https://arxiv.org/abs/1509.00519.
    """

    name: Literal["omniglot"] = "omniglot"

    title: ClassVar[str] = "Omniglot, 28 x 28"
    terms: ClassVar[str] = "MIT licence, (c) 2015 Brenden Lake; none is stated for the 28 x 28 version."
    citation: ClassVar[Citation] = Citation(
        authors="Brenden M. Lake, Ruslan Salakhutdinov, Joshua B. Tenenbaum",
        title="Human-level concept learning through probabilistic program induction",
        year=2015,
        link="https://doi.org/10.1126/science.aab3050",
    )
    files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            name="omniglot/chardata.mat",
            md5="21ecaf34373511aa7691cf2e0802aa3d",
            urls=(
                "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
                "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
            ),
            alternative=DERIVED,
        ),
    )

    def load(self, source: DataSource) -> ImageData:
        """Images [24345, 28, 28] and [8070, 28, 28], alphabets 0 to 49 in alphabetical order; see `DataSet.load`."""
        return read(source.fetch(self.files[0]))


def read(path: Path) -> ImageData:
    """The images and alphabets of a MATLAB file with `data` and `testdata`, [784, images], a column an image.

    Pixels of a column go down the image first. Grey levels are bytes, or fractions of 1 as numbers with a point.
    `target` and `testtarget` are one-hot, [alphabets, images].

    Raises:
        DataCorrupt: the file holds something else.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    names = ("data", "target", "testdata", "testtarget")
    try:
        found = loadmat(path, variable_names=names)
        images, targets, test_images, test_targets = (found[name] for name in names)
    except (MatReadError, ValueError, NotImplementedError, KeyError) as error:
        raise DataCorrupt(
            f"{path} should be a MATLAB file with {', '.join(names)}, but is not: {error}; fetch it again"
        ) from error
    return ImageData(_upright(images), _classes(targets), _upright(test_images), _classes(test_targets))


def _upright(columns: NDArray[numpy.generic]) -> NDArray[numpy.uint8]:
    """Images [images, 28, 28], row by row, from columns."""
    from numpy import ascontiguousarray, floating, issubdtype, uint8

    levels = (255 * columns).round() if issubdtype(columns.dtype, floating) else columns
    return ascontiguousarray(levels.T.reshape(-1, 28, 28).swapaxes(1, 2), dtype=uint8)


def _classes(one_hot: NDArray[numpy.generic]) -> NDArray[numpy.uint8]:
    from numpy import uint8

    classes: NDArray[numpy.uint8] = one_hot.argmax(0).astype(uint8)
    return classes
