"""What runs come to that nobody disturbs: by a trainer alone, in a process with as many threads as a worker has.

`python -m tests.acceptance.chaos.undisturbed DATA_DIR` reads a run spec a line and writes an outcome a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

THREADS = 1


@dataclass(frozen=True)
class Undisturbed:
    """All that a job must leave, but for the time it took."""

    model_sha256: str
    series: dict[str, dict[str, list[Any]]]
    """Steps and values of every metric, as the service sends them."""
    metrics: dict[str, float]
    best: dict[str, Any] | None


def outcomes(specs: Sequence[dict[str, Any]], data_dir: Path) -> list[Undisturbed]:
    """What the specs come to, worked out side by side on all cores."""
    cores = sorted(os.sched_getaffinity(0))
    processes = [_start(core, data_dir) for core in cores]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.writelines(json.dumps(spec) + "\n" for spec in specs[number :: len(cores)])
        process.stdin.close()
    with ThreadPoolExecutor() as threads:  # a pipe that nobody reads would hold its writer up
        answers = list(threads.map(_answers, processes))
    return [answers[number % len(cores)][number // len(cores)] for number in range(len(specs))]


def _start(core: int, data_dir: Path) -> subprocess.Popen[str]:
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.chaos.undisturbed", str(data_dir)],
        env=os.environ | threads | {"CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, {core})
    return process


def _answers(process: subprocess.Popen[str]) -> list[Undisturbed]:
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    if process.wait():
        raise RuntimeError(f"undisturbed runs should come to an end, but their process ended with {process.returncode}")
    return [Undisturbed(**json.loads(line)) for line in lines]


def _outcome(spec: dict[str, Any], data_dir: Path) -> Undisturbed:
    from reinmax_core import RunSpec, Trainer, checkpoint
    from reinmax_core.data.base import DataSource

    trainer = Trainer(RunSpec.model_validate(spec), source=DataSource(directory=data_dir, mirrors=()))
    series: dict[str, dict[str, list[Any]]] = {}
    for progress in trainer:
        for name, value in progress.metrics.items():
            points = series.setdefault(name, {"step": [], "value": []})
            points["step"].append(progress.step)
            points["value"].append(value)
    model, result = checkpoint.encode(trainer)[checkpoint.MODEL], trainer.result()
    best = result.best.model_dump() if result.best else None
    return Undisturbed(sha256(model).hexdigest(), series, dict(result.metrics), best)


def main() -> None:
    """Carries out the specs of standard input, one after the other."""
    for line in sys.stdin:
        print(json.dumps(asdict(_outcome(json.loads(line), Path(sys.argv[1])))), flush=True)


if __name__ == "__main__":
    main()
