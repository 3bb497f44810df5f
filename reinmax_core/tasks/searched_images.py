"""The labelled colour images that a search for a cell is made on: by name, in two halves, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from reinmax_core.data.base import DataSource
from reinmax_core.data.cifar import CifarImages
from reinmax_core.data.colour_image_file import PATTERN, ColourImageFile, checked_name
from reinmax_core.data.image_file import ImagesUnfit
from reinmax_core.data.image_names import known_among, schema_of_names
from reinmax_core.value import discover

if TYPE_CHECKING:
    from torch import device

    from reinmax_core.halves import Halves

ColourImageName = Annotated[
    str,
    AfterValidator(known_among(CifarImages, checked_name)),
    WithJsonSchema(schema_of_names(CifarImages, PATTERN)),
]
SEARCHED_ON: Final = {
    "cifar10": "all 50,000 training images of CIFAR-10",
    "cifar10_prefix": "the first 2,500 training images of CIFAR-10 alone, so this is no published result",
}


def published(dataset: str) -> CifarImages | None:
    """The published images of that name; None for a user's file."""
    images = discover(CifarImages).get(dataset)
    return images() if images else None


def load(dataset: str, classes: int, batch: int, device: device, source: DataSource) -> Halves:
    """The training images, on the device.

    Args:
        dataset: name of published images, or of a user's file.
        classes: how many a user's file may have.
        batch: images that a batch takes of each half.
        device: where the images shall be.
        source: where files are looked for.

    Raises:
        DataCorrupt: a published file is not the published one.
        DataUnavailable: a file is neither at hand nor to be had.
        ImagesUnfit: a user's file does not hold images and labels as they are asked for, or too few.
    """
    from reinmax_core.halves import Halves

    if images := published(dataset):
        found = images.load(source)
        return Halves.of(found.train_images, found.train_labels, device)
    own = Halves.of(*ColourImageFile(name=dataset).load(source, classes), device)
    _check(own, dataset, batch)
    return own


def _check(halves: Halves, dataset: str, batch: int) -> None:
    first, second = halves.first.labels.tolist(), halves.second.labels.tolist()
    if len(first) < batch:
        raise ImagesUnfit(
            f"{dataset!r} should hold {2 * batch} images or more, a batch of {batch} for each half of them, but a half "
            f"holds {len(first)}; add some, or choose a smaller batch"
        )
    if not set(first) & set(second):
        raise ImagesUnfit(
            f"the two halves of {dataset!r} should show the same classes, as one trains the weights and the other the "
            f"architecture, but have none in common; mix the images"
        )


def described(dataset: str, halves: Halves) -> str:
    """Which images were searched on, in words."""
    own = (
        f"{2 * len(halves.first.labels):,} images of the user's own file {dataset}, while the accuracies are those of "
        f"the benchmark, so this is no published result"
    )
    return SEARCHED_ON.get(dataset, own)
