"""Reports to a server that hangs, and to one that has given the job to another."""

import time
from collections.abc import Iterator

import pytest

from reinmax_core.run import Progress, RunSpec
from reinmax_core.trainer import Trainer
from tests.servers import OwnServer, own_server
from tests.worker.samples import ENVIRONMENT, progress, submission, worker
from worker.attempt import Attempt, Fenced
from worker.reporter import Reporter
from worker.sender import Report, Sender
from worker.series import Series
from worker.store import JobStore

ANSWER_S = 30.0
"""How long the store waits for an answer: longer than anything here that must not wait may take."""
AT_ONCE_S = 0.4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def attempt(server: OwnServer) -> Iterator[Attempt]:
    """One that is running, of a job that has no points yet."""
    store = JobStore.connect(server.url, patience_s=ANSWER_S)
    claim = store.claim(store.submit(submission()).job.id, worker(), lease_s=600)
    assert claim is not None
    claim.attempt.start(progress(0), {}, ENVIRONMENT)
    yield claim.attempt
    store.keyspace.close()


@pytest.fixture
def hung(server: OwnServer) -> Iterator[OwnServer]:
    """The server, which hangs until it is told to go on, or the test ends."""
    server.hang()
    yield server
    server.go_on()


@pytest.fixture
def trainer() -> Trainer:
    return Trainer(RunSpec.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": 100}))


def seconds_since(began: float) -> float:
    return time.monotonic() - began


def test_neither_a_step_nor_a_checkpoint_waits_for_a_server_that_hangs(
    attempt: Attempt, trainer: Trainer, hung: OwnServer
) -> None:
    with Reporter(attempt, trainer) as reporter:
        began = time.monotonic()
        for step in range(1, 101):
            reporter.note(Progress(step, 100, {"loss": 1.0}))
        assert seconds_since(began) < AT_ONCE_S
        assert not reporter.try_to_flush()
        assert seconds_since(began) < ANSWER_S / 3
        began = time.monotonic()
        assert not reporter.try_to_flush(), "it is known by now that the server does not answer"
        assert seconds_since(began) < AT_ONCE_S
        hung.go_on()
        assert reporter.flush()
        assert reporter.try_to_flush(), "and that it does again"


def test_reports_that_wait_are_joined_into_one(attempt: Attempt, hung: OwnServer) -> None:
    store = JobStore.connect(hung.url)
    with Sender(attempt) as sender:
        for step in range(1, 51):
            series = {"loss": Series([step], [1 / step])} | ({"late": Series([step], [0.0])} if step > 40 else {})
            sender.put(Report(series, progress(step), {"loss": 1 / step}))
        hung.go_on()
        assert sender.is_done_within(ANSWER_S)
    told = store.metrics(attempt.job_id)
    assert told["loss"] == Series(list(range(1, 51)), [1 / step for step in range(1, 51)])
    assert told["late"].step == list(range(41, 51))
    assert sum(event.kind == "metrics" for event in store.events_after(attempt.job_id)) <= 2
    job = store.get(attempt.job_id)
    assert (job.progress.step, job.metrics) == (50, {"loss": 1 / 50})
    store.keyspace.close()


def test_a_run_learns_that_it_is_fenced(attempt: Attempt, trainer: Trainer) -> None:
    attempt.stop()
    with Reporter(attempt, trainer) as reporter:
        reporter.note(Progress(1, 100, {}))
        with pytest.raises(Fenced):
            reporter.flush()
        with pytest.raises(Fenced):
            reporter.note(Progress(2, 100, {}))
        with pytest.raises(Fenced):
            reporter.try_to_flush()
