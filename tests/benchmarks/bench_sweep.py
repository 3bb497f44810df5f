"""Time of every call about a sweep of many cells over HTTP, and for how long others wait meanwhile.

    python -m tests.benchmarks.bench_sweep [--cells 10000]

Server, API and this program share the machine. Every cell is a run of its own, is validated, and is on disk before the
sweep is answered; no worker runs, so nothing is trained. Beside each call another client reads a job over and over: the
longest of its answers says for how long the server did nothing else. The processor time of server and API tells what a
call costs, however busy the machine is otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from redis import Redis

from tests.service.processes import running_api
from worker.embedded_server import EmbeddedServer

PATIENCE_S = 300.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cells", type=int, default=10_000)
    cells = arguments.parse_args().cells
    limit = str(2 * cells)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedServer(Path(folder)) as server,
        running_api(Path(folder) / "api", redis_url=server.url, sweep_limit=limit) as url,
        httpx.Client(base_url=url, timeout=PATIENCE_S) as http,
        Redis.from_url(server.url) as redis,
    ):
        print(f"{os.cpu_count()} processors, load average before {os.getloadavg()[0]:.1f}")
        measure(http, url, cells, redis)


def measure(http: httpx.Client, url: str, cells: int, redis: Any) -> None:
    """Sends each request and prints a line."""
    alone = http.post("/v1/jobs", json={"task": "polynomial", "estimator": "reinmax"}).json()["id"]
    body, headers = sweep_of(cells), {"Idempotency-Key": "bench"}
    before = memory_of(redis)
    answer = timed("preview", url, alone, lambda: http.post("/v1/sweeps", params={"dry_run": True}, json=body))
    print(f"  {answer.json()['cells']} cells, {answer.json()['jobs']} jobs")
    answer = timed("submit", url, alone, lambda: http.post("/v1/sweeps", json=body, headers=headers))
    print(f"  {(memory_of(redis) - before) / answer.json()['jobs']:.0f} bytes a job")
    path = f"/v1/sweeps/{answer.json()['id']}"
    timed("submit again, same key", url, alone, lambda: http.post("/v1/sweeps", json=body, headers=headers))
    timed("get", url, alone, lambda: http.get(path))
    timed("list 200 jobs", url, alone, lambda: http.get("/v1/jobs", params={"sweep": path[11:], "limit": 200}))
    timed("table", url, alone, lambda: http.get(f"{path}/table", params={"format": "csv"}))
    timed("cancel", url, alone, lambda: http.post(f"{path}/cancel"))
    timed("retry", url, alone, lambda: http.post(f"{path}/retry"))
    timed("extend by a seed", url, alone, lambda: http.post(f"{path}/extend", json={"seeds": 2}))
    timed("cancel", url, alone, lambda: http.post(f"{path}/cancel"))
    timed("delete", url, alone, lambda: http.delete(path))


def sweep_of(cells: int) -> dict[str, Any]:
    """A sweep of at least so many cells, over temperature and learning rate."""
    side = math.ceil(math.sqrt(cells))
    rates = {"from": 1e-4, "to": 1e-1, "count": cells // side, "scale": "log"}
    return {
        "base": {"task": "polynomial", "estimator": "reinmax"},
        "grid": {"estimator.tau": {"from": 1, "to": 2, "count": side}, "optimizer.lr": rates},
    }


def timed(name: str, url: str, job_id: str, call: Any) -> httpx.Response:
    """The answer to a call, after a line with the time that it took."""
    with neighbour(url, job_id) as waits:
        begin, spent = time.perf_counter(), processor_s()
        answer: httpx.Response = call()
        seconds, spent = time.perf_counter() - begin, processor_s() - spent
    size = len(answer.content)
    print(
        f"{name:22} {seconds:7.3f} s, {spent:7.3f} s of processor time, {answer.status_code}, {size:8} bytes; "
        f"others waited {max(waits):.3f} s at most"
    )
    return answer


def processor_s() -> float:
    """Processor time that server and API have used: the children of this process."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(used.user + used.system for used in times))


@contextmanager
def neighbour(url: str, job_id: str) -> Iterator[list[float]]:
    """Another client, and the seconds that each of its answers took."""
    waits, is_over = [0.0], threading.Event()

    def read() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
            while not is_over.wait(0.01):
                begin = time.perf_counter()
                http.get(f"/v1/jobs/{job_id}")
                waits.append(time.perf_counter() - begin)

    thread = threading.Thread(target=read)
    thread.start()
    yield waits
    is_over.set()
    thread.join()


def memory_of(redis: Any) -> int:
    return int(redis.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
