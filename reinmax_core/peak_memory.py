"""How much memory training takes beyond what was in use before."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_THE_PEAK: Final = "5"
BYTES_A_KILOBYTE: Final = 1024  # of the kernel's
MEGABYTE: Final = 1e6


class PeakMemory:
    """The growth of memory from a moment on, to its peak: of what stood there before, nothing is counted.

    On a GPU, memory that torch has given to tensors there. Elsewhere, resident memory of the whole process, as Linux
    counts it: what other threads take meanwhile is counted too, and what was freed before and is taken again is not.
    Of several that measure at a time on one device, the older ones know nothing from before the youngest.

    Args:
        device: where training is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._in_use()

    def growth_mb(self) -> float | None:
        """Megabytes (10^6 bytes) from then to the peak since; None where the system does not tell."""
        peak = self._peak()
        if self._before is None or peak is None:
            return None
        return max(0, peak - self._before) / MEGABYTE

    def _in_use(self) -> int | None:
        """Bytes in use now, from where the peak is sought; None where it cannot be sought from here."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        if self._device.type != "cpu":
            return None
        with suppress(OSError):
            REFERENCES.write_text(FORGET_THE_PEAK)
            return _resident("VmRSS")
        return None

    def _peak(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with suppress(OSError):
            return _resident("VmHWM")
        return None


def _resident(entry: str) -> int | None:
    """Bytes of an entry of the process's status."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((int(words[1]) * BYTES_A_KILOBYTE for words in lines if words and words[0] == f"{entry}:"), None)
