"""Attempts by a supervisor in this process, with real training processes and a real server."""

import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import psutil
import pytest
from redis import Redis

from tests.servers import line, own_server
from tests.worker.workshop import ENDLESS, Run, Workshop, process_in_training, states
from worker.hardware import Machine
from worker.jobs import State
from worker.standby import Standby
from worker.submission import Cause

RUN: Final = {"steps": 1500, "log_every": 10}


def test_a_job_succeeds_and_leaves_its_result(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=200, evaluate_every=100, log_every=20)
    job = workshop.carry_out(job_id)
    assert (job.status, job.attempt, job.progress.step, job.progress.percent) == (State.SUCCEEDED, 1, 200, 100.0)
    assert job.result is not None and job.result.best is not None
    assert job.result.best.metric == "expected_loss" and job.metrics == job.result.metrics
    series = workshop.store.metrics(job_id)
    assert series["loss"].step == list(range(20, 201, 20)) and series["expected_loss"].step == [100, 200]
    assert series["loss"].value[-1] == job.metrics["loss"]
    assert set(workshop.files_of(job_id)) == {"model.safetensors", "result.json", "metrics.json", "spec.json"}
    assert "polynomial with reinmax" in workshop.store.logs(job_id)
    assert job.environment is not None and job.environment.deterministic


def test_a_message_for_a_job_that_is_not_queued_does_nothing(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=1)
    done = workshop.carry_out(job_id)
    assert workshop.carry_out(job_id) == done
    workshop.supervisor.run("job_unknown")


@pytest.fixture(scope="module")
def undisturbed(redis_url: str, tmp_path_factory: pytest.TempPathFactory, standby: Standby, machine: Machine) -> Run:
    """What comes of RUN if nothing happens to it."""
    with closing(Workshop(redis_url, tmp_path_factory.mktemp("undisturbed"), standby, machine)) as workshop:
        job_id = workshop.submit(**RUN)
        assert workshop.carry_out(job_id).status is State.SUCCEEDED
        return workshop.run_of(job_id)


def test_a_killed_run_ends_as_if_it_had_not_been(workshop: Workshop, undisturbed: Run) -> None:
    disturbed = workshop.submit(**RUN)
    thread = workshop.begin(disturbed)
    attempt = workshop.store.attempt(disturbed, 1)
    workshop.wait_for(attempt.checkpoints)
    saved = attempt.checkpoints()[0]
    workshop.wait_for(lambda: workshop.store.get(disturbed).progress.step > saved.step)
    workshop.kill_training()
    thread.join()
    job = workshop.store.get(disturbed)
    assert (job.status, job.attempt) == (State.QUEUED, 1)
    assert job.status_reason is not None and workshop.woken == [disturbed]

    job = workshop.carry_out(disturbed)
    assert (job.status, job.attempt) == (State.SUCCEEDED, 2)
    assert "continuing at step" in workshop.store.logs(disturbed)
    assert workshop.run_of(disturbed) == undisturbed
    assert [state for state in states(workshop, disturbed) if state in ("running", "succeeded")] == [
        "running",
        "running",
        "succeeded",
    ]


def test_a_run_goes_on_from_an_older_checkpoint_if_the_newest_is_damaged(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    attempt = workshop.store.attempt(job_id, 1)
    thread = workshop.begin(job_id)
    workshop.wait_for(lambda: len(attempt.checkpoints()) == 2)
    workshop.kill_training()
    thread.join()
    newest, older = attempt.checkpoints()
    workshop.artifacts.put(job_id, newest.epoch, newest.files[0].name, b"torn")
    thread = workshop.begin(job_id)
    workshop.wait_for(lambda: "continuing" in workshop.store.logs(job_id))
    workshop.store.cancel(job_id)
    thread.join()
    log = workshop.store.logs(job_id)
    assert f"the checkpoint at step {newest.step} is not used" in log and f"continuing at step {older.step}" in log


def test_cancelling_saves_a_checkpoint_and_takes_less_than_two_seconds(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    began = time.monotonic()
    workshop.store.cancel(job_id)
    thread.join()
    assert time.monotonic() - began < 2
    job = workshop.store.get(job_id)
    assert job.status is State.CANCELLED
    (saved, *_) = workshop.store.attempt(job_id, 1).checkpoints()
    assert f"stopped at step {saved.step}" in workshop.store.logs(job_id) and saved.step == job.progress.step


def test_pausing_frees_the_device_in_two_seconds_and_the_resumed_run_ends_as_if_it_had_not_been(
    workshop: Workshop, undisturbed: Run
) -> None:
    job_id = workshop.submit(**RUN)
    thread = workshop.begin(job_id)
    training = process_in_training()
    began = time.monotonic()
    workshop.store.pause(job_id)
    thread.join()
    assert time.monotonic() - began < 2
    assert not training.is_running() and workshop.woken == []
    job = workshop.store.get(job_id)
    assert (job.status, job.attempt, job.worker) == (State.PAUSED, 0, "worker-1")
    (saved, *_) = workshop.store.attempt(job_id, 1).checkpoints()
    assert f"stopped at step {saved.step}" in workshop.store.logs(job_id) and saved.step == job.progress.step
    assert workshop.carry_out(job_id) == job, "a paused job is not to be had"

    workshop.store.resume(job_id)
    assert workshop.carry_out(job_id).status is State.SUCCEEDED
    assert f"continuing at step {saved.step}" in workshop.store.logs(job_id)
    assert workshop.run_of(job_id) == undisturbed
    assert states(workshop, job_id).count("succeeded") == 1


def test_a_job_that_is_resumed_while_its_training_process_ends_is_woken_for(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    training = process_in_training()
    training.suspend()
    workshop.store.pause(job_id)
    time.sleep(0.5)  # a beat has told the supervisor, and the training process cannot have ended yet
    workshop.store.resume(job_id)
    training.resume()
    thread.join()
    assert (workshop.store.get(job_id).status, workshop.woken) == (State.QUEUED, [job_id])


def test_a_job_that_was_to_be_paused_is_not_woken_for_when_its_worker_shuts_down(
    workshop: Workshop, standby: Standby
) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    workshop.supervisor.shut_down()
    workshop.store.pause(job_id)
    thread.join()
    assert (workshop.store.get(job_id).status, workshop.woken) == (State.PAUSED, [])
    standby.replenish()


@pytest.mark.slow
def test_a_retried_job_goes_on_where_it_failed(workshop: Workshop, undisturbed: Run) -> None:
    job_id = workshop.submit(**RUN, max_attempts_by_cause={"lost": 1})
    thread = workshop.begin(job_id)
    attempt = workshop.store.attempt(job_id, 1)
    workshop.wait_for(attempt.checkpoints)
    workshop.kill_training()
    thread.join()
    assert workshop.store.get(job_id).status is State.FAILED and workshop.woken == []
    workshop.store.retry(job_id)
    job = workshop.carry_out(job_id)
    assert (job.status, job.attempt, job.epoch, job.error) == (State.SUCCEEDED, 1, 2, None)
    assert "continuing at step" in workshop.store.logs(job_id)
    assert workshop.run_of(job_id) == undisturbed


def test_two_threads_make_one_attempt_at_a_time(workshop: Workshop) -> None:
    first, second = workshop.submit(steps=ENDLESS), workshop.submit(steps=1)
    threads = [workshop.begin(first), threading.Thread(target=workshop.supervisor.run, args=(second,))]
    threads[1].start()
    time.sleep(0.3)
    assert workshop.store.get(second).status is State.QUEUED
    workshop.store.cancel(first)
    for thread in threads:
        thread.join()
    assert workshop.store.get(second).status is State.SUCCEEDED


def test_files_that_no_record_names_are_removed_with_the_end_of_an_attempt(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    attempt = workshop.store.attempt(job_id, 1)
    workshop.wait_for(attempt.checkpoints)
    for epoch in (0, 1, 2):
        workshop.artifacts.put(job_id, epoch, "checkpoint-7-model.safetensors", b"of a writer that was cut off")
    workshop.store.pause(job_id)
    thread.join()
    assert {location for location in workshop.left(job_id) if location.startswith(f"{job_id}/1/")} == set(
        workshop.store.files(job_id)
    )
    assert workshop.left(job_id) - set(workshop.store.files(job_id)) == {
        f"{job_id}/2/checkpoint-7-model.safetensors"
    }, "a later attempt may be writing it"


def test_a_job_fails_when_its_time_is_up(workshop: Workshop) -> None:
    job = workshop.carry_out(workshop.submit(steps=ENDLESS, timeout_s=0.5))
    assert job.status is State.FAILED and job.status_reason is not None and job.error is not None
    assert job.status_reason.code == Cause.TIMEOUT and "0.5 s" in job.error.message


def test_a_diverged_job_fails_at_once(workshop: Workshop) -> None:
    exploding = {"name": "sgd", "lr": 100.0, "weight_decay": 1.0}
    job = workshop.carry_out(workshop.submit(optimizer=exploding))
    assert (job.status, job.attempt) == (State.FAILED, 1)
    assert job.status_reason is not None and job.status_reason.code == Cause.DIVERGED
    assert job.error is not None and job.error.type == "Diverged"


def test_a_job_whose_data_is_not_to_be_had_says_what_to_do(workshop: Workshop) -> None:
    job = workshop.carry_out(workshop.submit(task={"name": "categorical_vae", "dataset": "missing.npz"}))
    assert job.status is State.FAILED and job.error is not None
    assert job.error.type == "DataUnavailable" and "REINMAX_DATA_DIR" in job.error.message
    assert "Traceback" not in job.error.message and "Traceback" in workshop.store.logs(job.id)


def test_a_worker_that_shuts_down_hands_its_job_back(workshop: Workshop, standby: Standby) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    workshop.supervisor.shut_down()
    thread.join()
    job = workshop.store.get(job_id)
    assert (job.status, job.attempt, workshop.woken) == (State.QUEUED, 0, [job_id])
    assert len(workshop.store.attempt(job_id, 1).checkpoints()) >= 1
    assert workshop.carry_out(job_id).status is State.QUEUED, "a worker that shuts down claims nothing"
    assert workshop.woken == [job_id, job_id]
    standby.replenish()


def test_a_fenced_training_process_is_killed(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    workshop.lose(job_id)
    thread.join()
    assert workshop.store.get(job_id).status is State.QUEUED and workshop.woken == []


def test_training_goes_on_through_an_outage_of_the_server(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=300, log_every=1)
    thread = workshop.begin(job_id)
    workshop.store.keyspace.client.execute_command("CLIENT", "PAUSE", "300")  # type: ignore[no-untyped-call]
    workshop.store.keyspace.client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
    thread.join()
    assert workshop.store.get(job_id).status is State.SUCCEEDED
    assert workshop.store.metrics(job_id)["loss"].step == list(range(1, 301))


def test_a_training_process_ends_with_its_worker() -> None:
    script = (
        "import os\n"
        "from worker.child import Child\n"
        "from worker.hardware import Machine\n"
        "print(Child(Machine()).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    worker_process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    child = int(worker_process.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_training_process_that_does_not_start_harms_no_job(
    redis_database: str, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Standby(machine) as standby, closing(Workshop(redis_database, tmp_path, standby, machine)) as workshop:
        job_id = workshop.submit(steps=1)
        for times in (1, 2, 3):
            assert workshop.resigned == 0
            job = workshop.carry_out(job_id)
            assert (job.status, job.attempt, workshop.woken) == (State.QUEUED, 0, [job_id] * times)
            assert job.status_reason is None or job.status_reason.code in ("not_begun", "no_worker")
        assert workshop.resigned == 1
        assert "broken" in workshop.store.logs(job_id)


class LosesOneAnswer(socketserver.ThreadingTCPServer):
    """Stands before a server of jobs, and cuts the connection instead of giving the answer to the first success."""

    daemon_threads = True
    lost = 0

    def __init__(self, redis_url: str) -> None:
        place = Redis.from_url(redis_url).connection_pool.connection_kwargs
        self.connect: Callable[[], socket.socket] = lambda: socket.create_connection((place["host"], place["port"]))
        credentials, _, _ = redis_url.removeprefix("redis://").rpartition("@")
        super().__init__(("127.0.0.1", 0), Relay)
        self.url = f"redis://{credentials}@127.0.0.1:{self.server_address[1]}/0"


class Relay(socketserver.BaseRequestHandler):
    server: LosesOneAnswer

    def handle(self) -> None:
        with self.server.connect() as upstream:
            while True:
                ready, _, _ = select.select([self.request, upstream], [], [])
                for source in ready:
                    content = source.recv(2**20)
                    if not content or (source is upstream and self.server.lost == 1):
                        self.server.lost += self.server.lost == 1
                        return
                    (upstream if source is self.request else self.request).sendall(content)
                    if b'"wall_time_s"' in content and source is self.request and not self.server.lost:
                        self.server.lost = 1


def test_checkpoints_are_removed_also_where_the_answer_to_success_is_lost(
    redis_database: str, tmp_path: Path, standby: Standby, machine: Machine
) -> None:
    # The server knows the script from here on, so that the one answer is that of the success.
    with closing(Workshop(redis_database, tmp_path, standby, machine)) as before:
        before.carry_out(before.submit(steps=1))
    with LosesOneAnswer(redis_database) as relay:
        serving = threading.Thread(target=relay.serve_forever)
        serving.start()
        workshop = Workshop(redis_database, tmp_path, standby, machine, supervisor_url=relay.url)
        job_id = workshop.submit(steps=1500)
        job = workshop.carry_out(job_id)
        relay.shutdown()
        serving.join()
    assert job.status is State.SUCCEEDED and relay.lost == 2
    assert "checkpoint" in {event.kind for event in workshop.store.events_after(job_id)}
    left = {path.name for path in (tmp_path / job_id).rglob("*") if path.is_file()}
    assert left == {file.name for file in workshop.store.artifacts(job_id)}
    workshop.close()


def test_a_claim_whose_answer_is_lost_uses_up_one_attempt(tmp_path: Path, standby: Standby, machine: Machine) -> None:
    with own_server(tmp_path) as server, line(server.url) as cut:
        workshop = Workshop(server.url, tmp_path, standby, machine, supervisor_url=cut.url)
        assert workshop.carry_out(workshop.submit(steps=1)).attempt == 1  # the server knows the script from here on
        job_id = workshop.submit(steps=1)
        cut.lose("answer")
        job = workshop.carry_out(job_id)
        assert cut.breaks == 1
        assert (job.status, job.attempt, job.epoch) == (State.SUCCEEDED, 1, 1)
        workshop.close()


def test_files_of_a_job_whose_record_is_damaged_are_left_alone(workshop: Workshop) -> None:
    job_id = workshop.submit(steps=ENDLESS)
    thread = workshop.begin(job_id)
    workshop.wait_for(workshop.store.attempt(job_id, 1).checkpoints)
    workshop.kill_training()
    workshop.store.keyspace.client.hset(f"reinmax:job:{job_id}", "checkpoints", "[")
    thread.join()
    assert workshop.left(job_id)
