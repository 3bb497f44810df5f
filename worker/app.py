"""The Celery application: messages that wake a worker for a job. What a job is and how it stands, the store knows."""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue

from worker.call import KEY_PREFIX, Waiting
from worker.server_folder import ServerFolder
from worker.settings import Settings
from worker.submission import HIGHEST_PRIORITY

RUN_JOB = "run_job"
QUEUES = ("any", "cpu", "cuda")


class NoServerRuns(Exception):
    """No server is named by the environment, and no embedded one is up."""


def server_address(settings: Settings) -> str:
    """The server that is named, or else the embedded one that somebody runs for the state folder.

    Raises:
        NoServerRuns: no server is named, and there is none for the state folder.
    """
    url = settings.redis_url or ServerFolder(settings.state_dir).url()
    if not url:
        raise NoServerRuns(
            f"REINMAX_REDIS_URL names no server, and none runs for the state folder {settings.state_dir}. "
            "Start one with `reinmax up`, or set REINMAX_REDIS_URL, or REINMAX_STATE_DIR as the service has it."
        )
    return url


def application(redis_url: str) -> Celery:
    """A Celery application whose messages lie on the server of the store; importing and making it needs no torch.

    A message is acknowledged at once and means no more than "look at this job": workers keep a lease in
    the store, so nothing here depends on Celery's redelivery, results, events or revocation.
    """
    celery = Celery("reinmax", broker=redis_url, set_as_current=False)
    celery.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_default_queue="any",
        task_create_missing_queues=False,
        task_acks_late=False,
        task_publish_retry=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=0,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_transport_options=_TRANSPORT,
        visibility_timeout=60,
    )
    return celery


_TRANSPORT = {
    "global_keyprefix": KEY_PREFIX,
    "queue_order_strategy": "priority",
    "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
    "visibility_timeout": 60,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 30,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def wake(celery: Celery, job: Waiting) -> None:
    """Wakes a worker of the job's queue. Waking twice does no harm; a job for which it failed is found by a sweep.

    Raises:
        kombu.exceptions.OperationalError: the server cannot be reached.
    """
    # Redis as a Celery broker counts priorities from 0, the highest.
    celery.send_task(RUN_JOB, (job.id,), queue=job.queue, priority=HIGHEST_PRIORITY - job.priority, ignore_result=True)
