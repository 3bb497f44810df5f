"""The worker as a program: `python -m worker`. It serves the queues of one device, one job at a time."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import worker_shutting_down
from kombu.exceptions import OperationalError

from worker.app import RUN_JOB, application, wake
from worker.artifacts import ArtifactStoreUnusable
from worker.assignment import Places
from worker.bell import ring
from worker.embedded_server import EmbeddedServer, ServerNotStarted
from worker.hardware import Machine, NoSuchGpu, find_machine
from worker.jobs import Job, WorkerRecord
from worker.keyspace import PATIENCE_S, StoreUnavailable
from worker.maintenance import Maintenance
from worker.server_folder import StateFolderUnusable
from worker.server_program import NoServerProgram
from worker.settings import InvalidSettings, Settings
from worker.standby import Standby
from worker.store import JobStore
from worker.supervise import Supervisor

LOOK_FOR_SERVER_EVERY_S = 0.5

logger = logging.getLogger(__name__)


class ServerUnfit(Exception):
    """The server is not set up in a way in which jobs are safe."""


CONDITIONS = (
    ArtifactStoreUnusable,
    InvalidSettings,
    NoServerProgram,
    NoSuchGpu,
    ServerNotStarted,
    ServerUnfit,
    StateFolderUnusable,
    StoreUnavailable,
)
"""Why a worker cannot start; each message says what to do."""


class WorkerProcess:
    """A worker: one Celery worker with one thread, and what it needs around it.

    Args:
        settings: as the environment has them.
        redis_url: the server of jobs and messages.
        machine: the device to serve.
    """

    def __init__(self, settings: Settings, redis_url: str, machine: Machine) -> None:
        self._settings, self._machine = settings, machine
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._started_at = datetime.now(UTC)
        self._store = JobStore.connect(redis_url, patience_s=_patience_s(settings))
        self._celery = application(redis_url)
        self._standby = Standby(machine)
        self._wake = _forgiving(partial(wake, self._celery))
        self._supervisor = Supervisor(
            self._store,
            self._wake,
            _resign,
            self.describe,
            self._standby,
            machine,
            settings,
            _places(settings, redis_url),
        )

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT, which hand the running job back. Returns the exit code."""
        _wait_for(self._store)
        logger.info("%s serves %s: %s", self._name, " and ".join(self._machine.queues), self.describe().offer)
        maintenance = Maintenance(self._store, self._wake, self.describe, _resign, self._settings.lease_s)
        with self._standby, maintenance:
            return _serve(self._celery, self._supervisor, self._name, self._machine.queues)

    def describe(self) -> WorkerRecord:
        """The worker as it is now."""
        machine = self._machine
        return WorkerRecord(
            name=self._name,
            device=machine.device,
            queues=machine.queues,
            hardware=machine.name,
            cores=machine.cores,
            memory_gb=round(machine.memory_gb, 3),
            gpu_memory_gb=round(machine.gpu.memory_gb, 3) if machine.gpu else None,
            load=machine.load(),
            memory_used_gb=round(machine.memory_used_gb(), 3),
            job=self._supervisor.job_id,
            started_at=self._started_at,
            version=version("reinmax-service"),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts a worker as the environment and the arguments say, or looks whether one lives. Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings()
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        return _check(settings) if options.check else _run(options, settings)
    except CONDITIONS as error:
        logger.critical("%s", error)
        return os.EX_CONFIG


def _check(settings: Settings) -> int:
    """0 if a worker of this host, or container, is alive by what the store has heard of it."""
    if settings.redis_url is None:
        raise ServerUnfit("--check asks the server that REINMAX_REDIS_URL names, but it names none; set it")
    host = socket.gethostname()
    names = [worker.name for worker in JobStore.connect(settings.redis_url).workers()]
    return 0 if any(name.rpartition("-")[0] == host for name in names) else 1


def _run(options: Namespace, settings: Settings) -> int:
    with ExitStack() as resources:
        redis_url = settings.redis_url or resources.enter_context(EmbeddedServer(settings.state_dir)).url
        # Not a setting of ours but CUDA's own, by which people share out the GPUs of a machine.
        machine = find_machine(options.device, options.gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return WorkerProcess(settings, redis_url, machine).run()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m worker", description="Carries out training jobs on this machine.")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], help="what to train on; by default a GPU where there is one"
    )
    parser.add_argument("--check", action="store_true", help="start none, but exit with 0 if one lives on this host")
    parser.add_argument("--gpu", type=int, default=0, help="which of the visible GPUs; one worker serves one")
    return parser


def _places(settings: Settings, redis_url: str) -> Places:
    return Places(
        redis_url=redis_url,
        patience_s=_patience_s(settings),
        artifacts_url=settings.artifacts_url,
        data_dir=settings.data_dir,
        data_mirror=settings.data_mirror,
    )


def _patience_s(settings: Settings) -> float:
    """An answer that is longer under way than this is given up, so that a lease has room for three signs of life."""
    return min(PATIENCE_S, settings.lease_s / 3)


def _wait_for(store: JobStore) -> None:
    """Returns once the server answers.

    Raises:
        ServerUnfit: it answers, but jobs would not be safe there.
    """
    while True:
        try:
            problems = store.keyspace.shortcomings()
        except StoreUnavailable as error:
            logger.warning("%s", error)
            time.sleep(LOOK_FOR_SERVER_EVERY_S)
        else:
            break
    if problems:
        raise ServerUnfit("\n".join(problems))


def _resign() -> None:
    """Ends the process at once; its training process follows, and whoever keeps workers running starts another."""
    os._exit(os.EX_SOFTWARE)


def _forgiving(wake: Callable[[Job], None]) -> Callable[[Job], None]:
    """Waking that may fail: a sweep finds the job."""

    def wake_or_warn(job: Job) -> None:
        try:
            wake(job)
        except OperationalError as error:
            logger.warning("no worker could be woken for job %s; a sweep will find it: %s", job.id, error)

    return wake_or_warn


def _serve(celery: Celery, supervisor: Supervisor, name: str, queues: Sequence[str]) -> int:
    @celery.task(name=RUN_JOB, ignore_result=True)
    def run_job(job_id: str) -> None:
        try:
            supervisor.run(job_id)
        finally:
            ring()

    def hand_back(**_: object) -> None:
        supervisor.shut_down()

    worker_shutting_down.connect(hand_back, weak=False)
    # Celery advises against root because of pickle, which is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # It speaks of late acknowledgement on a lost connection, which is not used here.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    worker = celery.Worker(
        hostname=f"celery@{name}",
        pool="threads",
        concurrency=1,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
