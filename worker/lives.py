"""Processes that should go on for ever: how they ended, and when starting them again is no use."""

from __future__ import annotations

import signal
import time
from typing import Final, final

SHORT_LIFE_S: Final = 10.0
MOST_SHORT_LIVES: Final = 3


@final
class Lives:
    """The lives of one process that is started again whenever it has ended."""

    def __init__(self) -> None:
        """None has begun yet."""
        self._began_at = 0.0
        self._short_ones = 0

    def begin(self) -> None:
        """The process has been started."""
        self._began_at = time.monotonic()

    def end_once_too_often(self) -> bool:
        """The process has ended; whether that was right after its start several times in a row."""
        is_short = time.monotonic() - self._began_at < SHORT_LIFE_S
        self._short_ones = self._short_ones + 1 if is_short else 0
        return self._short_ones >= MOST_SHORT_LIVES


def ending_in_words(code: int) -> str:
    """How a process ended, by the `returncode` of its Popen."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
