"""Training in this process: what it shows, and what it says where it cannot go on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from reinmax_core.run import Progress
from service.commands import training
from service.commands.training import LineView

ADDRESS_SPACE_BYTES = 3 * 10**9
NEEDY = ("train", "polynomial", "reinmax", "--set", "task.latents=100000", "--set", "task.batch=18000")
"""Draws of 7.2 GB a class."""


def test_a_first_step_that_took_long_is_shown_without_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LINE_INTERVAL_S", 0.0)
    shown = io.StringIO()
    view = LineView(Console(file=shown, width=200))
    for step in (41, 42):
        view.show(Progress(step, 100, {"loss": 0.5}))
    first, second = shown.getvalue().splitlines()
    assert first == "step 41 of 100  loss 0.5"
    assert second.startswith("step 42 of 100, ")
    assert "steps/s" in second and second.endswith(" s left  loss 0.5")


def test_memory_that_runs_out_is_told_with_the_remedy(tmp_path: Path) -> None:
    script = (
        "import resource; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE_BYTES}, {ADDRESS_SPACE_BYTES})); "
        "from service.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *NEEDY, "--device", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "memory ran out" in done.stderr and "choose a smaller batch" in done.stderr
    assert "Traceback" not in done.stderr
