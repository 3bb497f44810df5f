"""A run inside the training process, through outages of what it writes to."""

import hashlib
import io
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from reinmax_core.data.image_file import ImagesUnfit
from reinmax_core.trainer import Diverged
from tests.worker.places import fill, make_room, slow_place, small_disk
from tests.worker.samples import submission, worker
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, NoSpace, location
from worker.assignment import (
    AssignedJob,
    Assignment,
    Failed,
    Left,
    News,
    Outcome,
    Places,
    Said,
    Stopped,
    Succeeded,
)
from worker.jobs import Failure, State
from worker.saver import PATIENCE_S, Saver
from worker.store import JobStore
from worker.submission import Cause
from worker.training import Training


@dataclass
class Wishes:
    """What the worker wants."""

    is_over: bool = False
    is_training: bool = False

    def end(self, job_id: str) -> bool:
        return self.is_over


def carry_out(assignment: Assignment, wishes: Wishes | None = None, patience_s: float = PATIENCE_S) -> Outcome:
    """What comes of an assignment of one job."""
    told: list[News] = []
    Training(assignment, told.append, patience_s).run(wishes or Wishes())
    (news,) = [news for news in told if not isinstance(news.content, Left)]
    assert news.job_id == assignment.jobs[0].job_id and not isinstance(news.content, Left | Said)
    return news.content


def failure(outcome: Outcome, kind: type[Exception]) -> str:
    """The message of the error that a run has ended with."""
    assert isinstance(outcome, Failed) and outcome.failure.type == kind.__name__
    return outcome.failure.message


@pytest.fixture
def assign(store: JobStore, redis_database: str, tmp_path: Path) -> Callable[..., Assignment]:
    """Submits and claims a job with these settings; its artefacts are to go to the URL, or below `place`."""

    def claim(url: str | None = None, /, **settings: Any) -> Assignment:
        spec = submission(**settings)
        claimed = store.claim(store.submit(spec).job.id, worker(), lease_s=600)
        assert claimed is not None
        job = AssignedJob(job_id=claimed.job.id, epoch=claimed.attempt.epoch, spec=spec.run_spec(), checkpoints=())
        return Assignment(
            jobs=(job,),
            device="cpu",
            device_name="a processor",
            checkpoint_interval_s=0.4,
            places=Places(
                redis_url=redis_database,
                artifacts_url=url or str(tmp_path / "place"),
                data_dir=tmp_path / "data",
                data_mirror=(),
            ),
        )

    return claim


def test_a_run_goes_on_where_its_checkpoints_cannot_be_written_and_waits_with_its_artefacts(
    assign: Callable[..., Assignment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "place").write_bytes(b"not a folder")
    written, began = "", time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(carry_out, assign(steps=1000))
        while "trying again in" not in written and not outcome.done():
            written += capsys.readouterr().out
            time.sleep(0.02)
        (tmp_path / "place").unlink()
        assert isinstance(outcome.result(60), Succeeded)
    failures = len(re.findall("no checkpoint at step", written))
    assert 1 <= failures <= 4 + (time.monotonic() - began) / 0.4, "the next one is planned after a failure"


def begin(assignment: Assignment, threads: ThreadPoolExecutor) -> Future[Outcome]:
    """A run in the background; its patience with the artefact store is short."""
    return threads.submit(carry_out, assignment, patience_s=0.6)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_that_meets_a_full_disk_trains_on_fails_and_goes_on_from_its_last_checkpoint(
    assign: Callable[..., Assignment], store: JobStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk") as url, ThreadPoolExecutor(1) as threads:
        undisturbed = begin(assign(url, steps=6000), threads).result(60)
        assignment = assign(url, steps=6000)
        job_id = assignment.jobs[0].job_id
        attempt = store.attempt(job_id, 1)
        run = begin(assignment, threads)
        until(lambda: attempt.checkpoints() or run.done())
        fill(url)
        message = failure(run.result(60), NoSpace)
        assert f"no space is left for artefacts in {url}" in message and "tried again for 0.6 s" in message
        said = capsys.readouterr().out
        assert "no checkpoint at step" in said and store.get(job_id).progress.step == 6000, "it trains on"
        last_good = attempt.checkpoints()[0]
        attempt.fail(Cause.ERROR, Failure(type=NoSpace.__name__, message=message))
        assert store.get(job_id).status is State.FAILED

        make_room(url)
        store.retry(job_id)
        outcome = begin(claimed(store, job_id, assignment), threads).result(60)
        assert f"continuing at step {last_good.step}" in capsys.readouterr().out
    assert isinstance(outcome, Succeeded) and isinstance(undisturbed, Succeeded)
    assert outcome.result.metrics == undisturbed.result.metrics
    assert digest_of_model(outcome) == digest_of_model(undisturbed)


def claimed(store: JobStore, job_id: str, before: Assignment) -> Assignment:
    """The assignment of the next attempt at a job."""
    claim = store.claim(job_id, worker(), lease_s=600)
    assert claim is not None
    later = {"epoch": claim.attempt.epoch, "checkpoints": claim.checkpoints}
    return before.model_copy(update={"jobs": (before.jobs[0].model_copy(update=later),)})


def digest_of_model(outcome: Succeeded) -> str:
    return next(file.sha256 for file in outcome.artifacts if file.name == "model.safetensors")


def test_a_slow_place_changes_nothing_of_a_run(assign: Callable[..., Assignment], store: JobStore) -> None:
    with slow_place(write_s=0.2) as url, ThreadPoolExecutor(1) as threads:
        slow, fast = (assign(place, steps=2000) for place in (url, None))
        outcomes = [begin(assignment, threads).result(60) for assignment in (slow, fast)]
    digests = [digest_of_model(outcome) for outcome in outcomes if isinstance(outcome, Succeeded)]
    assert len(digests) == 2 and digests[0] == digests[1]
    assert store.attempt(slow.jobs[0].job_id, 1).checkpoints(), "it has saved some"


def test_patience_with_the_artefact_store_ends(store: JobStore, tmp_path: Path) -> None:
    (tmp_path / "place").write_bytes(b"not a folder")
    artifacts = ArtifactStore(str(tmp_path / "place"))
    saver = Saver(store.attempt("job_a", 1), artifacts, interval_s=60, patience_s=0.6)
    began = time.monotonic()
    with pytest.raises(ArtifactStoreUnavailable, match=r"(?s)REINMAX_ARTIFACTS_URL.*tried again for 0\.6 s"):
        saver.deliver({"result.json": b"{}"})
    assert 0.4 < time.monotonic() - began < 5


OWN = {
    "name": "categorical_vae", "dataset": "own/letters.npz", "image_shape": (5, 4), "latents": 2, "batch": 10,
    "bound_samples": 2,
}  # fmt: skip


def put_letters(folder: Path, shape: tuple[int, int]) -> Path:
    path = folder / "data/own/letters.npz"
    path.parent.mkdir(parents=True)
    levels = numpy.random.default_rng(0).integers(0, 256, (60, *shape), dtype=numpy.uint8)
    numpy.savez_compressed(path, train_images=levels)
    return path


def test_a_job_on_images_of_ones_own_leaves_pictures_and_names_its_data(
    assign: Callable[..., Assignment], store: JobStore, tmp_path: Path
) -> None:
    path, assignment = put_letters(tmp_path, (5, 4)), assign(task=OWN, steps=20)
    outcome, (job,) = carry_out(assignment), assignment.jobs
    assert isinstance(outcome, Succeeded)
    assert {"reconstructions.png", "samples.png"} < {artifact.name for artifact in outcome.artifacts}
    artifacts = ArtifactStore(str(tmp_path / "place"))
    # Rows of 16 images: the six test images over their reconstructions; eight rows of samples.
    for name, size in (("reconstructions", (64, 10)), ("samples", (64, 40))):
        content = artifacts.read(location(job.job_id, job.epoch, f"{name}.png"))
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == size
    environment = store.get(job.job_id).environment
    assert environment is not None
    assert environment.data == {"own/letters.npz": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert outcome.result.notes == {"images": "the user's own file own/letters.npz, tested on 6 images"}


def test_images_that_do_not_fit_end_a_job_before_it_trains(
    assign: Callable[..., Assignment], store: JobStore, tmp_path: Path
) -> None:
    put_letters(tmp_path, (4, 5))
    assignment = assign(task=OWN, steps=20)
    message = failure(carry_out(assignment), ImagesUnfit)
    assert "[images, 5, 4] or [images, 20], but has [60, 4, 5]" in message
    assert store.get(assignment.jobs[0].job_id).progress.step == 0


def test_the_points_before_a_divergence_are_told(assign: Callable[..., Assignment], store: JobStore) -> None:
    exploding = {"name": "sgd", "lr": 100.0, "weight_decay": 1.0}
    assignment = assign(optimizer=exploding, log_every=1)
    (step,) = re.findall(r"at step (\d+) of", failure(carry_out(assignment), Diverged))
    job_id = assignment.jobs[0].job_id
    assert store.get(job_id).progress.step == int(step)
    told = store.metrics(job_id)["loss"].step
    assert told == list(range(1, len(told) + 1)) and len(told) >= int(step) - 1


def test_checkpoints_in_passing_do_not_wait_for_the_store(
    assign: Callable[..., Assignment], store: JobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    client = store.keyspace.client
    written = ""
    with ThreadPoolExecutor(1) as threads:
        wishes = Wishes()
        outcome = threads.submit(carry_out, assign(steps=10**6), wishes)
        while not wishes.is_training and not outcome.done():
            time.sleep(0.01)
        client.config_set("maxmemory", 1)
        try:
            deadline = time.monotonic() + 20
            while "no checkpoint at step" not in written and time.monotonic() < deadline:
                written += capsys.readouterr().out
                time.sleep(0.02)
            assert not outcome.done()
        finally:
            client.config_set("maxmemory", 0)
            wishes.is_over = True
        assert isinstance(outcome.result(30), Stopped)
    assert "the job store does not serve" in written
