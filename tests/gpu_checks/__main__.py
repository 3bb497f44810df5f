"""All that has to be looked at on a GPU, in one run with a report: python -m tests.gpu_checks [--device cuda]

The test suite needs no GPU and says nothing about one. Each check prints a line with its figures, or a table;
the exit code is 1 if one of them failed. It needs torch, numpy, pydantic, safetensors and the data sets, and
compares with the package `reinmax` where that is installed. With --device cpu, where the kernels cannot run,
it shows that the checks themselves are in order.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable

# Before CUDA starts: without a workspace of its own, cuBLAS is not deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from tests.gpu_checks.draws import deterministic, frequencies, gradients
from tests.gpu_checks.kernels import compiled, graphs, kernel_frequencies, kernel_gradients
from tests.gpu_checks.replicas import neighbours, side_by_side
from tests.gpu_checks.runs import resumption, speed, training
from tests.gpu_checks.times import times

CHECKS: tuple[Callable[[str], str], ...] = (
    frequencies,
    gradients,
    deterministic,
    kernel_frequencies,
    kernel_gradients,
    compiled,
    graphs,
    training,
    resumption,
    neighbours,
    speed,
    side_by_side,
    times,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=[check.__name__ for check in CHECKS], help="a single one of the checks")
    arguments = parser.parse_args()
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "CPU"
    print(f"torch {torch.__version__} on {name}")
    chosen = [check for check in CHECKS if arguments.only in (None, check.__name__)]
    return min(sum(not passes(check, arguments.device) for check in chosen), 1)


def passes(check: Callable[[str], str], device: str) -> bool:
    try:
        print(f"passed  {check.__name__}: {check(device)}", flush=True)
    except Exception:  # noqa: BLE001  (the report is of all checks)
        print(f"FAILED  {check.__name__}: {traceback.format_exc()}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
