"""Runs: repeatable, resumable to the last bit, and what they report."""

from itertools import islice, pairwise
from typing import Any

import pytest
import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.checkpoint import MODEL, STATE, CheckpointCorrupt, encode, restore, restore_from, save_to
from reinmax_core.estimators.base import Estimator
from reinmax_core.run import Result
from reinmax_core.trainer import Diverged
from reinmax_core.value import discover

ESTIMATORS = tuple(discover(Estimator))
SMALL = {"name": "polynomial", "latents": 8, "batch": 16}
BOUND = {"bound_samples": 2, "bound_images": 100}  # which takes long by default
SMALL_VAE = {"name": "categorical_vae", "categories": 3, "latents": 2, "batch": 20} | BOUND


def spec(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": SMALL, "estimator": "reinmax", "steps": 40} | settings)


def finished(trainer: Trainer) -> Trainer:
    for _ in trainer:
        pass
    return trainer


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.model.state_dict()


def assert_equal_runs(one: Trainer, other: Trainer) -> None:
    for name, tensor in parameters(one).items():
        assert torch.equal(tensor, parameters(other)[name]), name
    assert (one.final, one.best) == (other.final, other.best)


def test_equal_specs_give_equal_results() -> None:
    assert_equal_runs(finished(Trainer(spec())), finished(Trainer(spec())))


def test_another_seed_gives_another_result() -> None:
    one, other = finished(Trainer(spec(seed=1))), finished(Trainer(spec(seed=2)))
    assert not torch.equal(parameters(one)["theta"], parameters(other)["theta"])


def test_seeds_that_share_their_low_bits_are_different_runs() -> None:
    one, other = finished(Trainer(spec(seed=1))), finished(Trainer(spec(seed=1 + 2**32)))
    assert not torch.equal(parameters(one)["theta"], parameters(other)["theta"])
    assert one.final["loss"] != other.final["loss"]


def test_a_run_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    finished(Trainer(spec()))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("estimator", ["reinmax", "relax"])
@pytest.mark.parametrize("optimizer", ["adam", "radam", "sgd"])
def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one(estimator: str, optimizer: str) -> None:
    run = spec(estimator=estimator, optimizer=optimizer, log_every=7, evaluate_every=11)
    stopped = Trainer(run)
    for _ in islice(stopped, 17):
        pass
    resumed = Trainer(run)
    restore(resumed, encode(stopped))
    assert resumed.step == 17
    assert_equal_runs(finished(Trainer(run)), finished(resumed))


def test_metrics_are_the_means_since_the_last_point() -> None:
    every = [progress.metrics["loss"] for progress in Trainer(spec(log_every=1, evaluate_every=40))]
    fifth = [
        (progress.step, progress.metrics["loss"])
        for progress in Trainer(spec(log_every=5, evaluate_every=40))
        if "loss" in progress.metrics
    ]
    assert [step for step, _ in fifth] == list(range(5, 41, 5))
    for step, value in fifth:
        assert value == pytest.approx(sum(every[step - 5 : step]) / 5, rel=1e-5)


def test_how_often_is_reported_does_not_change_the_result() -> None:
    one = finished(Trainer(spec(log_every=1, evaluate_every=1)))
    other = finished(Trainer(spec(log_every=40, evaluate_every=40)))
    assert torch.equal(parameters(one)["theta"], parameters(other)["theta"])


def test_result_holds_last_and_best_and_time() -> None:
    trainer = finished(Trainer(spec(evaluate_every=10)))
    result = trainer.result()
    assert {"loss", "train_loss", "expected_loss", "gap"} <= set(result.metrics)
    assert result.best is not None
    assert result.best.value <= result.metrics["expected_loss"]
    assert result.wall_time_s > 0
    assert result.notes == {}


def test_a_result_written_down_before_there_were_notes_is_read() -> None:
    assert Result.model_validate({"metrics": {"loss": 0.5}, "best": None, "wall_time_s": 1.0}).notes == {}


@pytest.mark.parametrize("task", [SMALL, SMALL_VAE])
@pytest.mark.parametrize("log_every", [1, 400])
def test_a_run_whose_numbers_overflow_ends_with_its_step(task: dict[str, Any], log_every: int) -> None:
    # Weight decay times learning rate is above 2, so that every step overshoots.
    optimizer = {"name": "sgd", "lr": 100.0, "weight_decay": 1.0}
    run = spec(task=task, optimizer=optimizer, steps=400, log_every=log_every, evaluate_every=400)
    with pytest.raises(Diverged, match=r"at step \d+ of 400; try a smaller learning rate than 100.0"):
        finished(Trainer(run))


def test_a_checkpoint_of_another_spec_is_refused() -> None:
    files = encode(Trainer(spec(seed=1)))
    with pytest.raises(ValueError, match="of another run"):
        restore(Trainer(spec(seed=2)), files)


def test_damaged_checkpoints_are_recognised() -> None:
    files, others = encode(Trainer(spec())), encode(finished(Trainer(spec())))
    for damaged in (
        files | {STATE: files[STATE][:100]},
        files | {STATE: b""},
        files | {MODEL: others[MODEL]},
        {MODEL: files[MODEL]},
    ):
        with pytest.raises(CheckpointCorrupt):
            restore(Trainer(spec()), damaged)


def test_a_checkpoint_in_a_folder_resumes(tmp_path: Any) -> None:
    stopped = Trainer(spec())
    for _ in islice(stopped, 9):
        pass
    save_to(tmp_path / "checkpoint", stopped)
    resumed = Trainer(spec())
    restore_from(tmp_path / "checkpoint", resumed)
    assert_equal_runs(finished(Trainer(spec())), finished(resumed))


def test_equal_states_give_equal_files() -> None:
    one, other = encode(finished(Trainer(spec()))), encode(finished(Trainer(spec())))
    assert one[MODEL] == other[MODEL]


def test_the_model_file_is_plain_safetensors() -> None:
    from safetensors.torch import load

    trainer = finished(Trainer(spec()))
    assert torch.equal(load(encode(trainer)[MODEL])["theta"], parameters(trainer)["theta"])


def test_gradients_above_the_norm_are_scaled_down_to_it() -> None:
    def gradients(clip_norm: float | None) -> list[torch.Tensor]:
        trainer = Trainer(spec(task=SMALL_VAE, optimizer={"name": "sgd", "lr": 1e-3, "clip_norm": clip_norm}))
        next(iter(trainer))
        return [parameter.grad for parameter in trainer.model.parameters() if parameter.grad is not None]

    free = gradients(None)
    norm = torch.cat([gradient.flatten() for gradient in free]).norm().item()
    for gradient, unclipped in zip(gradients(norm / 4), free, strict=True):
        torch.testing.assert_close(gradient, unclipped / 4)
    assert all(torch.equal(one, other) for one, other in zip(gradients(norm * 4), free, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "radam", "sgd"])
def test_a_run_on_a_schedule_resumes_bit_for_bit(optimizer: str) -> None:
    # So large a learning rate that the loss soon stops falling.
    settings = {"name": optimizer, "lr": 100.0, "clip_norm": 0.1, "schedule": {"name": "plateau", "patience": 1}}
    run = spec(optimizer=settings, log_every=7, evaluate_every=2)
    rates = [progress.metrics["lr"] for progress in Trainer(run) if "lr" in progress.metrics]
    assert len(rates) == 20
    assert rates[0] == 100
    assert {below / above for above, below in pairwise(rates)} == {1, 0.5}
    for stop in (3, 17, 28):
        stopped, resumed = Trainer(run), Trainer(run)
        for _ in islice(stopped, stop):
            pass
        restore(resumed, encode(stopped))
        assert_equal_runs(finished(Trainer(run)), finished(resumed))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mixed_precision_is_another_run_of_the_same_kind(estimator: str) -> None:
    """Close to that in single precision, resumed bit for bit, with parameters in single precision."""
    task = SMALL_VAE | ({"categories": 2} if discover(Estimator)[estimator].binary_only else {})
    runs = {}
    for precision in ("float32", "bfloat16"):
        run = spec(task=task, estimator=estimator, steps=6, evaluate_every=6, precision=precision)
        runs[precision] = finished(Trainer(run))
    assert all(parameter.dtype is torch.float32 for parameter in runs["bfloat16"].model.parameters())
    assert runs["bfloat16"].final != runs["float32"].final
    assert runs["bfloat16"].final["test_loss"] == pytest.approx(runs["float32"].final["test_loss"], rel=0.02)
    stopped, resumed = Trainer(runs["bfloat16"].spec), Trainer(runs["bfloat16"].spec)
    for _ in islice(stopped, 3):
        pass
    restore(resumed, encode(stopped))
    assert_equal_runs(runs["bfloat16"], finished(resumed))
