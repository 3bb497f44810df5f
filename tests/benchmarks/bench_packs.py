"""Seeds through a real worker and server: side by side in one training process, beside one after the other.

    python -m tests.benchmarks.bench_packs [--seeds 10] [--steps 8000] [--rounds 3] [--task polynomial]

What is timed goes from the first message to the end of the last job: claims, the start of training processes that are
warm, training, checkpoints, reports and results. Both sides take turns; every job is told to have succeeded.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_worker import STANDBY_TAKES_S, worker_process
from worker.app import application, wake
from worker.embedded_server import EmbeddedServer
from worker.jobs import State
from worker.store import JobStore
from worker.submission import Submission

LOOK_EVERY_S = 0.02


def seconds(url: str, folder: Path, spec: dict[str, object], seeds: int, replicas: int) -> float:
    """How long a worker takes for all seeds that trains so many side by side."""
    store = JobStore.connect(url)
    with application(url) as celery, worker_process(url, folder, REINMAX_REPLICAS=str(replicas)):
        while not store.workers():
            time.sleep(LOOK_EVERY_S)
        time.sleep(STANDBY_TAKES_S)
        bodies = (Submission.model_validate(spec | {"seed": seed}) for seed in range(seeds))
        jobs = [store.submit(body).job for body in bodies]
        began = time.perf_counter()
        for job in jobs:
            wake(celery, job)
        while not all(store.get(job.id).finished_at for job in jobs):
            time.sleep(LOOK_EVERY_S)
        took_s = time.perf_counter() - began
    assert {store.get(job.id).status for job in jobs} == {State.SUCCEEDED}
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="polynomial")
    given = parser.parse_args()
    spec = {"task": given.task, "estimator": "reinmax", "steps": given.steps}
    rounds = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
            rounds.append([seconds(server.url, Path(folder), spec, given.seeds, limit) for limit in (given.seeds, 1)])
    packed, alone = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(one_by_one / together for together, one_by_one in rounds)
    print(f"{given.task}, {given.seeds} seeds of {given.steps} steps")
    print(f"side by side {packed:.1f} s, one by one {alone:.1f} s")
    print(f"ratio, median of {given.rounds}: {ratio:.2f}")


if __name__ == "__main__":
    main()
