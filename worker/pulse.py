"""Events for Celery's tools, such as Flower: sent while somebody has asked for them, and never otherwise."""

from __future__ import annotations

from typing import Any

from celery.bootsteps import StartStopStep
from celery.utils.sysinfo import load_average
from celery.worker import state
from celery.worker.consumer.events import Events

BEAT_S = 5.0
"""Tools count a worker as alive for twice as long after a beat."""


class Pulse(StartStopStep):
    """The heartbeat of a Celery worker, from `celery control enable_events` to `disable_events`.

    Celery's own beats all the time, listened to or not, and repeats a beat for ever while the server does
    not answer, which keeps a worker from ending.
    """

    requires = (Events,)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._is_new = True
        self._beats: Any = None

    def start(self, parent: Any) -> None:
        """Called at each connection to the server. Afterwards events of tasks are sent only when asked for."""
        if self._is_new:
            parent.event_dispatcher.groups = {"worker"}
            self._is_new = False
        self._beats = parent.timer.call_repeatedly(BEAT_S, self._send, (parent, "worker-heartbeat"))

    def stop(self, parent: Any) -> None:
        """Called when the connection is lost or given up."""
        if self._beats is not None:
            self._beats.cancel()
            self._beats = None
            self._send(parent, "worker-offline")

    def _send(self, consumer: Any, event: str) -> None:
        dispatcher = consumer.event_dispatcher
        if dispatcher is not None and "task" in dispatcher.groups:
            active, processed = len(state.active_requests), state.all_total_count[0]
            facts = {"freq": BEAT_S, "active": active, "processed": processed, "loadavg": load_average()}
            dispatcher.send(event, **facts, **state.SOFTWARE_INFO)
