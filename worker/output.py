"""The output of a training process on its way to the log of the job."""

from __future__ import annotations

import codecs
import threading

from worker.attempt import Attempt, Fenced
from worker.keyspace import StoreUnavailable

LARGEST_TEXT = 2**20


class Output:
    """Collects what a training process writes, and passes it on in pieces.

    A piece is repeated as it was until the store has answered it, so that the store can tell a repetition.
    Text behind it waits here meanwhile; beyond a megabyte the oldest is left out. One thread may add while
    another sends.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._change = threading.Lock()
        self._text = ""
        self._piece, self._under_way = 0, ""
        self._is_wanted = True

    def add(self, written: bytes) -> None:
        """Takes up bytes; a character may be split between two calls."""
        self.say(self._decoder.decode(written))

    def say(self, text: str) -> None:
        """Takes up whole characters."""
        with self._change:
            self._text = (self._text + text)[-LARGEST_TEXT:] if self._is_wanted else ""

    def send(self) -> None:
        """Adds what was collected to the log, unless that is full or belongs to another attempt by now."""
        while self._has_piece():
            try:
                self._is_wanted = self._attempt.log(self._under_way, self._piece)
            except Fenced:
                self._is_wanted = False
            except StoreUnavailable:
                return
            self._under_way = ""

    def _has_piece(self) -> bool:
        """Makes all that waits the next piece, if none is under way. Returns whether one is now."""
        with self._change:
            if not self._under_way and self._text:
                self._under_way, self._text = self._text, ""
                self._piece += 1
        return bool(self._under_way)
