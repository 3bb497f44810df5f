"""Celery's own tools beside the service: real workers that are asked, told and ended by them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command
from celery.worker.control import Panel
from redis import Redis

from tests.worker.samples import submission
from worker.app import RUN_JOB, NoServerRuns, application, server_address, wake
from worker.artifacts import ArtifactStore, location
from worker.embedded_server import EmbeddedServer
from worker.jobs import Job, State
from worker.settings import Settings
from worker.store import JobStore

STEPS = 4000
ENDLESS = 10**8
PATIENCE_S = 60.0


class Site:
    """A server, workers on it, and the application that Celery's tools ask for."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.store, self.celery = JobStore.connect(redis_url), application(redis_url)
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.environment = os.environ | {
            "REINMAX_REDIS_URL": redis_url,
            "REINMAX_STATE_DIR": str(folder),
            "REINMAX_CHECKPOINT_INTERVAL_S": "60",
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *program: str) -> "subprocess.Popen[bytes]":
        self._processes.append(subprocess.Popen([sys.executable, "-m", *program], env=self.environment))
        return self._processes[-1]

    def start_worker(self, *arguments: str) -> str:
        """The name by which Celery's tools know it."""
        process = self.start("worker", "--device", "cpu", *arguments)
        name = f"{socket.gethostname()}-{process.pid}"
        wait_for(lambda: any(worker.name == name for worker in self.store.workers()))
        wait_for(lambda: self.celery.control.ping([f"celery@{name}"], timeout=0.2))
        return f"celery@{name}"

    def submit(self, steps: int, **settings: Any) -> str:
        job = self.store.submit(submission(steps=steps, **settings)).job
        wake(self.celery, job)
        return job.id

    def job(self, job_id: str) -> Job:
        return self.store.get(job_id)

    def trains(self, job_id: str) -> bool:
        job = self.job(job_id)
        return job.status is State.RUNNING and job.progress.step > 0

    def finished(self, job_id: str) -> Job:
        wait_for(lambda: self.job(job_id).finished_at)
        return self.job(job_id)

    def told(self, command: str, worker: str, **arguments: Any) -> str:
        """The answer of a worker to `celery control`."""
        (answer,) = self.celery.control.broadcast(
            command, arguments=arguments, destination=[worker], reply=True, timeout=PATIENCE_S, limit=1
        )
        (found,) = answer[worker].items()
        return ": ".join(found)

    def queues(self, worker: str) -> list[tuple[str, ...]]:
        return [record.queues for record in self.store.workers() if f"celery@{record.name}" == worker]

    def end(self, *processes: "subprocess.Popen[bytes]") -> None:
        for process in processes or self._processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def site(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
    site = Site(redis_url, tmp_path_factory.mktemp("site"))
    with closing(site.store.keyspace), site.celery:
        yield site
        site.end()


@pytest.fixture(scope="module")
def worker(site: Site) -> str:
    """The worker that is there from the first test to the last."""
    return site.start_worker()


@pytest.fixture
def celery(site: Site) -> Celery:
    return site.celery


def wait_for(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(site: Site, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.operations", *command],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_the_command_of_celery_finds_the_workers(site: Site, worker: str) -> None:
    done = run(site, "inspect", "ping", "--timeout", "10", "--destination", worker, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == {worker: {"ok": "pong"}}


def test_the_commands_of_the_readme_exist() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    commands = re.findall(r"^celery -A worker\.operations (\w+)(?: -d \S+)?(?: (\w+))?", readme, re.MULTILINE)
    assert {command for command, _ in commands} >= {"status", "inspect", "control", "flower"}
    for command, subject in commands:
        assert command in celery_command.commands
        assert command not in ("inspect", "control") or Panel.meta[subject].type == command


def test_a_busy_worker_answers_every_inspection(site: Site, worker: str) -> None:
    job_id = site.submit(ENDLESS)
    wait_for(lambda: site.trains(job_id))
    asked = site.celery.control.inspect([worker], timeout=10, limit=1)
    (active,) = asked.active()[worker]
    assert (active["name"], active["args"]) == (RUN_JOB, [job_id])
    assert asked.stats()[worker]["pool"]["max-concurrency"] == 1
    assert {queue["name"] for queue in asked.active_queues()[worker]} == {"cpu", "any"}
    assert asked.registered()[worker] == [RUN_JOB]
    site.store.cancel(job_id)
    assert site.finished(job_id).status is State.CANCELLED
    wait_for(lambda: not asked.active()[worker])


def test_a_queue_is_left_alone_from_cancel_consumer_to_add_consumer(site: Site, worker: str) -> None:
    for queue in ("cpu", "any"):
        site.told("cancel_consumer", worker, queue=queue)
    wait_for(lambda: site.queues(worker) == [()])
    job_id = site.submit(10, hardware="cpu")
    time.sleep(1.5)  # longer than a worker waits for one message
    assert site.job(job_id).status is State.QUEUED
    for queue in ("cpu", "any"):
        site.told("add_consumer", worker, queue=queue)
    assert site.finished(job_id).status is State.SUCCEEDED
    wait_for(lambda: site.queues(worker) == [("cpu", "any")])


def test_a_job_that_cannot_run_on_the_device_is_not_run_by_whoever_gets_its_queue(site: Site, worker: str) -> None:
    site.told("add_consumer", worker, queue="cuda")
    job_id = site.submit(10, hardware="cuda")
    with closing(Redis.from_url(site.environment["REINMAX_REDIS_URL"])) as client:
        wait_for(lambda: not any(client.scan_iter("reinmax:celery:cuda*")))
    site.told("cancel_consumer", worker, queue="cuda")
    assert site.finished(site.submit(1)).status is State.SUCCEEDED
    assert site.job(job_id).status is State.QUEUED
    assert site.queues(worker) == [("cpu", "any")]
    site.store.cancel(job_id)


class Listener:
    """The events of a while."""

    def __init__(self, celery: Celery) -> None:
        self.heard: list[dict[str, Any]] = []
        self._celery, self._is_ready, self._stop = celery, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Listener":
        self._thread.start()
        assert self._is_ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def kinds(self, worker: str) -> set[str]:
        return {event["type"] for event in self.heard if event["hostname"] == worker}

    def _listen(self) -> None:
        with self._celery.connection_for_read() as connection:
            receiver = self._celery.events.Receiver(connection, handlers={"*": self.heard.append})
            with receiver.consumer_context(wakeup=False) as (own, *_):
                while not self._stop.is_set():
                    try:
                        own.drain_events(timeout=0.1)
                    except TimeoutError:
                        # It subscribes when it first waits for a message.
                        self._is_ready.set()


@pytest.mark.slow
def test_events_are_sent_while_they_are_asked_for(site: Site, worker: str) -> None:
    with Listener(site.celery) as listener:
        site.finished(site.submit(1))
        assert listener.kinds(worker) == set()
        assert site.told("enable_events", worker) == "ok: task events enabled"
        site.finished(site.submit(1))
        expected = {"task-received", "task-started", "task-succeeded", "worker-heartbeat"}
        wait_for(lambda: listener.kinds(worker) >= expected)
        assert site.told("disable_events", worker) == "ok: task events disabled"


def test_a_worker_for_one_queue_takes_no_jobs_of_another(site: Site, worker: str) -> None:
    for queue in ("any", "cpu"):
        site.told("cancel_consumer", worker, queue=queue)
    name = site.start_worker("--queues", "cpu")
    assert site.queues(name) == [("cpu",)]
    elsewhere, here = site.submit(1, hardware="any"), site.submit(1, hardware="cpu")
    assert site.finished(here).status is State.SUCCEEDED
    assert site.job(elsewhere).status is State.QUEUED
    os.kill(int(name.rpartition("-")[2]), signal.SIGTERM)
    for queue in ("any", "cpu"):
        site.told("add_consumer", worker, queue=queue)
    assert site.finished(elsewhere).status is State.SUCCEEDED


def get(url: str) -> Any:
    try:
        return httpx.get(url, timeout=5).raise_for_status().json()
    except httpx.HTTPError:
        return None


@pytest.mark.slow
def test_flower_shows_workers_and_messages(site: Site, worker: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ("--address=127.0.0.1", f"--port={port}", "--logging=error")
    flower = site.start("celery", "-A", "worker.operations", "flower", *address)
    shown = f"http://127.0.0.1:{port}/api"
    wait_for(lambda: (get(f"{shown}/workers?status=true") or {}).get(worker))
    assert {queue["name"] for queue in get(f"{shown}/workers?refresh=true")[worker]["active_queues"]} == {"cpu", "any"}
    # Flower asks for events some seconds after its start.
    wait_for(lambda: site.told("enable_events", worker) == "ok: task events already enabled")
    job_id = site.submit(1)
    wait_for(lambda: any(job_id in task["args"] for task in (get(f"{shown}/tasks") or {}).values()))
    (task,) = (task for task in get(f"{shown}/tasks").values() if job_id in task["args"])
    assert (task["name"], task["worker"]) == (RUN_JOB, worker)
    site.end(flower)
    site.told("disable_events", worker)


def model(site: Site, job: Job) -> bytes:
    return site.artifacts.read(location(job.id, job.epoch, "model.safetensors"))


@pytest.mark.slow
def test_a_worker_that_is_shut_down_hands_its_job_to_another(site: Site, worker: str) -> None:
    undisturbed = site.finished(site.submit(STEPS))
    job_id = site.submit(STEPS)
    wait_for(lambda: site.trains(job_id))
    another = site.start("worker", "--device", "cpu")
    site.celery.control.shutdown([worker])
    job = site.finished(job_id)
    assert (job.status, job.attempt, job.epoch) == (State.SUCCEEDED, 1, 2)
    assert "continuing at step" in site.store.logs(job_id)
    assert model(site, job) == model(site, undisturbed)
    assert site.store.metrics(job_id) == site.store.metrics(undisturbed.id)
    wait_for(lambda: [record.name.rpartition("-")[2] for record in site.store.workers()] == [str(another.pid)])
    site.end(another)


def test_a_queue_that_cannot_be_served_is_refused(site: Site) -> None:
    command = [sys.executable, "-m", "worker", "--device", "cpu", "--queues", "cpu,cuda"]
    done = subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == os.EX_CONFIG
    assert "--queues names cuda" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_of_celery_alone_is_refused(site: Site) -> None:
    done = run(site, "worker")
    assert done.returncode == 1
    assert "python -m worker" in done.stderr and "Traceback" not in done.stderr


def test_the_address_is_that_of_the_embedded_server_where_none_is_named(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, redis_url=None)
    with pytest.raises(NoServerRuns, match="reinmax up"):
        server_address(settings)
    with EmbeddedServer(tmp_path) as server:
        assert server_address(settings) == server.url


def test_tools_say_in_one_sentence_that_no_server_runs(tmp_path: Path) -> None:
    environment = os.environ | {"REINMAX_REDIS_URL": "", "REINMAX_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "celery", "-A", "worker.operations", "status"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr and "Traceback" not in done.stderr
