"""From submission to training, cancelling, waking and memory, with a real server and one real worker.

    python -m tests.benchmarks.bench_worker [--jobs 20]

The steps of a job, `polynomial` with the published settings, are told to the store; what is timed is when
another process reads them there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from celery import Celery

from worker.app import application, wake
from worker.embedded_server import EmbeddedServer
from worker.jobs import Job, State
from worker.store import JobStore
from worker.submission import Submission

LOOK_EVERY_S = 0.0005
STANDBY_TAKES_S = 6.0
WAKES = 2000


class Bench:
    """A store, the Celery application and a worker process."""

    def __init__(self, url: str, worker: psutil.Process) -> None:
        self.store, self.celery, self.worker = JobStore.connect(url), application(url), worker

    def submit(self, steps: int) -> str:
        spec = {"task": "polynomial", "estimator": "reinmax", "steps": steps}
        job = self.store.submit(Submission.model_validate(spec)).job
        wake(self.celery, job)
        return job.id

    def until(self, job_id: str, holds: Callable[[Job], bool]) -> Job:
        while not holds(job := self.store.get(job_id)):
            time.sleep(LOOK_EVERY_S)
        return job

    def way_to_the_first_step(self, pause_s: float) -> tuple[float, float, float]:
        """Milliseconds from submission to claim, to readiness and to the first step; then cancelling."""
        began = time.perf_counter()
        job_id = self.submit(10**7)
        times = []
        for holds in (is_claimed, is_running, has_stepped):
            self.until(job_id, holds)
            times.append(1e3 * (time.perf_counter() - began))
        self.store.cancel(job_id)
        self.until(job_id, has_ended)
        time.sleep(pause_s)
        claimed, running, stepped = times
        return claimed, running, stepped

    def cancelling(self) -> float:
        """Milliseconds from the request to the end."""
        job_id = self.submit(10**7)
        self.until(job_id, has_stepped)
        time.sleep(0.5)
        began = time.perf_counter()
        self.store.cancel(job_id)
        self.until(job_id, has_ended)
        return 1e3 * (time.perf_counter() - began)


def is_claimed(job: Job) -> bool:
    return job.status is not State.QUEUED


def is_running(job: Job) -> bool:
    return job.status is State.RUNNING


def has_stepped(job: Job) -> bool:
    return job.progress.step > 0


def has_ended(job: Job) -> bool:
    return job.finished_at is not None


def memory_mib(process: psutil.Process) -> float:
    """What the process adds to the machine's memory in use, shared pages in part."""
    return float(process.memory_full_info().pss) / 2**20


def wakes_a_second(celery: Celery, job: Job) -> float:
    began = time.perf_counter()
    for _ in range(WAKES):
        wake(celery, job)
    return WAKES / (time.perf_counter() - began)


@contextmanager
def worker_process(url: str, folder: Path, **settings: str) -> Iterator[psutil.Process]:
    environment = (
        os.environ
        | settings
        | {
            "REINMAX_REDIS_URL": url,
            "REINMAX_STATE_DIR": str(folder),
            "REINMAX_LOG_LEVEL": "error",
        }
    )
    with subprocess.Popen([sys.executable, "-m", "worker", "--device", "cpu"], env=environment) as process:
        yield psutil.Process(process.pid)
        process.terminate()


def summary(times: list[float]) -> str:
    return f"p50 {statistics.median(times):.0f} ms, worst of {len(times)} {max(times):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        (server_process,) = psutil.Process().children()
        with worker_process(server.url, Path(folder)) as worker:
            report(Bench(server.url, worker), server_process, jobs)


def report(bench: Bench, server: psutil.Process, jobs: int) -> None:
    _, _, cold = bench.way_to_the_first_step(STANDBY_TAKES_S)
    idle = f"worker {memory_mib(bench.worker):.0f} MiB, its standby {memory_mib(bench.worker.children()[0]):.0f} MiB"
    print(f"idle memory: {idle}, server {memory_mib(server):.0f} MiB")
    times = [bench.way_to_the_first_step(STANDBY_TAKES_S) for _ in range(jobs)]
    claimed, running, stepped = (list(column) for column in zip(*times, strict=True))
    print(f"submission to claim: {summary(claimed)}")
    print(f"submission to a training process that is ready: {summary(running)}")
    print(f"submission to the first step in the store: {summary(stepped)}; without a warm standby {cold:.0f} ms")
    print(f"cancelling a running job: {summary([bench.cancelling() for _ in range(3)])}")
    print(f"wakes: {wakes_a_second(bench.celery, bench.store.get(bench.submit(1))):.0f} a second")


if __name__ == "__main__":
    main()
