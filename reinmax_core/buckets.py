"""Batches of sequences of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from reinmax_core.seeds import seed_for

POOL = 100
"""Batches whose sequences are sorted by length together."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Labelled sequences of tokens, padded."""

    tokens: Tensor
    """Their numbers, [sequences, longest]."""
    lengths: Tensor
    """Tokens of each sequence, [sequences], on the CPU, where loops over them are planned."""
    labels: Tensor
    """[sequences]"""

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, rows: Tensor) -> Sequences:
        """The sequences of these numbers, on the CPU, the longest first, without padding beyond it."""
        rows = rows[self.lengths[rows].argsort(descending=True, stable=True)]
        lengths, places = self.lengths[rows], rows.to(self.tokens.device)
        return Sequences(self.tokens[places, : int(lengths[0])], lengths, self.labels[places])

    def parts(self, most_tokens: int) -> Iterator[Sequences]:
        """All sequences, the longest first, in parts of so many tokens at most, padding included."""
        rows = self.lengths.argsort(descending=True, stable=True)
        while len(rows):
            count = max(1, most_tokens // max(1, int(self.lengths[rows[0]])))
            yield self.at(rows[:count])
            rows = rows[count:]


class Bucketed:
    """Batches of similar lengths, every sequence once an epoch, in an order drawn anew for each epoch.

    Sequences are shuffled, sorted by length among those of `POOL` batches, cut into batches, and those
    shuffled. The batch of a step depends on seed and step alone; a last incomplete batch is left out.

    Args:
        sequences: all of them.
        size: sequences a batch.
        seed: of the order.

    Raises:
        ValueError: fewer sequences than one batch.
    """

    def __init__(self, sequences: Sequences, size: int, seed: int) -> None:
        if len(sequences) < size:
            raise ValueError(
                f"a batch of {size} cannot be taken from {len(sequences)} examples; choose a smaller batch"
            )
        self._sequences, self._size, self._seed = sequences, size, seed
        self.steps_per_epoch = len(sequences) // size
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Sequences:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch)
        return self._sequences.at(self._order[position])

    def _drawn(self, epoch: int) -> Tensor:
        """Rows of batches, [batches, size]."""
        generator = Generator().manual_seed(seed_for("order", self._seed, epoch))
        rows = torch.randperm(len(self._sequences), generator=generator, device="cpu")
        pools = rows[: len(rows) // self._size * self._size].split(POOL * self._size)  # type: ignore[no-untyped-call]
        batches = torch.cat([pool[self._sequences.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = batches.view(-1, self._size)
        return batches[torch.randperm(len(batches), generator=generator, device="cpu")]
