"""Order in which training examples are read."""

from __future__ import annotations

import torch
from torch import Tensor

from reinmax_core.seeds import seed_for


class Shuffled:
    """Batches of rows, every row once an epoch, in an order drawn anew for each epoch from the seed.

    The batch of a step depends on seed and step alone, so a resumed run reads on where it stopped.

    Args:
        rows: the examples on their device, [examples, ...]; a last incomplete batch is left out.
        size: rows a batch.
        seed: of the order.

    Raises:
        ValueError: fewer rows than one batch.
    """

    def __init__(self, rows: Tensor, size: int, seed: int) -> None:
        if len(rows) < size:
            raise ValueError(f"a batch of {size} cannot be taken from {len(rows)} examples; choose a smaller batch")
        self._rows, self._size, self._seed = rows, size, seed
        self.steps_per_epoch = len(rows) // size
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch)
        return self._rows.index_select(0, self._order[position * self._size : (position + 1) * self._size])

    def _drawn(self, epoch: int) -> Tensor:
        # On the CPU, so that the order is the same whatever the device.
        generator = torch.Generator().manual_seed(seed_for("order", self._seed, epoch))
        return torch.randperm(len(self._rows), generator=generator, device="cpu").to(self._rows.device)


class Binarised:
    """`Shuffled` images whose pixels are drawn from their grey levels whenever an image is read.

    The batch of a step depends on seed and step alone, also in its pixels.

    Args:
        levels: grey levels as bytes, on their device, [images, pixels].
        size: images a batch.
        seed: of order and pixels.
        drawn: whether the levels are 0 and 255 alone, as `binarised_once` gives them, and there is nothing to draw.

    Raises:
        ValueError: fewer images than one batch.
    """

    def __init__(self, levels: Tensor, size: int, seed: int, *, drawn: bool = False) -> None:
        self._seed, self._drawn = seed, drawn
        self._generator = torch.Generator(levels.device)
        self._batches = Shuffled(levels, size, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the images."""
        return self._batches.steps_per_epoch

    def __getitem__(self, step: int) -> Tensor:
        """Pixels of 0 and 1, [size, pixels], float32."""
        rows = self._batches[step]
        if self._drawn:
            return rows.float() / 255
        self._generator.manual_seed(seed_for("pixels", self._seed, step))
        return binarised(rows, self._generator)


def binarised(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels of float32, 1 with probability level / 255 and otherwise 0, for grey levels as bytes."""
    uniform = torch.rand(levels.shape, generator=generator, device=levels.device)
    return (uniform.mul_(255) < levels).float()


def binarised_once(levels: Tensor, seed: int) -> Tensor:
    """Levels 255 and 0 as bytes, drawn from the grey levels [images, pixels]; the same on every device."""
    generator = torch.Generator().manual_seed(seed_for("pixels", seed))
    parts = [binarised(part, generator).mul_(255).byte() for part in levels.cpu().split(4096)]  # type: ignore[no-untyped-call]
    return torch.cat(parts).to(levels.device)
