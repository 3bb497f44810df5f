"""Which workers the local stack starts."""

from __future__ import annotations

import pytest

from service.local import worker_programs
from worker.hardware import Gpu, Machine

PLAIN = ("worker",)
ON_THE_CPU = ("worker", "--device", "cpu")
WITH_GPU = Machine(Gpu(index=0, uuid="GPU-0", memory_gb=24.0, name="NVIDIA RTX A5000"))


@pytest.mark.parametrize(
    ("workers", "machine", "programs"),
    [
        (1, Machine(), [PLAIN]),
        (2, Machine(), [PLAIN, PLAIN]),
        (1, WITH_GPU, [PLAIN, ON_THE_CPU]),
        (2, WITH_GPU, [PLAIN, PLAIN, ON_THE_CPU]),
        (0, WITH_GPU, []),
    ],
)
def test_beside_workers_on_a_gpu_there_is_one_for_jobs_on_the_cpu(
    workers: int, machine: Machine, programs: list[tuple[str, ...]]
) -> None:
    assert worker_programs(workers, machine) == programs
