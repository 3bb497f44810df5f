"""Messages to the workers, sent through Celery beside the requests that give rise to them."""

from __future__ import annotations

import logging
from queue import SimpleQueue
from threading import Thread
from typing import Self, final

from worker.call import Waiting

STOPPING_S = 3.0

logger = logging.getLogger(__name__)


@final
class Messenger:
    """Calls for workers in a thread of its own, so that no submission waits until Celery has sent its message.

    Calls that are lost do no harm: the job is in the store already, and the workers' sweep finds it.
    Works inside a `with` block, at whose end the calls still outstanding are sent.

    Args:
        redis_url: the server through which Celery reaches the workers.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._waiting: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = Thread(target=self._send, name="messenger", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.put(None)
        self._thread.join(STOPPING_S)

    def call_for(self, job: Waiting) -> None:
        """Tells the workers of a new job, soon."""
        self._waiting.put(job)

    def _send(self) -> None:
        from worker.app import application, wake  # takes a while, which no request has to wait for here

        with application(self._redis_url) as celery:
            for job in iter(self._waiting.get, None):
                try:
                    wake(celery, job)
                except Exception as error:  # noqa: BLE001  (the next job needs this thread, whatever went wrong)
                    logger.warning("no worker could be woken for %s, which the next sweep finds: %s", job.id, error)
