"""Checkpoints: what they cost a run, what becomes of damaged ones, and what failed ones leave behind."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from reinmax_core import checkpoint
from reinmax_core.run import RunSpec
from reinmax_core.trainer import Trainer
from tests.worker.places import SlowPlace, slow_place
from tests.worker.samples import worker
from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable, location
from worker.attempt import Attempt, Checkpoint, Fenced
from worker.budget import SHARE, Budget
from worker.keyspace import StoreUnavailable
from worker.saver import Saver
from worker.store import JobStore

STEPS = 30


def spec(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": STEPS} | settings)


@dataclass
class Bench:
    """A job, and the folder in which its checkpoints lie."""

    store: JobStore
    job_id: str
    folder: Path

    def attempt(self) -> Attempt:
        """The next attempt at the job."""
        claim = self.store.claim(self.job_id, worker(), 60)
        assert claim is not None
        return claim.attempt

    def saver(self, attempt: Attempt) -> Saver:
        """As a process of its own has it: nothing is shared but the folder and the store."""
        return Saver(attempt, ArtifactStore(str(self.folder)), interval_s=60, patience_s=0.1)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def bench(store: JobStore, submit: Callable[..., str], tmp_path: Path) -> Bench:
    return Bench(store, submit(steps=STEPS), tmp_path / "artifacts")


def advanced(trainer: Trainer, step: int) -> Trainer:
    for progress in trainer:
        if progress.step == step:
            break
    return trainer


@pytest.fixture
def saved(bench: Bench) -> tuple[Checkpoint, ...]:
    """Checkpoints at steps 20 and 10, whose attempt has then been lost."""
    attempt, trainer = bench.attempt(), Trainer(spec())
    with closing(bench.saver(attempt)) as saver:
        for step in (10, 20):
            saver.save(advanced(trainer, step))
    checkpoints = attempt.checkpoints()
    bench.store.keyspace.client.zadd("reinmax:leases", {bench.job_id: 0})
    bench.store.reap()
    assert [saved.step for saved in checkpoints] == [20, 10]
    return checkpoints


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, bytes]:
    return state_of(advanced(Trainer(spec()), STEPS))


def state_of(trainer: Trainer) -> dict[str, bytes]:
    trainer.wall_time_s = 0.0
    return checkpoint.encode(trainer)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.STATE])
def test_another_machine_goes_on_from_the_older_checkpoint_if_the_newest_is_torn(
    bench: Bench,
    saved: tuple[Checkpoint, ...],
    undisturbed: dict[str, bytes],
    damage: Callable[[Path], None],
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(bench.folder / location(bench.job_id, 1, f"checkpoint-20-{name}"))
    trainer = Trainer(spec())
    bench.saver(bench.attempt()).restore(trainer, saved)
    assert trainer.step == 10
    said = capsys.readouterr().out
    assert "the checkpoint at step 20 is not used: " in said and "continuing at step 10" in said
    assert state_of(advanced(trainer, STEPS)) == undisturbed


def of_another_spec(trainer: Trainer) -> dict[str, bytes]:
    return checkpoint.encode(advanced(Trainer(spec(seed=1)), trainer.step))


def without_the_random_state(trainer: Trainer) -> dict[str, bytes]:
    """As another version may write it: a whole file that lacks what this one needs."""
    files = checkpoint.encode(trainer)
    about = about_of(files[checkpoint.STATE])
    about["skeleton"]["items"] = [item for item in about["skeleton"]["items"] if item[0] != "generator"]
    return files | {checkpoint.STATE: with_about(files[checkpoint.STATE], about)}


def of_another_format(trainer: Trainer) -> dict[str, bytes]:
    files = checkpoint.encode(trainer)
    about = about_of(files[checkpoint.STATE])
    return files | {checkpoint.STATE: with_about(files[checkpoint.STATE], about | {"version": 1})}


def about_of(state: bytes) -> dict[str, Any]:
    length = int.from_bytes(state[:8], "little")
    return dict(json.loads(json.loads(state[8 : 8 + length])["__metadata__"]["checkpoint"]))


def with_about(state: bytes, about: dict[str, Any]) -> bytes:
    return save(load(state), metadata={"checkpoint": json.dumps(about)})


@pytest.mark.parametrize("foreign", [of_another_spec, of_another_format, without_the_random_state])
@pytest.mark.parametrize("has_older", [True, False])
def test_a_checkpoint_that_does_not_fit_is_passed_over(
    bench: Bench,
    undisturbed: dict[str, bytes],
    foreign: Callable[[Trainer], dict[str, bytes]],
    has_older: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempt, trainer = bench.attempt(), Trainer(spec())
    saver = bench.saver(attempt)
    if has_older:
        saver.save(advanced(trainer, 10))
    advanced(trainer, 20)
    files = {f"checkpoint-20-{name}": content for name, content in foreign(trainer).items()}
    attempt.save(Checkpoint(epoch=1, step=20, files=saver.put(files)))
    resumed = Trainer(spec())
    saver.restore(resumed, attempt.checkpoints())
    assert resumed.step == (10 if has_older else 0)
    assert ("starting anew" in capsys.readouterr().out) == (not has_older)
    assert state_of(advanced(resumed, STEPS)) == undisturbed


def test_a_checkpoint_of_which_a_file_cannot_be_written_leaves_none(bench: Bench) -> None:
    attempt, trainer = bench.attempt(), advanced(Trainer(spec()), 1)
    (bench.folder / location(bench.job_id, 1, f"checkpoint-1-{checkpoint.STATE}")).mkdir(parents=True)
    with pytest.raises(ArtifactStoreUnavailable):
        bench.saver(attempt).save(trainer)
    assert bench.files() == [] and attempt.checkpoints() == ()


def test_a_checkpoint_of_an_attempt_that_has_lost_its_job_leaves_none(bench: Bench) -> None:
    attempt, trainer = bench.attempt(), advanced(Trainer(spec()), 1)
    bench.store.keyspace.client.zadd("reinmax:leases", {bench.job_id: 0})
    bench.store.reap()
    with pytest.raises(Fenced):
        bench.saver(attempt).save(trainer)
    assert bench.files() == []


def test_a_checkpoint_that_the_store_may_have_taken_stays(bench: Bench) -> None:
    attempt, trainer = bench.attempt(), advanced(Trainer(spec()), 1)
    bench.store.keyspace.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            bench.saver(attempt).save(trainer)
    finally:
        bench.store.keyspace.client.config_set("maxmemory", 0)
    assert len(bench.files()) == 2


def test_two_checkpoints_are_kept(bench: Bench) -> None:
    attempt, trainer = bench.attempt(), Trainer(spec())
    with closing(bench.saver(attempt)) as saver:
        for step in range(1, 6):
            saver.save(advanced(trainer, step))
    kept = [location(bench.job_id, 1, file.name) for saved in attempt.checkpoints() for file in saved.files]
    assert [saved.step for saved in attempt.checkpoints()] == [5, 4]
    assert bench.files() == sorted(kept)


@dataclass
class Watched:
    """How long a run stood still for its checkpoints, and what it got for that."""

    still_s: float = 0.0
    began: tuple[int, ...] = ()
    """The steps at which a checkpoint was begun."""
    shares: tuple[float, ...] = ()
    """Of the time until then, the part that the run had stood still."""


def train_for(seconds: float, trainer: Trainer, saver: Saver) -> Watched:
    watched, start = Watched(), time.monotonic()
    saver.restore(trainer, ())
    for _ in trainer:
        if saver.is_due:
            before = time.monotonic()
            with saver.budget.spending():
                saver.begin(trainer)
            now = time.monotonic()
            watched.still_s += now - before
            watched.began += (trainer.step,)
            watched.shares += (watched.still_s / (now - start),)
        if time.monotonic() > start + seconds:
            break
    return watched


@pytest.fixture
def claimed(store: JobStore, submit: Callable[..., str]) -> Attempt:
    claim = store.claim(submit(steps=10**6), worker(), 60)
    assert claim is not None
    return claim.attempt


@pytest.fixture
def slow() -> Iterator[str]:
    with slow_place(write_s=0.3) as url:
        yield url


LARGE = {"name": "polynomial", "latents": 1_000_000, "batch": 1}


def test_a_run_stands_still_for_a_twentieth_of_its_time_at_most(claimed: Attempt, tmp_path: Path) -> None:
    trainer = Trainer(spec(task=LARGE, steps=10**6))
    with closing(Saver(claimed, ArtifactStore(str(tmp_path)), interval_s=1e-3)) as saver:
        watched = train_for(4.0, trainer, saver)
    assert len(claimed.checkpoints()) == 2
    assert watched.shares[-1] < 1.5 * SHARE, "each is begun in the hope that it takes no longer than the last"
    assert saver.budget.spent_s > 0.01, "it is a state that takes time to save, or nothing is tested here"


def test_a_slow_place_costs_a_run_no_time(claimed: Attempt, slow: str) -> None:
    trainer = Trainer(spec(steps=10**6))
    with closing(Saver(claimed, ArtifactStore(slow), interval_s=1e-3)) as saver:
        watched = train_for(2.5, trainer, saver)
    assert len(watched.began) >= 2 and len(claimed.checkpoints()) == 2
    assert watched.shares[-1] < SHARE
    first, second = watched.began[:2]
    assert second - first > 100, "it trained while the first was written"


def test_a_place_that_hangs_holds_no_run_up(claimed: Attempt, slow: str) -> None:
    SlowPlace.serves.clear()
    trainer = Trainer(spec(steps=2000))
    with closing(Saver(claimed, ArtifactStore(slow), interval_s=1e-3)) as saver:
        watched = train_for(60, trainer, saver)
        assert trainer.step == 2000 and len(watched.began) == 1 and claimed.checkpoints() == ()
        SlowPlace.serves.set()
    assert len(claimed.checkpoints()) == 1, "it is waited for at the end"


def test_a_fast_place_gets_checkpoints_at_the_interval(claimed: Attempt, tmp_path: Path) -> None:
    trainer = Trainer(spec(steps=10**6))
    with closing(Saver(claimed, ArtifactStore(str(tmp_path)), interval_s=0.4)) as saver:
        watched = train_for(2.0, trainer, saver)
    # At 0.05, 0.15, 0.35, 0.75, 1.15, 1.55 and 1.95 s, and later by what they take.
    assert 4 <= len(watched.began) <= 7


def test_a_checkpoint_that_fails_in_passing_is_told_and_the_next_is_planned(
    claimed: Attempt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "place").write_bytes(b"not a folder")
    trainer = Trainer(spec(steps=10**6))
    with closing(Saver(claimed, ArtifactStore(str(tmp_path / "place")), interval_s=0.8)) as saver:
        watched = train_for(0.7, trainer, saver)
    assert 1 <= len(watched.began) <= 3
    assert capsys.readouterr().out.count("no checkpoint at step") == len(watched.began)


def test_runs_side_by_side_share_the_time_that_they_may_stand_still() -> None:
    alone, one_of_ten = Budget(1e-3), Budget(1e-3, runs=10)
    began = time.monotonic()
    for budget in (alone, one_of_ten):
        with budget.spending():
            time.sleep(0.005)
    while not alone.is_due:
        time.sleep(0.001)
    assert time.monotonic() - began >= 2 * 0.005 / SHARE
    assert not one_of_ten.is_due, "nine others stand still as long"
