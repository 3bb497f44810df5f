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
        self._per_epoch = len(rows) // size
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        epoch, position = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch)
        return self._rows.index_select(0, self._order[position * self._size : (position + 1) * self._size])

    def _drawn(self, epoch: int) -> Tensor:
        # On the CPU, so that the order is the same whatever the device.
        generator = torch.Generator().manual_seed(seed_for("order", self._seed, epoch))
        return torch.randperm(len(self._rows), generator=generator).to(self._rows.device)
