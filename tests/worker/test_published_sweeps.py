"""Every preset makes jobs, and they have the settings that were published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reinmax_core.presets import Preset, presets
from worker.sweep_grid import Cell
from worker.sweep_plan import Plan
from worker.sweep_request import SweepRequest

SIZES = ("8x4", "4x24", "8x16", "16x12", "64x8", "10x30")
TABLE_2 = {  # learning rate, temperature and optimiser of each size
    "gumbel_softmax": """
        3e-4 0.5 adam, 5e-4 0.3 radam, 5e-4 0.5 radam, 7e-4 0.7 radam, 7e-4 0.7 radam, 5e-4 0.5 radam""",
    "gumbel_rao": """
        5e-4 0.5 adam, 5e-4 0.3 radam, 7e-4 0.7 radam, 5e-4 1.0 adam, 7e-4 2.0 adam, 5e-4 1.0 radam""",
    # 8x4: 1.0 in one of two lists
    "gapped_straight_through": """
        5e-4 0.7 adam, 5e-4 0.5 radam, 7e-4 0.5 radam, 7e-4 0.5 radam, 7e-4 0.7 radam, 5e-4 0.5 radam""",
    # 10x30: 7e-3 in the list
    "straight_through": """
        1e-3 1.3 adam, 1e-3 1.5 radam, 1e-3 1.5 radam, 5e-4 1.5 adam, 5e-4 1.5 adam, 7e-4 1.4 radam""",
    "reinmax": """
        5e-4 1.3 adam, 5e-4 1.5 radam, 7e-4 1.5 radam, 7e-4 1.5 radam, 5e-4 1.5 radam, 5e-4 1.3 radam""",
}
WHOLE = [preset for preset in presets().values() if preset.of is None]


def plan(preset: Preset | str) -> Plan:
    found = presets()[preset] if isinstance(preset, str) else preset
    return SweepRequest.model_validate(found.sweep.body).plan()


def cell(of: Plan, **coordinates: Any) -> Cell:
    (found,) = [cell for cell in of.cells if has(cell, coordinates)]
    return found


def has(cell: Cell, at: Mapping[str, Any]) -> bool:
    return all(cell.coordinates[path.replace("__", ".")] == value for path, value in at.items())


@pytest.mark.parametrize("preset", presets().values(), ids=presets())
def test_every_cell_is_a_job_and_every_published_number_has_one(preset: Preset) -> None:
    found = plan(preset)
    assert found.cells
    for known in preset.published:
        assert any(has(cell, known.at) for cell in found.cells), known
    seeds = preset.sweep.seeds
    assert found.seeds == (tuple(range(seeds)) if isinstance(seeds, int) else seeds)


@pytest.mark.parametrize("preset", WHOLE, ids=lambda preset: preset.name)
def test_a_smoke_form_is_smaller_of_the_same_kind(preset: Preset) -> None:
    whole, smoke = plan(preset), plan(f"{preset.name}-smoke")
    assert smoke.jobs < whole.jobs
    assert len(smoke.seeds) >= 2, "so that there is a spread"
    assert len(smoke.cells) >= 2
    assert max(cell.submission.steps for cell in smoke.cells) < min(cell.submission.steps for cell in whole.cells)
    assert {cell.submission.task.name for cell in smoke.cells} == {cell.submission.task.name for cell in whole.cells}


@pytest.mark.parametrize("estimator", TABLE_2)
def test_table_2_has_the_published_settings(estimator: str) -> None:
    cells = plan("table-2")
    for size, settings in zip(SIZES, TABLE_2[estimator].split(","), strict=True):
        (categories, latents), (lr, tau, optimizer) = size.split("x"), settings.split()
        task = {"categories": int(categories), "latents": int(latents)}
        run = cell(cells, estimator=estimator, task=task).submission
        assert (run.optimizer.lr, run.estimator.tau, run.optimizer.name) == (float(lr), float(tau), optimizer)
        assert (run.steps, run.task.batch, run.task.dataset) == (160 * 600, 100, "mnist")
        assert (run.optimizer.clip_norm, run.optimizer.weight_decay) == (None, 0)
    assert cells.seeds == tuple(range(10))


def test_table_1_is_trained_as_published() -> None:
    for found in plan("table-1").cells:
        run = found.submission
        assert (run.optimizer.name, run.optimizer.lr, run.optimizer.clip_norm) == ("radam", 7e-4, 5)
        assert (run.optimizer.schedule.factor, run.optimizer.schedule.patience) == (0.5, 4)
        assert (run.task.batch, run.task.hidden, run.task.embedding, run.task.tokens) == (16, 300, 300, "characters")
        assert run.steps == 20 * (77_477 // 16), "20 epochs"
        assert run.evaluate_every == 77_477 // 16 // 2, "twice an epoch"
    assert cell(plan("table-1"), estimator="reinmax").submission.estimator.tau == 1.1


def test_table_4_is_searched_as_published() -> None:
    cells = plan("table-4")
    assert cells.seeds == (777, 888, 999)
    for found in cells.cells:
        optimizer, task = found.submission.optimizer, found.submission.task
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adam", 3e-4, 1e-3)
        assert optimizer.betas == (0.5, 0.999)
        assert (task.batch, task.cells, task.channels, task.weights_lr) == (64, 5, 16, 0.025)
        assert found.submission.steps == 200 * (25_000 // 64)
    gdas = cell(cells, estimator="gumbel_softmax", task__evaluation="sparse").submission
    assert gdas.estimator.tau == 10
    assert gdas.task.tempered(gdas.estimator, 1.0).tau == pytest.approx(0.1)


def test_table_5_has_the_published_sizes_and_measures_jobs_by_themselves() -> None:
    cells = plan("table-5").cells
    assert not any(found.submission.packing for found in (*cells, *plan("table-5-smoke").cells))
    draws = [found.submission.estimator.samples for found in cells if found.submission.estimator.name == "gumbel_rao"]
    assert sorted(set(draws)) == [100, 300, 1000]
    assert {found.submission.task.batch for found in cells} == {512, 100}


@pytest.mark.parametrize(
    ("estimator", "evaluations"),
    [
        ("relax", 3),
        ({"name": "arms", "samples": 3}, 3),
        ("disarm", 2),
        *(({"name": name, "samples": count}, count) for name in ("double_cv", "rodeo") for count in (2, 3)),
        *((name, 2) for name in ("reinmax", "straight_through", "gumbel_softmax")),
    ],
)
def test_table_6_spends_k_evaluations_of_the_cost_an_image(estimator: Any, evaluations: int) -> None:
    cells = plan("table-6")
    for dataset, lr in (("mnist", 1e-3), ("fashion_mnist", 3e-4), ("omniglot", 1e-3)):
        run = cell(cells, estimator=estimator, task__dataset=dataset).submission
        assert run.task.repeats(run.estimator) * run.estimator.evaluations == evaluations
        assert run.steps == 10**6
        assert (run.task.binarisation, run.task.prior, run.task.kl) == ("dynamic", "fixed", "sampled")
        if run.estimator.name != "reinmax":
            assert (run.optimizer.name, run.optimizer.lr) == ("adam", lr)
    assert cells.seeds == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("samples", [2, 3])
def test_the_row_of_reinmax_in_table_6_has_its_own_protocol(samples: int) -> None:
    for found in plan("table-6-reinmax").cells:
        run = found.submission
        if run.task.samples != samples or run.task.prior != "paper":
            continue
        published = (5e-4, 1.2) if (samples, run.task.dataset) == (3, "omniglot") else (3e-4, 1.1)
        assert (run.optimizer.name, run.optimizer.lr, run.estimator.tau) == ("radam", *published)
        assert (run.task.binarisation, run.task.kl, run.task.parameterisation) == ("static", "analytic", "paper")
        assert run.task.repeats(run.estimator) == samples


def test_the_figures_have_the_published_settings() -> None:
    for found in plan("figure-polynomial").cells:
        run = found.submission
        assert (run.optimizer.name, run.optimizer.lr, run.steps) == ("adam", 1e-3, 40 * 200)
        assert (run.task.latents, run.task.batch) == (128, 64)
        assert getattr(run.estimator, "tau", 1.0) == 1.0
    for name in ("figure-gradient-quality", "figure-temperature"):
        for found in plan(name).cells:
            run = found.submission
            assert (run.optimizer.name, run.optimizer.lr, run.steps) == ("adam", 5e-4, 50 * 600)
            assert (run.task.categories, run.task.latents, run.task.draws) == (8, 4, 1024)
            assert (run.task.trained_with.name, run.task.trained_with.tau) == ("reinmax", 1.0)
            assert run.estimator.tau == found.coordinates.get("estimator.tau", 1.0)
