"""Ctrl-C and SIGTERM as a wish to end, which is fulfilled where it does no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def end_requested() -> Iterator[threading.Event]:
    """An event that the first of these signals sets; the second one acts as if nobody had listened.

    To be entered from the main thread, as signals are delivered there.
    """
    requested = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        requested.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        restore()
