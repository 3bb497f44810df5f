"""What a machine offers, and which jobs fit."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from tests.worker.samples import worker
from worker.hardware import Gpu, Machine, NoSuchGpu, find_machine, parse_gpus
from worker.submission import Hardware

LISTING = """\
0, GPU-aaaa, 143771, NVIDIA H200
1, GPU-bbbb, 143771, NVIDIA H200
2, GPU-cccc, [N/A], NVIDIA GB10
"""

# Stands for the driver's program on machines without a GPU.
NVIDIA_SMI = f"#!/bin/sh\ncat <<'EOF'\n{LISTING}EOF\n"


def test_this_machine_has_a_processor_and_memory() -> None:
    machine = find_machine("cpu")
    assert (machine.device, machine.queues) == ("cpu", ("cpu", "any"))
    assert machine.name and machine.cores == len(os.sched_getaffinity(0))
    assert 0 < machine.memory_used_gb() < psutil.virtual_memory().total / 1e9
    assert 0 < machine.memory_gb <= psutil.virtual_memory().total / 1e9
    assert machine.load() >= 0 and machine.out_of_memory_kills() >= 0


def test_gpus_are_read_off_the_drivers_listing() -> None:
    first, second = parse_gpus(LISTING)
    assert (first.index, first.uuid, first.name) == (0, "GPU-aaaa", "NVIDIA H200")
    assert second.memory_gb == pytest.approx(150.76, abs=0.01)
    assert Machine(first).queues == ("cuda", "any") and Machine(first).name == "NVIDIA H200"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=True).stdout == LISTING


def chosen(gpu: int, visible: str | None) -> Gpu | str | None:
    """The GPU, or what is said if torch cannot use it, as where the tests run with a torch for CPUs."""
    try:
        return find_machine("cuda", gpu, visible).gpu
    except NoSuchGpu as error:
        return str(error)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("gpu", "visible", "name"), [(0, None, "GPU 0"), (1, None, "GPU 1"), (0, "1", "GPU 0"), (1, "GPU-bbbb,0", "GPU 1")]
)
def test_a_visible_gpu_is_found(gpu: int, visible: str | None, name: str) -> None:
    found = chosen(gpu, visible)
    assert isinstance(found, Gpu) or f"{name} (NVIDIA H200) is there" in str(found)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("gpu", "visible"), [(2, None), (1, "0"), (0, "")])
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(gpu: int, visible: str | None) -> None:
    with pytest.raises(NoSuchGpu, match=f"expected GPU {gpu}, but nvidia-smi finds"):
        find_machine("cuda", gpu, visible)


def test_jobs_fit_by_queue_and_memory() -> None:
    cpu = worker(memory_gb=16)
    gpu = worker(device="cuda", queues=("cuda", "any"), memory_gb=64, gpu_memory_gb=8)
    needs = {
        Hardware(): (True, True),
        Hardware(device="cpu"): (True, False),
        Hardware(device="cuda"): (False, True),
        Hardware(gpus=1): (False, True),
        Hardware(memory_gb=12): (True, False),
        Hardware(device="cuda", memory_gb=8): (False, True),
        Hardware(memory_gb=32): (False, False),
    }
    assert {needed: (cpu.fits(needed), gpu.fits(needed)) for needed in needs} == needs


def test_a_processor_with_a_gpu_is_refused() -> None:
    with pytest.raises(ValidationError, match="choose device 'cuda'"):
        Hardware(device="cpu", gpus=1)
