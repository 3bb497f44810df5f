"""Seeds of the streams of random numbers that a run is made of."""

from __future__ import annotations

import hashlib
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
