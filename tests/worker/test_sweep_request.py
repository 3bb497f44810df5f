"""What a request for a sweep comes to: ranges, coupled axes, axes that some cells lack, and every wrong input."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from reinmax_core.data.base import DataSource
from reinmax_core.presets import presets
from worker.sweep_grid import InvalidSweep
from worker.sweep_preset import DataMissing, check_data, resolved
from worker.sweep_request import SweepRequest
from worker.sweep_values import Range

BASE = {"task": "polynomial", "estimator": "reinmax", "steps": 100}


def request(**fields: Any) -> SweepRequest:
    return SweepRequest.model_validate({"base": BASE} | fields)


def coordinates(**fields: Any) -> list[dict[str, Any]]:
    return [dict(cell.coordinates) for cell in request(**fields).cells()]


def flaws(**fields: Any) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(InvalidSweep) as refusal:
        request(**fields).plan(1000)
    assert refusal.value.cells == ()
    return {flaw.place: flaw.message for flaw in refusal.value.flaws}


class TestRange:
    @pytest.mark.parametrize(
        ("written", "values"),
        [
            ({"from": 1e-4, "to": 1e-2, "count": 3, "scale": "log"}, (0.0001, 0.001, 0.01)),
            ({"from": 0.5, "to": 2.0, "count": 4}, (0.5, 1.0, 1.5, 2.0)),
            ({"from": 1, "to": 5, "count": 5}, (1, 2, 3, 4, 5)),
            ({"from": 0.1, "to": 0.5, "step": 0.1}, (0.1, 0.2, 0.3, 0.4, 0.5)),
            ({"from": 8, "to": 1, "step": -3}, (8, 5, 2)),
            ({"from": 1, "to": 100, "count": 3, "scale": "log"}, (1, 10, 100)),
            ({"from": 2.0, "to": 1.0, "count": 2}, (2.0, 1.0)),
            ({"from": 0.1234567890123, "to": 0.3, "count": 2}, (0.1234567890123, 0.3)),
            ({"from": 0.0, "to": 0.3000000000001, "step": 0.1500000000001}, (0.0, 0.15, 0.3000000000001)),
            ({"from": 0.1, "to": 0.30000000000000004, "step": 0.1}, (0.1, 0.2, 0.30000000000000004)),
            ({"from": 1.234567890123e-5, "to": 1.0, "count": 2, "scale": "log"}, (1.234567890123e-5, 1.0)),
            ({"from": 10**14 + 1, "to": 10**14 + 5, "step": 2}, (10**14 + 1, 10**14 + 3, 10**14 + 5)),
            ({"from": 10**14 + 1, "to": 10**14 + 3, "count": 3}, (10**14 + 1, 10**14 + 2, 10**14 + 3)),
            ({"from": 1, "to": 2, "count": 3}, (1, 1.5, 2)),
        ],
    )
    def test_its_numbers_are_those_that_people_would_write(self, written: Any, values: Any) -> None:
        found = Range.model_validate(written).values
        assert found == values
        assert [type(number) for number in found] == [type(number) for number in values]

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ({"from": 1, "to": 2}, "either a count or a step"),
            ({"from": 1, "to": 2, "count": 2, "step": 1}, "either a count or a step"),
            ({"from": 1, "to": 2, "step": 0}, "0 does not lead from 1 to 2"),
            ({"from": 1, "to": 2, "step": -1}, "-1 does not lead from 1 to 2"),
            ({"from": 0, "to": 1, "step": 1e-9}, "in fewer than 10000 steps"),
            ({"from": 0, "to": 1, "step": 1e-320}, "in fewer than 10000 steps"),
            ({"from": 0, "to": 1, "step": -1e-320}, "in fewer than 10000 steps"),
            ({"from": 1, "to": 2, "step": 1, "scale": "log"}, "on a linear scale"),
            ({"from": 0, "to": 2, "count": 2, "scale": "log"}, "numbers above 0"),
            ({"from": 1, "to": 2, "count": 1}, "greater than or equal to 2"),
            ({"from": 1, "to": float("inf"), "count": 2}, "finite number"),
            ({"from": "1", "to": 2, "count": 2}, "valid integer"),
            ({"from": 1, "to": 2, "count": 2, "scale": "square"}, "'linear' or 'log'"),
            ({"first": 1, "to": 2, "count": 2}, "Field required"),
        ],
    )
    def test_one_that_makes_no_sense_is_refused(self, written: Any, message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            Range.model_validate(written)


class TestCells:
    def test_are_all_combinations_in_the_order_that_is_written(self) -> None:
        grid = {"optimizer.lr": [0.1, 0.2], "estimator.tau": {"from": 1, "to": 2, "count": 2}}
        cells = request(grid=grid).cells()
        assert [dict(cell.coordinates) for cell in cells] == [
            {"optimizer.lr": 0.1, "estimator.tau": 1},
            {"optimizer.lr": 0.1, "estimator.tau": 2},
            {"optimizer.lr": 0.2, "estimator.tau": 1},
            {"optimizer.lr": 0.2, "estimator.tau": 2},
        ]
        settings = [(cell.submission.optimizer.lr, cell.submission.estimator.model_dump()["tau"]) for cell in cells]
        assert settings == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]

    def test_without_a_grid_there_is_one(self) -> None:
        plan = request(seeds=3).plan()
        assert [dict(cell.coordinates) for cell in plan.cells] == [{}]
        assert (plan.seeds, plan.jobs) == ((0, 1, 2), 3)

    def test_objects_couple_fields(self) -> None:
        grid = {"task": [{"latents": 64, "p": 3}, {"latents": 128}]}
        cells = request(base=BASE | {"task": {"name": "polynomial", "c": 0.3}}, grid=grid).cells()
        tasks = [cell.submission.task.model_dump() for cell in cells]
        assert [(task["latents"], task["p"], task["c"]) for task in tasks] == [(64, 3, 0.3), (128, 2, 0.3)]

    def test_an_object_with_a_name_replaces_what_is_there(self) -> None:
        base = BASE | {"estimator": {"name": "reinmax", "tau": 1.5}}
        cells = request(base=base, grid={"estimator": [{"name": "reinmax"}, {"tau": 2}]}).cells()
        assert [cell.submission.estimator.model_dump()["tau"] for cell in cells] == [1.0, 2.0]

    @pytest.mark.parametrize("names_first", [True, False])
    def test_an_axis_counts_for_the_cells_that_have_its_field(self, names_first: bool) -> None:
        axes: dict[str, Any] = {"estimator": ["reinmax", "rloo"], "estimator.tau": [1, 2]}
        grid = axes if names_first else dict(reversed(axes.items()))
        found = coordinates(grid=grid)
        reinmax = [{"estimator": "reinmax", "estimator.tau": tau} for tau in (1, 2)]
        rloo = [{"estimator": "rloo", "estimator.tau": None}]
        assert found == (reinmax + rloo if names_first else rloo + reinmax)

    def test_an_axis_overrides_what_a_value_of_another_says(self) -> None:
        grid = {"estimator": ["reinmax", {"name": "gumbel_softmax", "tau": 0.5}], "tau": [1.0, 1.5]}
        taus = [cell.submission.estimator.model_dump()["tau"] for cell in request(grid=grid).cells()]
        assert taus == [1.0, 1.5, 1.0, 1.5]

    def test_the_temperature_of_the_base_gives_way_to_an_axis(self) -> None:
        cells = request(base=BASE | {"tau": 3}, grid={"estimator.tau": [1.0, 1.5]}).cells()
        assert [cell.submission.estimator.model_dump()["tau"] for cell in cells] == [1.0, 1.5]

    def test_the_optimizer_that_is_filled_in_decides_which_settings_there_are(self) -> None:
        sizes: dict[str, Any] = {"optimizer": ["adam", "sgd"], "optimizer.momentum": [0.0, 0.9]}
        found = coordinates(grid=sizes)
        assert [cell["optimizer.momentum"] for cell in found] == [None, 0.0, 0.9]
        with pytest.raises(InvalidSweep):
            request(grid={"optimizer.momentum": [0.0, 0.9]}).plan()

    def test_any_field_of_a_job_may_vary(self) -> None:
        grid = {"labels.arm": ["a", "b"], "hardware.memory_gb": [1], "max_attempts_by_cause.oom": [1, 2], "steps": [7]}
        cells = request(grid=grid, labels={"study": "x"}).cells()
        assert [cell.submission.labels for cell in cells[::2]] == [{"study": "x", "arm": arm} for arm in "ab"]
        assert {cell.submission.hardware.memory_gb for cell in cells} == {1}
        assert [dict(cell.submission.max_attempts_by_cause) for cell in cells[:2]] == [{"oom": 1}, {"oom": 2}]
        assert {cell.submission.steps for cell in cells} == {7}

    def test_recommended_settings_are_filled_in_for_each(self) -> None:
        base = {"task": {"name": "categorical_vae"}}
        cells = request(base=base, grid={"estimator": ["reinmax", "straight_through"]}).cells()
        assert len({cell.submission.optimizer.model_dump_json() for cell in cells}) == 2

    def test_thousands_are_made_in_seconds(self) -> None:
        grid = {"tau": {"from": 1, "to": 2, "count": 60}, "optimizer.lr": {"from": 1e-4, "to": 1, "count": 60}}
        begin = time.process_time()
        assert len(request(grid=grid).plan().cells) == 3600
        assert time.process_time() - begin < 3


class TestMistakes:
    def test_invalid_cells_are_all_named_with_what_is_wrong(self) -> None:
        with pytest.raises(InvalidSweep) as refusal:
            request(grid={"tau": [1, -1, 2, 0], "task.batch": [64, 0]}).plan()
        assert [cell.number for cell in refusal.value.cells] == [1, 2, 3, 5, 6, 7]
        assert {error["loc"][-1] for cell in refusal.value.cells for error in cell.errors} == {"tau", "batch"}

    def test_pairs_that_do_not_fit_are_invalid_cells(self) -> None:
        with pytest.raises(InvalidSweep) as refusal:
            request(grid={"estimator": ["rloo", "reinmax"], "task.batch": [1, 64]}).plan()
        assert [cell.number for cell in refusal.value.cells] == [0]

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("gird", 'unknown field "gird"; those that exist are: estimator, '),
            ("estimater", 'did you mean "estimator"?'),
            (
                "estimator.tua",
                'unknown field "tua" in estimator of the cells; did you mean "tau"? Those',
            ),
            ("estimator.samples", "those that exist are: baseline, most_weight, name, second_weight, tau"),
            ("gird.tau", 'unknown field "gird"'),
            ("optimizer.lr.x", "optimizer.lr has no fields of its own"),
            ("optimizer.schedule.x", 'unknown field "x" in optimizer.schedule of the cells'),
            (".", 'unknown field ""'),
        ],
    )
    def test_a_path_that_leads_nowhere_is_refused_with_those_that_exist(self, path: str, message: str) -> None:
        assert message in flaws(grid={path: [1]})["grid", path]

    def test_seeds_are_no_field_of_a_cell(self) -> None:
        assert "`seeds`" in flaws(base=BASE | {"seed": 3})["base", "seed"]
        assert "`seeds`" in flaws(grid={"seed": [1, 2]})["grid", "seed"]

    def test_what_is_there_twice_is_refused(self) -> None:
        assert "first at 0" in flaws(grid={"tau": [1, 2, 1]})["grid", "tau", 2]
        assert "cell 1 would be the same as cell 0" in flaws(grid={"tau": [1, 1.0]})["grid", "tau", 1]
        assert "same as cell" in flaws(grid={"estimator": ["reinmax", {"name": "reinmax"}]})["grid", "estimator", 1]
        assert "same field as tau" in flaws(grid={"tau": [1], "estimator.tau": [2]})["grid", "estimator.tau"]
        assert "second time" in flaws(seeds=[3, 4, 3])["seeds", 2]

    def test_a_choice_is_made_along_axes_that_exist(self) -> None:
        assert "those that exist are: tau" in flaws(grid={"tau": [1]}, select={"over": ["lr"]})["select", "over", 0]
        assert "the grid has none" in flaws(select={"over": ["lr"]})["select", "over", 0]

    def test_a_choice_among_tasks_names_its_metric(self) -> None:
        grid = {"task": ["polynomial", "gradient_quality"], "estimator.tau": [1.0, 1.5]}
        base = {"estimator": "reinmax"}
        assert (
            "have different ones" in flaws(base=base, grid=grid, select={"over": ["estimator.tau"]})["select", "metric"]
        )

    @pytest.mark.parametrize(
        ("choice", "metric", "direction"),
        [
            ({}, "expected_loss", "min"),
            ({"metric": "train_loss"}, "train_loss", "min"),
            ({"metric": "gap", "direction": "max"}, "gap", "max"),
        ],
    )
    def test_a_choice_is_by_the_objective_of_the_task(self, choice: Any, metric: str, direction: str) -> None:
        select = request(grid={"tau": [1, 2]}, select={"over": ["tau"]} | choice).plan().select
        assert select is not None
        assert (select.over, select.metric, select.direction) == (("tau",), metric, direction)

    def test_more_jobs_than_the_limit_are_refused_without_making_all(self) -> None:
        ranges = {path: {"from": 1, "to": 9, "count": 1000} for path in ("tau", "task.c", "task.p", "optimizer.lr")}
        (message,) = flaws(grid=ranges, seeds=10).values()
        assert "at least 101 cells with 10 seeds each, which are 1010 jobs, but a sweep may have 1000" in message
        assert "REINMAX_SWEEP_LIMIT" in message
        assert request(grid={"steps": {"from": 1, "to": 1000, "step": 1}}).plan(1000).jobs == 1000

    @pytest.mark.parametrize(
        "fields",
        [
            {"gird": {}},
            {"grid": {"tau": []}},
            {"grid": {"tau": 5}},
            {"grid": {"": [1]}},
            {"seeds": 0},
            {"seeds": []},
            {"seeds": [-1]},
            {"seeds": [2**53]},
            {"seeds": "10"},
            {"seeds": 1.5},
            {"seeds": True},
            {"select": {"over": []}},
            {"select": {"over": ["tau"], "direction": "up"}},
            {"labels": {"a b": "c"}},
            {"base": "polynomial"},
        ],
    )
    def test_what_has_another_form_is_refused(self, fields: Any) -> None:
        with pytest.raises(ValidationError):
            request(**fields)


class TestPresets:
    def test_what_stands_beside_the_name_changes_it(self) -> None:
        written = {
            "preset": "table-2-smoke",
            "base": {"hardware": "cuda", "task": {"batch": 50}},
            "grid": {"estimator": ["reinmax"]},
            "seeds": [5],
            "labels": {"study": "mine"},
        }
        whole = resolved(SweepRequest.model_validate(written), presets())
        plan, of_preset = whole.plan(), presets()["table-2-smoke"].sweep
        tasks = of_preset.axes["task"]
        assert isinstance(tasks, list)
        assert (whole.preset, len(plan.cells), plan.seeds) == ("table-2-smoke", len(tasks), (5,))
        submission = plan.cells[0].submission
        assert submission.hardware.device == "cuda"
        assert (submission.task.model_dump()["batch"], submission.task.name) == (50, "categorical_vae")
        assert (submission.labels, submission.estimator.name) == ({"study": "mine"}, "reinmax")
        assert SweepRequest.model_validate(whole.written).plan().cells == plan.cells

    def test_an_unknown_one_is_refused_with_those_that_exist(self) -> None:
        with pytest.raises(InvalidSweep) as refusal:
            resolved(SweepRequest.model_validate({"preset": "table-22"}), presets())
        (flaw,) = refusal.value.flaws
        assert flaw.place == ("preset",)
        assert 'there is no preset "table-22"; did you mean "table-2"? Those that exist are: ' in flaw.message

    def test_data_that_no_address_publishes_has_to_be_there(self, tmp_path: Any) -> None:
        here = DataSource(directory=tmp_path)
        written = SweepRequest.model_validate({"preset": "table-4", "seeds": 1})
        plan = resolved(written, presets()).plan()
        with pytest.raises(DataMissing, match="REINMAX_DATA_MIRROR"):
            check_data(plan, here)
        check_data(plan, here.model_copy(update={"mirrors": ("https://mirror.example/data",)}))
        check_data(request().plan(), here)

    def test_data_that_can_be_downloaded_is_not_missing(self, tmp_path: Any) -> None:
        written = SweepRequest.model_validate({"preset": "table-2-smoke"})
        check_data(resolved(written, presets()).plan(), DataSource(directory=tmp_path))
