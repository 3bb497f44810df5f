"""The Celery worker inside a worker: it takes messages, answers Celery's tools, and ends in good order."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import setup_logging, worker_shutting_down
from celery.worker.components import Pool

from worker.app import RUN_JOB
from worker.bell import ring
from worker.pulse import Pulse

logger = logging.getLogger(__name__)


class Engine:
    """One Celery worker with one thread; `celery inspect` and `celery control` know it as `celery@` and its name.

    Args:
        celery: the application, of this worker alone.
        name: of the worker.
        queues: whose jobs can run here.
        taken: those of them that it takes messages from at first.
    """

    def __init__(self, celery: Celery, name: str, queues: Sequence[str], taken: Sequence[str]) -> None:
        self._celery, self._name, self._possible = celery, name, tuple(queues)
        celery.amqp.queues.select(list(taken))

    @property
    def queues(self) -> tuple[str, ...]:
        """Those it takes messages from now: `celery control cancel_consumer` takes one off, `add_consumer` adds one."""
        return tuple(queue for queue in self._possible if queue in self._celery.amqp.queues.consume_from)

    def serve(self, run: Callable[[str, str], None], hand_back: Callable[[], None]) -> int:
        """Takes messages until a signal, or `celery control shutdown`, ends it. Returns the exit code.

        Args:
            run: told the job and the queue of each message, carries out a job; called from another thread.
            hand_back: has `run` return soon, and returns at once.
        """
        self._carry_out_with(run)
        self._end_with(hand_back)
        # Celery advises against root because of pickle, which is not accepted here.
        warnings.filterwarnings("ignore", category=SecurityWarning)
        # It speaks of late acknowledgement on a lost connection, which is not used here.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        setup_logging.connect(_leave_logging_alone, weak=False)
        _hush_messages()
        worker = self._celery.Worker(
            hostname=f"celery@{self._name}",
            pool="threads",
            concurrency=1,
            queues=list(self.queues),
            task_events=True,  # can be had; `Pulse` sees to it that none are sent before they are asked for
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _carry_out_with(self, run: Callable[[str, str], None]) -> None:
        @self._celery.task(name=RUN_JOB, bind=True, ignore_result=True)
        def run_job(message: Any, job_id: str) -> None:
            queue = message.request.delivery_info["routing_key"]
            try:
                if queue in self._possible:
                    run(job_id, queue)
                else:
                    possible = " and ".join(self._possible)
                    logger.warning("job %s of queue %s is left to others: %s can run here", job_id, queue, possible)
            finally:
                ring()

    def _end_with(self, hand_back: Callable[[], None]) -> None:
        def on_signal(**_: object) -> None:
            hand_back()

        class HandBack(StartStopStep):
            """Celery waits for its threads when it ends; before that, whatever the reason, the job is handed back."""

            requires = (Pool,)

            def close(self, parent: Any) -> None:
                hand_back()

        # The signal comes first, while the event loop may still sleep for a second.
        worker_shutting_down.connect(on_signal, weak=False)
        self._celery.steps["worker"].add(HandBack)
        self._celery.steps["consumer"].add(Pulse)


def _hush_messages() -> None:
    """Of each message two lines would say that it came and was dealt with; what became of a job, others tell better."""
    if not logger.isEnabledFor(logging.DEBUG):
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)


def _leave_logging_alone(**_: object) -> None:
    """While somebody listens to this signal, Celery does not set the level of all loggers to its own."""
