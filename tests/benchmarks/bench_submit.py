"""Submissions a second over HTTP, the latency of reading jobs, and the memory of the API, on one machine.

    python -m tests.benchmarks.bench_submit [--clients 16] [--seconds 8]

Server, API and this load generator share the machine. Every submission is a different job, is on disk before it
is answered, and a worker is called for it; no worker runs, so nothing is trained. What the disk costs is measured
beside servers that write once a second: there a submission waits for that, or nobody does and the job may be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from redis import Redis

from tests.service.processes import running_api
from worker.embedded_server import EmbeddedServer

SPEC = '{"task": "polynomial", "estimator": "reinmax", "tau": 1.3, "seed": %d}'

NOBODY_WAITS = "everysec, nobody waits"
POLICIES = {
    "always": "CONFIG SET appendfsync always",
    "everysec, each waits": "CONFIG SET appendfsync everysec",
    NOBODY_WAITS: "CONFIG SET appendfsync everysec; ACL SETUSER default -waitaof",
}
"""What a server is told, so that jobs reach its disk in one way or another."""

Request = Callable[[], bytes]


@dataclass
class Outcome:
    """What the clients of one run saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        seconds, errors = self.seconds + other.seconds, self.errors + other.errors
        return Outcome(seconds, self.latencies + other.latencies, errors)

    def __str__(self) -> str:
        percentiles = statistics.quantiles(self.latencies, n=100)
        return (
            f"{len(self.latencies) / self.seconds:5.0f}/s, p50 {1e3 * percentiles[49]:5.1f} ms, "
            f"p99 {1e3 * percentiles[98]:5.1f} ms, {self.errors} errors"
        )


async def load(url: str, request: Request, expected: int, clients: int, seconds: float) -> Outcome:
    """Has `clients` send one request after the other, each over a connection of its own."""
    outcome = Outcome()
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(url, request, expected, end, outcome) for _ in range(clients)))
    outcome.seconds = seconds
    return outcome


async def client(url: str, request: Request, expected: int, end: float, outcome: Outcome) -> None:
    async with connection(url) as (reader, writer):
        while (begin := time.perf_counter()) < end:
            writer.write(request())
            status = await answer(reader)
            outcome.latencies.append(time.perf_counter() - begin)
            outcome.errors += status != expected


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> int:
    """Reads one answer and gives its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


def submissions() -> Request:
    seeds = itertools.count()

    def request() -> bytes:
        body = (SPEC % next(seeds)).encode()
        head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    return request


def reading(path: str) -> Request:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    return lambda: request


async def newest_job(url: str) -> str:
    async with connection(url) as (reader, writer):
        writer.write(reading("/v1/jobs?limit=1")())
        await reader.readuntil(b'{"id":"')
        return (await reader.readuntil(b'"'))[:-1].decode()


class Api:
    """The API process, the youngest child of this one."""

    def __init__(self) -> None:
        self._process = max(psutil.Process().children(), key=psutil.Process.create_time)

    @property
    def memory_mib(self) -> float:
        """PSS: its own memory, and its share of what it shares with others."""
        return float(self._process.memory_full_info().pss / 2**20)

    @property
    def processor_s(self) -> float:
        """Processor time it has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--seconds", type=float, default=8.0)
    options = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedServer(Path(folder)) as server,
        running_api(Path(folder) / "api", redis_url=server.url) as url,
    ):
        measure(url, options.clients, options.seconds)
    for clients in (1, options.clients):
        compare_policies(clients, options.seconds / 4)


def compare_policies(clients: int, seconds: float, rounds: int = 3) -> None:
    """Submits by turns to servers that write to disk in different ways, and prints a line for each."""
    with contextlib.ExitStack() as resources:
        urls = {policy: resources.enter_context(api_with(commands)) for policy, commands in POLICIES.items()}
        outcomes: dict[str, list[Outcome]] = {policy: [] for policy in POLICIES}
        for _ in range(rounds):
            for policy, url in urls.items():
                outcomes[policy].append(asyncio.run(load(url, submissions(), 202, clients, seconds)))
    for policy, found in outcomes.items():
        pairs = zip(found, outcomes[NOBODY_WAITS], strict=True)
        ratio = statistics.median(len(one.latencies) / len(other.latencies) for one, other in pairs)
        print(f"appendfsync {policy:22} x {clients:2}: {sum(found, Outcome())}, {ratio:.2f} times the rate of the last")


@contextlib.contextmanager
def api_with(commands: str) -> Iterator[str]:
    """The address of an API on a server of its own that was given these commands."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        with Redis.from_url(server.url) as client:
            for command in commands.split("; "):
                client.execute_command(*command.split())
        with running_api(Path(folder) / "api", redis_url=server.url) as url:
            yield url


def measure(url: str, clients: int, seconds: float) -> None:
    api = Api()
    print(f"{os.cpu_count()} processors, load average before {os.getloadavg()[0]:.1f}")
    print(f"API at rest: {api.memory_mib:.0f} MiB PSS")
    asyncio.run(load(url, submissions(), 202, 1, 0.5))
    run(api, url, submissions(), 202, clients, seconds, "POST /v1/jobs")
    time.sleep(1)  # calls for workers that are still under way
    job = asyncio.run(newest_job(url))
    run(api, url, reading(f"/v1/jobs/{job}"), 200, clients, seconds / 2, "GET /v1/jobs/{id}")
    run(api, url, reading("/v1/jobs?limit=50"), 200, 4, seconds / 2, "GET /v1/jobs?limit=50")
    print(f"API afterwards: {api.memory_mib:.0f} MiB PSS")


def run(api: Api, url: str, request: Request, expected: int, clients: int, seconds: float, name: str) -> None:
    """Measures one kind of request and prints a line."""
    before = api.processor_s
    outcome = asyncio.run(load(url, request, expected, clients, seconds))
    each_ms = 1e3 * (api.processor_s - before) / len(outcome.latencies)
    print(f"{name:22} x {clients:2}: {outcome}, {each_ms:.2f} ms of processor time each")


if __name__ == "__main__":
    main()
