"""Latency of every call over HTTP with many jobs stored that have ended, and the memory that one takes.

    python -m tests.benchmarks.bench_store [--jobs 100000] [--requests 300]

Server, API and this program share the machine. Some hundred jobs are led to their end as a worker does it, with a few
points of metrics each; a tenth failed. The rest are copies of their keys under earlier ids. Each call is sent over and
over by one client.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis

from tests.benchmarks.bench_submit import Outcome, Request, answer, connection, reading, submissions
from tests.service.processes import running_api
from tests.worker.finished import run_like_a_worker
from tests.worker.samples import submission
from tests.worker.states import CRASH, started
from worker.embedded_server import EmbeddedServer
from worker.store import JobStore
from worker.submission import Cause

POINTS = 3
STUDIES = 10
ORIGINALS = 200
COPIES_AT_A_TIME = 100
COPY = """
local prefix, id, first, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local made = {}
for number = first, last do
  local time = tonumber(id:sub(5, 16), 16) - 100000 * number
  local copy = string.format('job_%06x%06x', math.floor(time / 2^24), time % 2^24) .. id:sub(17)
  redis.call('COPY', prefix .. 'job:' .. id, prefix .. 'job:' .. copy)
  redis.call('COPY', prefix .. 'events:' .. id, prefix .. 'events:' .. copy)
  for position = 5, #ARGV do
    redis.call('ZADD', ARGV[position], 0, copy)
  end
  table.insert(made, copy)
end
return made
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=100_000)
    arguments.add_argument("--requests", type=int, default=300)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        ids = fill(server.url, options.jobs)
        with running_api(Path(folder) / "api", redis_url=server.url) as url:
            asyncio.run(measure(url, ids, options.requests))


def fill(redis_url: str, jobs: int) -> list[str]:
    """Stores jobs that have ended and says what they take. Returns their ids."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        # Nobody waits for the disk while the store is filled.
        client.config_set("appendfsync", "no")
        client.execute_command("ACL", "SETUSER", "default", "-waitaof")
        store = JobStore.connect(redis_url)
        ended(store, 0)
        before, begin = used_memory(client), time.perf_counter()
        ids = [ended(store, number) for number in range(min(jobs, ORIGINALS))]
        each = (used_memory(client) - before) / len(ids)
        ids += copies(client, ids, jobs // len(ids) - 1)
        print(f"{len(ids)} jobs in {time.perf_counter() - begin:.0f} s; load average {os.getloadavg()[0]:.1f}")
        events = client.xrange(f"reinmax:events:{ids[1]}")
        metrics = sum(len(text) for _, fields in events if "metrics" in fields for text in fields.values())
        print(f"{each:.0f} bytes a job, of which {metrics} are points of metrics")
        client.execute_command("ACL", "SETUSER", "default", "+waitaof")
        client.config_set("appendfsync", "always")
        store.keyspace.close()
    return ids


def copies(client: Any, ids: list[str], each: int) -> list[str]:
    """Copies of jobs, in the same indexes, as if they had been submitted before. Returns their ids."""
    indexes = [key for key in client.scan_iter() if client.type(key) == "zset"]
    made = []
    for job_id in ids:
        own = [index for index in indexes if client.zscore(index, job_id) is not None]
        for first in range(1, each + 1, COPIES_AT_A_TIME):
            last = min(first + COPIES_AT_A_TIME - 1, each)
            made += client.eval(COPY, 0, "reinmax:", job_id, first, last, *own)
    return made


def used_memory(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def ended(store: JobStore, number: int) -> str:
    labels = {"study": f"table-{number % STUDIES}", "half": "first" if number % 10 < 5 else "second"}
    if number % 10:
        return run_like_a_worker(store, number, points=POINTS, labels=labels)
    job_id = store.submit(submission(seed=number, labels=labels)).job.id
    started(store, job_id).fail(Cause.ERROR, CRASH)
    return job_id


async def measure(url: str, ids: list[str], requests: int) -> None:
    """Sends each kind of request and prints a line."""
    await one_after_the_other(url, submissions(), 202, 20)
    one_in_the_middle = itertools.cycle(ids[:: max(1, len(ids) // 997)])
    lists = {
        "a page of 50": "limit=50",
        "by state": "limit=50&status=succeeded",
        "by state and label": "limit=50&status=succeeded&label.study=table-3",
        "by state and label, none": "limit=50&status=succeeded&label.study=table-0",
        "by two labels, none": "limit=50&label.half=second&label.study=table-0",
        "by two large ones, none": "limit=50&label.half=second&status=failed",
        "by four": "limit=50&status=succeeded&task=categorical_vae&estimator=reinmax&label.half=first",
        "a page of 200": "limit=200",
    }
    calls: Iterator[tuple[str, Request, int]] = iter(
        [
            ("get", lambda: reading(f"/v1/jobs/{next(one_in_the_middle)}")(), 200),
            ("submit", submissions(), 202),
            *((f"list {name}", reading(f"/v1/jobs?{query}"), 200) for name, query in lists.items()),
        ]
    )
    for name, request, expected in calls:
        print(f"{name:30} {percentiles(await one_after_the_other(url, request, expected, requests))}", flush=True)


async def one_after_the_other(url: str, request: Request, expected: int, requests: int) -> Outcome:
    outcome = Outcome()
    async with connection(url) as (reader, writer):
        for _ in range(requests):
            begin = time.perf_counter()
            writer.write(request())
            status = await answer(reader)
            outcome.latencies.append(time.perf_counter() - begin)
            outcome.errors += status != expected
    return outcome


def percentiles(outcome: Outcome) -> str:
    cuts = statistics.quantiles(outcome.latencies, n=100)
    return f"p50 {1e3 * cuts[49]:6.1f} ms, p99 {1e3 * cuts[98]:6.1f} ms, {outcome.errors} errors"


if __name__ == "__main__":
    main()
