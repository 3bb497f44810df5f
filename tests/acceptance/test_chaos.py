"""The short form of the chaos test; the long one is `python -m tests.acceptance.chaos`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

JOBS, FAULTS = 20, 16


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_job_ends_once_as_if_nothing_had_happened(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = (f"--jobs={JOBS}", f"--faults={FAULTS}", "--longest=4", "--minutes=10", f"--report={report}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.chaos", *options, f"--folder={tmp_path / 'chaos'}"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert figures["jobs"]["accepted"] == JOBS
    assert figures["faults"]["in all"] == FAULTS
