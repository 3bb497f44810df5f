"""Memory that ran out, as the allocators of torch and Python tell it."""

from __future__ import annotations

from typing import Final

SIGNS: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")


def ran_out(error: Exception) -> bool:
    """Whether the error says that memory ran out, the machine's or the GPU's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)
