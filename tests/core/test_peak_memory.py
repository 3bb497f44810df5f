"""What a run takes in time and memory, as its result says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.peak_memory import MEGABYTE, REFERENCES, PeakMemory
from reinmax_core.replicas import Replicas, trainers_of
from reinmax_core.run import Result

CPU = torch.device("cpu")
on_linux = pytest.mark.skipif(not REFERENCES.exists(), reason="no other kernel tells the peak since a moment")


def spec(steps: int = 3, **task: Any) -> RunSpec:
    return RunSpec.model_validate(
        {"task": {"name": "polynomial", "latents": 64} | task, "estimator": "straight_through", "steps": steps}
    )


def finished(run: RunSpec) -> Result:
    trainer = Trainer(run)
    for _ in trainer:
        pass
    return trainer.result()


@on_linux
def test_the_peak_is_found_though_it_is_over_and_what_stood_before_is_not_counted() -> None:
    before = torch.ones(10_000_000)
    memory = PeakMemory(CPU)
    assert memory.growth_mb() == pytest.approx(0, abs=2)
    after = torch.ones(20_000_000)
    taken_mb = after.nbytes / MEGABYTE
    del after
    assert memory.growth_mb() == pytest.approx(taken_mb, abs=4)
    assert PeakMemory(CPU).growth_mb() == pytest.approx(0, abs=2), "of a later one, that peak is past"
    del before


def test_nobody_knows_of_a_device_without_memory() -> None:
    assert PeakMemory(torch.device("meta")).growth_mb() is None


@on_linux
def test_a_result_tells_the_memory_of_its_steps() -> None:
    finished(spec())  # what torch loads for its first step is no part of what is compared
    small, large = finished(spec(batch=2)), finished(spec(batch=200_000))
    assert small.peak_memory_mb is not None
    assert large.peak_memory_mb is not None
    draws_mb = 200_000 * 64 * 2 * 4 / MEGABYTE
    assert small.peak_memory_mb < 20
    assert draws_mb < large.peak_memory_mb - small.peak_memory_mb < 20 * draws_mb


def test_a_result_tells_the_time_of_an_epoch() -> None:
    result = finished(spec(steps=300))
    assert result.epoch_time_s == pytest.approx(result.wall_time_s / 300 * 200, abs=1e-3), "an epoch has 200 steps"
    assert Trainer(spec()).result().epoch_time_s is None, "before the first step"


def test_of_runs_side_by_side_nobody_knows_whose_memory_it_is() -> None:
    trainers = trainers_of([spec(), spec().model_copy(update={"seed": 1})])
    for _ in Replicas(trainers):
        pass
    assert [trainer.result().peak_memory_mb for trainer in trainers] == [None, None]


def test_a_result_written_down_before_these_were_known_is_read() -> None:
    read = Result.model_validate({"metrics": {"loss": 0.5}, "best": None, "wall_time_s": 1.0})
    assert (read.epoch_time_s, read.peak_memory_mb) == (None, None)
