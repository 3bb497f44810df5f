"""The output of a training process on its way to the log of the job."""

from __future__ import annotations

import codecs
import threading

from worker.attempt import Attempt, Fenced
from worker.keyspace import StoreUnavailable

LARGEST_TEXT = 2**20


class Output:
    """Collects what a training process writes, and passes it on in pieces.

    While the store does not serve, text waits here; beyond a megabyte the oldest is left out. One thread
    may add while another sends.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._change = threading.Lock()
        self._text = ""
        self._is_wanted = True

    def add(self, written: bytes) -> None:
        """Takes up bytes; a character may be split between two calls."""
        text = self._decoder.decode(written)
        with self._change:
            self._text = (self._text + text)[-LARGEST_TEXT:] if self._is_wanted else ""

    def send(self) -> None:
        """Adds what was collected to the log, unless that is full or belongs to another attempt by now."""
        with self._change:
            text, self._text = self._text, ""
        if not text:
            return
        try:
            self._is_wanted = self._attempt.log(text)
        except Fenced:
            self._is_wanted = False
        except StoreUnavailable:
            with self._change:
                self._text = (text + self._text)[-LARGEST_TEXT:]
