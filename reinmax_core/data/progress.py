"""How far a download has come: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LINE_INTERVAL_S: Final = 5.0

logger = logging.getLogger(__name__)


class TransferProgress:
    """Counts received bytes, with the methods and the attribute that pooch asks of a progress bar."""

    def __init__(self, show: Callable[[int], object]) -> None:
        self.total = 0  # pooch stores the announced length here; the published one is known without it
        self._show = show
        self._received = 0

    def update(self, count: int) -> None:
        """Adds `count` bytes and shows the sum."""
        self._received += count
        self._show(self._received)

    def reset(self) -> None:
        """Starts from zero again: pooch does before it adds the whole length at the end."""
        self._received = 0

    def close(self) -> None:
        """Nothing: pooch closes finished downloads only, `transfer_progress` all of them."""


@contextmanager
def transfer_progress(name: str, size: int | None) -> Iterator[TransferProgress]:
    """Shows on standard error, or in the log if that is no terminal, how far the file `name` has come."""
    if not sys.stderr.isatty():
        yield TransferProgress(LogLines(name, size))
        return
    with _terminal_bar(name, size) as show:
        yield TransferProgress(show)


class LogLines:
    """Writes a line when one is due, with what is received, the rate and the time left."""

    def __init__(self, name: str, size: int | None, interval_s: float = LINE_INTERVAL_S) -> None:
        self._name = name
        self._size = size
        self._interval_s = interval_s
        self._started = self._last_line = time.monotonic()

    def __call__(self, received: int) -> None:
        now = time.monotonic()
        if now - self._last_line >= self._interval_s:
            self._last_line = now
            rate = received / (now - self._started)
            if self._size is None:
                logger.info("%s: %.2f MB, %.2f MB/s", self._name, received / 1e6, rate / 1e6)
                return
            percent, left_s = 100 * received / self._size, (self._size - received) / rate
            logger.info("%s: %.0f %%, %.2f MB/s, %.0f s left", self._name, percent, rate / 1e6, left_s)


@contextmanager
def _terminal_bar(name: str, size: int | None) -> Iterator[Callable[[int], object]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=size)
        yield lambda received: bar.update(task, completed=received if size is None else min(received, size))
