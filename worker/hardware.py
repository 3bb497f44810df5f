"""What this machine has, and which jobs a worker on it takes. Found out without torch and without touching a GPU."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias

import psutil

GB = 10**9
CGROUPS = Path("/sys/fs/cgroup")
# How often an idle thread of GNU OpenMP asks for work before it sleeps. Many times: threads of two programs on the same
# cores slow each other down twentyfold. Never: a step of many small products takes half as long again.
SPINS = "1000"
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits")

Device: TypeAlias = Literal["cpu", "cuda"]


class NoSuchGpu(Exception):
    """A worker was told to use a GPU that this machine, or this installation of torch, does not have."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU, as its driver describes it."""

    index: int
    """As nvidia-smi counts."""
    uuid: str
    """What CUDA_VISIBLE_DEVICES takes, whatever order CUDA counts in."""
    memory_gb: float
    name: str


@dataclass(frozen=True)
class Machine:
    """What a worker can offer: a processor and memory, and one GPU or none."""

    gpu: Gpu | None = None

    @property
    def device(self) -> Device:
        """Where jobs train."""
        return "cpu" if self.gpu is None else "cuda"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues whose jobs can run here."""
        return (self.device, "any")

    @cached_property
    def name(self) -> str:
        """Model of the GPU or the processor."""
        return self.gpu.name if self.gpu else _processor()

    @cached_property
    def cores(self) -> int:
        """Processor cores this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @cached_property
    def memory_gb(self) -> float:
        """Memory of the machine, or what its container may use of it."""
        limit = _cgroup("memory.max")
        total = psutil.virtual_memory().total
        return (min(total, int(limit)) if limit.isdigit() else total) / GB

    def memory_used_gb(self) -> float:
        """Memory in use now, by all programs."""
        memory = psutil.virtual_memory()
        return (memory.total - memory.available) / GB

    def load(self) -> float:
        """Processes running or waiting to run, mean of the last minute."""
        return os.getloadavg()[0]

    def out_of_memory_kills(self) -> int:
        """Processes of our control group that the kernel has killed for lack of memory so far."""
        events = dict(line.split() for line in _cgroup("memory.events").splitlines())
        return int(events.get("oom_kill", 0))


def find_machine(device: Device | None = None, gpu: int = 0, visible: str | None = None) -> Machine:
    """This machine, as a worker for a device sees it.

    Args:
        device: "cpu" or "cuda"; by default "cuda" where there are a GPU and a torch that can use it.
        gpu: which of the visible GPUs.
        visible: the GPUs to count, as CUDA_VISIBLE_DEVICES names them; all if None.

    Raises:
        NoSuchGpu: asked for a GPU that cannot be used.
    """
    gpus = [] if device == "cpu" else _visible(installed_gpus(), visible)
    usable = not _torch_is_for_cpu_only()
    if gpu < len(gpus) and usable:
        return Machine(gpus[gpu])
    if device == "cuda" or gpu:
        raise NoSuchGpu(_missing(gpu, gpus, usable))
    return Machine()


def installed_gpus() -> list[Gpu]:
    """All NVIDIA GPUs that the driver shows."""
    try:
        listing = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(listing)


def parse_gpus(listing: str) -> list[Gpu]:
    """The GPUs of an answer to `QUERY`; those that do not tell their memory are left out."""
    rows = (line.split(", ", 3) for line in listing.splitlines() if line.count(", ") >= 3)
    return [
        Gpu(int(index), uuid, int(mebibytes) * 2**20 / GB, name)
        for index, uuid, mebibytes, name in rows
        if mebibytes.isdigit()
    ]


def _visible(gpus: list[Gpu], visible: str | None) -> list[Gpu]:
    if visible is None:
        return gpus
    wanted = [word.strip() for word in visible.split(",") if word.strip()]
    return [gpu for word in wanted for gpu in gpus if word == str(gpu.index) or gpu.uuid.startswith(word)]


def _torch_is_for_cpu_only() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def _missing(gpu: int, gpus: list[Gpu], usable: bool) -> str:
    if gpu < len(gpus) and not usable:
        return f"GPU {gpu} ({gpus[gpu].name}) is there, but torch is missing or built for CPUs; install a CUDA build"
    found = ", ".join(f"{number} ({known.name})" for number, known in enumerate(gpus)) or "none"
    return (
        f"expected GPU {gpu}, but nvidia-smi finds {found}; choose one of them, or start the worker with --device cpu"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cgroup(file: str) -> str:
    """A file of our control group (version 2); empty where there is none."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip()
        return (CGROUPS / own / file).read_text().strip()
    except OSError:
        return ""
