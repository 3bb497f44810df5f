"""Requests that are repeated until they are answered, at whichever API, as careful clients do."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx

PAUSE_S: Final = 0.2
PATIENCE_S: Final = 10.0
IMPATIENCE_S: Final = 0.02
IMPATIENT: Final = 0.2
"""Share of the submissions that do not wait for their answer and are made again."""


class NoAnswer(Exception):
    """Nobody has answered a request for a long time."""


class Caller:
    """A client of several APIs on the same store. Safe to share between threads.

    Args:
        urls: of the APIs.
        chance: of which is asked, and for how long it is waited for.
        give_up_s: after which a request counts as not answered by anybody.
    """

    def __init__(self, urls: Sequence[str], chance: random.Random, give_up_s: float = 120.0) -> None:
        self.count: Counter[str] = Counter()
        """How often a request was `repeated`, `refused` with 503, `unanswered`, and `replayed` by its key."""
        self._clients = [httpx.Client(base_url=url) for url in urls]
        self._chance, self._give_up_s = chance, give_up_s
        self._lock = threading.Lock()

    def submit(self, body: dict[str, Any], key: str) -> str:
        """The id of the job that the service has accepted under the key."""
        answer = self.ask("POST", "/v1/jobs", key=key, json=body)
        assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
        if "Idempotency-Replayed" in answer.headers:
            self._add("replayed")
        return str(answer.json()["id"])

    def ask(self, method: str, path: str, *, key: str | None = None, **details: Any) -> httpx.Response:
        """The first answer that is not 503."""
        deadline = time.monotonic() + self._give_up_s
        headers = {"Idempotency-Key": key} if key else {}
        while time.monotonic() < deadline:
            client, timeout_s = self._choice(is_impatient=key is not None)
            try:
                answer = client.request(method, path, headers=headers, timeout=timeout_s, **details)
            except httpx.TransportError:
                self._add("unanswered")
            else:
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    return answer
                self._add("refused")
                assert "Retry-After" in answer.headers
            self._add("repeated")
            time.sleep(PAUSE_S)
        raise NoAnswer(f"{method} {path} should be answered, but nobody did for {self._give_up_s:g} s")

    def _choice(self, *, is_impatient: bool) -> tuple[httpx.Client, float]:
        with self._lock:
            impatient = is_impatient and self._chance.random() < IMPATIENT
            return self._chance.choice(self._clients), IMPATIENCE_S if impatient else PATIENCE_S

    def _add(self, what: str) -> None:
        with self._lock:
            self.count[what] += 1
