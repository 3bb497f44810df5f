"""How large the tensors of a run may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

MOST_GB: Final = 16
"""A tensor of this size, its gradient and two means of Adam take 64 GB, most of the memory of a large GPU."""
BYTES: Final = 4


def too_large(what: str, lengths: Mapping[str, int], each: int = 1) -> str | None:
    """Why there cannot be such a tensor in single precision, with the remedy; None if there can.

    Args:
        what: the tensor, in words.
        lengths: those of its axes, by the settings that they are of.
        each: numbers it has besides for each of their product.
    """
    gigabytes = math.prod(lengths.values()) * each * BYTES / 1e9
    if gigabytes <= MOST_GB:
        return None
    named = {name: length for name, length in lengths.items() if length > 1}
    product = " x ".join((*(f"{name} {length}" for name, length in named.items()), *([str(each)] if each > 1 else ())))
    return (
        f"{what} would be {product} numbers, which take {gigabytes:,.0f} GB in single precision, but a tensor may take "
        f"{MOST_GB} GB at most; lower {' or '.join(named)}"
    )
