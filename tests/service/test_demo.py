"""What the demonstration shows of its jobs: the table beside the optimum, the plot, and what was left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.answers import Curve
from service.demo.demonstration import ESTIMATORS, EXPONENTS, PLOTS, specs
from service.demo.figure import draw
from service.demo.outcome import Outcome
from worker.jobs import Job
from worker.submission import Submission

OPTIMA = {1.5: 0.30187, 2.0: 0.20250, 3.0: 0.09113}
"""For c = 0.45, as published."""
NAMES = [str(estimator["name"]) for estimator in ESTIMATORS]


def ended(spec: Mapping[str, object], **fields: Any) -> Job:
    submission = Submission.model_validate(spec)
    progress = {"step": submission.steps, "steps": submission.steps}
    record = {"id": f"job_{submission.name}", "status": "succeeded", "spec": submission.run_spec(), "queue": "any"}
    record |= {"hardware": {}, "max_attempts": 1, "progress": progress, "created_at": "2026-01-01T00:00:00Z"}
    result = {"metrics": {}, "best": None, "wall_time_s": 12.0}
    return Job.model_validate(record | {"name": submission.name, "result": result} | fields)


def polynomial(spec: Mapping[str, Any]) -> Job:
    """A job that ended the further from the optimum the later its estimator stands in the list."""
    gap = 0.001 * NAMES.index(spec["estimator"]["name"])
    return ended(spec, metrics={"expected_loss": OPTIMA[spec["task"]["p"]] + gap, "gap": gap})


@pytest.fixture
def outcome() -> Outcome:
    vae, *polynomials = specs()
    jobs = [ended(vae), *map(polynomial, polynomials)]
    curve = Curve(step=[100, 200, 300], value=[3.0, 2.0, 1.5])
    return Outcome(jobs, {job.id: {job.spec.task.objective: curve} for job in jobs})


def text(outcome: Outcome) -> str:
    console = Console(width=120, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        outcome.show(console)
        return console.export_text()


def test_every_estimator_meets_every_exponent() -> None:
    _, *polynomials = map(Submission.model_validate, specs())
    cells = {(spec.estimator.name, spec.task.model_dump()["p"]) for spec in polynomials}
    assert cells == {(name, p) for name in NAMES for p in EXPONENTS}
    assert all((spec.steps, spec.task.model_dump()["c"]) == (8000, 0.45) for spec in polynomials)


def test_the_table_ends_with_the_optimum_and_begins_with_the_nearest(outcome: Outcome) -> None:
    lines = text(outcome).splitlines()
    (first,) = (index for index, line in enumerate(lines) if line.startswith("estimator"))
    rows = [line.split() for line in lines[first + 1 : first + 2 + len(NAMES)]]
    assert [row[0] for row in rows] == [*NAMES, "optimum"]
    assert rows[-1][1:] == ["0.30187", "0.20250", "0.09113"]
    assert rows[2][1:3] == ["0.30387", "+0.0020"]
    assert "test_loss 3.00 after 100 steps, 1.50 after 300" in text(outcome)
    assert outcome.is_good


def test_missing_data_is_told_and_forgiven(outcome: Outcome) -> None:
    error = {"type": "DataUnavailable", "message": "put the file there"}
    without = ended(next(specs()), status="failed", error=error, result=None)
    partial = Outcome([without, *outcome.jobs[1:]], outcome.curves)
    assert "put the file there" in text(partial)
    assert partial.is_good
    assert len(partial.panels()) == len(EXPONENTS)


def test_a_failure_is_told_and_not_forgiven(outcome: Outcome) -> None:
    broken = outcome.jobs[1].model_copy(update={"status": "failed", "result": None})
    partial = Outcome([outcome.jobs[0], broken, *outcome.jobs[2:]], outcome.curves)
    assert f"{broken.name}: failed" in text(partial)
    assert not partial.is_good


def test_the_plot_names_every_curve(outcome: Outcome, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in PLOTS]
    draw(outcome.panels(), NAMES, "title", paths)
    drawn = (tmp_path / "demo.svg").read_text()
    assert all(f">{name}<" in drawn for name in [*NAMES, "optimum", "expected loss", "test loss"])
    assert (tmp_path / "demo.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_demonstration(tmp_path: Path) -> None:
    # No source has the images, so that it also has to go on without.
    told = {"REINMAX_DATA_DIR": str(tmp_path / "none"), "REINMAX_DATA_MIRROR": str(tmp_path / "nowhere")}
    command = [Path(sys.executable).with_name("reinmax"), "demo", "--json", "--to", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    losses = {job["name"]: job["metrics"].get("expected_loss") for job in json.loads(last)["jobs"]}
    assert losses["p = 2 · reinmax"] == pytest.approx(0.2037, abs=0.002)
    assert losses["p = 2 · straight_through"] == pytest.approx(0.2475, abs=0.002)
