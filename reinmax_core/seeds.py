"""Seeds of the streams of random numbers that a run is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Purpose: TypeAlias = Literal[
    "model", "estimator", "order", "validation", "draws", "evaluation", "conclusion", "pixels", "pictures"
]


def seed_for(purpose: Purpose, seed: int, position: int = 0) -> int:
    """A seed of 32 bits that depends on all bits of the run's seed, on the purpose and on the position.

    Torch's generator on the CPU reads no more than 32 bits, so larger seeds cannot be handed to it as
    they are; and streams for different purposes must not begin alike.
    """
    digest = hashlib.sha256(f"{purpose}/{seed}/{position}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator of the CPU begins at `seed`, and afterwards is where it was for the caller.

    What is initialised inside is the same for every device.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of all accelerators too.
        torch.default_generator.manual_seed(seed)
        yield
