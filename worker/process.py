"""The worker as a program: `python -m worker`. It serves the queues of one device, one job at a time."""

from __future__ import annotations

import logging
import os
import socket
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from kombu.exceptions import OperationalError

from worker.app import application, wake
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, ArtifactStoreUnusable
from worker.assignment import Places
from worker.call import Waiting
from worker.embedded_server import EmbeddedServer, ServerNotStarted
from worker.engine import Engine
from worker.farewell import Farewell
from worker.hardware import Machine, NoSuchGpu, find_machine
from worker.jobs import WorkerRecord
from worker.keyspace import PATIENCE_S, StoreUnavailable
from worker.maintenance import Maintenance
from worker.retention import Retention
from worker.searches import Searches
from worker.server_folder import StateFolderUnusable
from worker.server_program import NoServerProgram
from worker.settings import InvalidSettings, Settings
from worker.standby import Standby
from worker.store import JobStore
from worker.supervise import Supervisor

LOOK_FOR_SERVER_EVERY_S = 0.5
LEAVE_TAKES_S = 2.0
WRONG_CLOCK_S = 60.0
"""A clock that is wrong by so much is worth a word, and nothing else."""

logger = logging.getLogger(__name__)


class ServerUnfit(Exception):
    """The server is not set up in a way in which jobs are safe."""


class NoSuchQueue(Exception):
    """A worker was told to serve a queue whose jobs cannot run on its device."""


CONDITIONS = (
    ArtifactStoreUnavailable,
    ArtifactStoreUnusable,
    InvalidSettings,
    NoServerProgram,
    NoSuchGpu,
    NoSuchQueue,
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
        queues: to take jobs from; all whose jobs can run on the device if empty.

    Raises:
        NoSuchQueue: jobs of a queue cannot run on the device.
    """

    def __init__(self, settings: Settings, redis_url: str, machine: Machine, queues: Sequence[str] = ()) -> None:
        self._settings, self._machine = settings, machine
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._started_at = datetime.now(UTC)
        self._store = JobStore.connect(redis_url, patience_s=_patience_s(settings))
        celery = application(redis_url)
        self._engine = Engine(celery, self._name, machine.queues, _taken(queues, machine))
        self._standby = Standby(machine)
        self._wake = _forgiving(partial(wake, celery))
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
        """Serves until SIGTERM, SIGINT or `celery control shutdown`, which hand the running job back.

        Returns the exit code.
        """
        _wait_for(self._store)
        self._started_at = _by_the_clock_of(self._store)
        artifacts = ArtifactStore(self._settings.artifacts_url)
        artifacts.probe()
        logger.info("%s serves %s: %s", self._name, " and ".join(self._engine.queues), self.describe().offer)
        retention = Retention(self._store, artifacts, self._settings)
        searches = Searches(self._store, self._wake, self._name)
        duties = [retention.attend, searches.attend]
        maintenance = Maintenance(
            self._store, self._wake, self.describe, _resign, self._settings.lease_s, duties=duties
        )
        patience_s = self._settings.lease_s + LEAVE_TAKES_S
        with Farewell(self._is_busy, patience_s, _depart) as farewell, self._standby, maintenance:
            return self._engine.serve(self._supervisor.run, partial(self._hand_back, farewell))

    def _hand_back(self, farewell: Farewell) -> None:
        self._supervisor.shut_down()
        farewell.begin()

    def _is_busy(self) -> bool:
        return bool(self._supervisor.job_ids)

    def describe(self) -> WorkerRecord:
        """The worker as it is now."""
        machine, jobs = self._machine, self._supervisor.job_ids
        return WorkerRecord(
            name=self._name,
            device=machine.device,
            queues=self._engine.queues,
            hardware=machine.name,
            cores=machine.cores,
            memory_gb=round(machine.memory_gb, 3),
            gpu_memory_gb=round(machine.gpu.memory_gb, 3) if machine.gpu else None,
            load=machine.load(),
            memory_used_gb=round(machine.memory_used_gb(), 3),
            job=next(iter(jobs), None),
            jobs=jobs,
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
        return WorkerProcess(settings, redis_url, machine, options.queues).run()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m worker", description="Carries out training jobs on this machine.")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], help="what to train on; by default a GPU where there is one"
    )
    parser.add_argument("--check", action="store_true", help="start none, but exit with 0 if one lives on this host")
    parser.add_argument("--gpu", type=int, default=0, help="which of the visible GPUs; one worker serves one")
    parser.add_argument(
        "--queues",
        type=lambda names: names.split(","),
        default=[],
        help="take jobs from these alone, such as `cuda`, or `cpu,any`; by default from all that can run on the device",
    )
    return parser


def _places(settings: Settings, redis_url: str) -> Places:
    return Places(
        redis_url=redis_url,
        patience_s=_patience_s(settings),
        artifacts_url=settings.artifacts_url,
        data_dir=settings.data_dir,
        data_mirror=settings.data_mirror,
    )


def _taken(queues: Sequence[str], machine: Machine) -> Sequence[str]:
    if strange := [queue for queue in queues if queue not in machine.queues]:
        raise NoSuchQueue(
            f"--queues names {', '.join(strange)}, but jobs that can run on this device, {machine.device}, wait in "
            f"{' and '.join(machine.queues)}; choose of these, or another --device"
        )
    return queues or machine.queues


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


def _by_the_clock_of(store: JobStore) -> datetime:
    """The time on the server, to which all others refer; says so if it is another one here."""
    now = store.clock()
    ahead_s = (datetime.now(UTC) - now).total_seconds()
    if abs(ahead_s) > WRONG_CLOCK_S:
        logger.warning(
            "the clock of this machine is %.0f s %s that of the server. Jobs do not mind, but object stores refuse "
            "requests from 15 minutes on; have it set from the network (NTP)",
            abs(ahead_s),
            "ahead of" if ahead_s > 0 else "behind",
        )
    return now


def _depart() -> None:
    """Ends the process at once, as it was asked to; its idle training process follows."""
    os._exit(os.EX_OK)


def _resign() -> None:
    """Ends the process at once; its training process follows, and whoever keeps workers running starts another."""
    os._exit(os.EX_SOFTWARE)


def _forgiving(wake: Callable[[Waiting], None]) -> Callable[[Waiting], None]:
    """Waking that may fail: a sweep finds the job."""

    def wake_or_warn(job: Waiting) -> None:
        try:
            wake(job)
        except OperationalError as error:
            logger.warning("no worker could be woken for job %s; a sweep will find it: %s", job.id, error)

    return wake_or_warn
