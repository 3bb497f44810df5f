"""The checks for GPUs run where there is none, so that they are in order when there is one."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_checks_pass_on_the_cpu() -> None:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu_checks", "--device", "cpu"],
        env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed  ") == 13
