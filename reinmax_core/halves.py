"""Labelled images in two halves that train different parts of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reinmax_core.batches import Shuffled
from reinmax_core.seeds import seed_for

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images on their device with their classes."""

    images: Tensor
    """[images, channels, height, width], bytes 0 to 255."""

    labels: Tensor
    """[images], 64-bit integers."""

    def at(self, numbers: Tensor) -> Labelled:
        """Those with these numbers."""
        return Labelled(self.images[numbers], self.labels[numbers])


@dataclass(frozen=True, slots=True)
class Halves:
    """The first and the second half of a set of images; of an odd number, the last is left out."""

    first: Labelled
    second: Labelled

    @classmethod
    def of(cls, images: NDArray[numpy.uint8], labels: NDArray[numpy.integer[Any]], device: torch.device) -> Halves:
        """The halves, on the device, of images [images, channels, height, width] with labels [images]."""
        half = len(images) // 2
        parts = (slice(half), slice(half, 2 * half))
        first, second = (
            Labelled(torch.tensor(images[part]).to(device), torch.tensor(labels[part]).long().to(device))
            for part in parts
        )
        return cls(first, second)


@dataclass(frozen=True, slots=True)
class BatchPair:
    """As many images of the first half as of the second."""

    first: Labelled
    second: Labelled


class PairedBatches:
    """Batches of both halves by step, each half in an order of its own; see `Shuffled`.

    Args:
        halves: the images.
        size: images of each half a batch.
        seed: of both orders.

    Raises:
        ValueError: fewer images in a half than one batch.
    """

    def __init__(self, halves: Halves, size: int, seed: int) -> None:
        self._halves = halves
        numbers = torch.arange(len(halves.first.labels), device=halves.first.labels.device)
        self._first = Shuffled(numbers, size, seed)
        self._second = Shuffled(numbers, size, seed_for("validation", seed))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of a half."""
        return self._first.steps_per_epoch

    def __getitem__(self, step: int) -> BatchPair:
        return BatchPair(self._halves.first.at(self._first[step]), self._halves.second.at(self._second[step]))
