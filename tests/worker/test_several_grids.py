"""A sweep over several grids: each with combinations of its own, told apart where something is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from reinmax_core.presets import presets
from reinmax_core.presets.grid import changed
from worker.sweep_axes import in_common
from worker.sweep_grid import Cell, InvalidSweep
from worker.sweep_plan import Plan
from worker.sweep_preset import resolved
from worker.sweep_request import SweepRequest

BASE = {"task": "polynomial", "steps": 100}
HIGH = {"estimator": ["reinmax"], "estimator.tau": [1.0, 1.5]}
LOW = {"estimator": ["gumbel_softmax"], "estimator.tau": {"from": 0.5, "to": 1, "count": 2}}


def request(grid: Any, **fields: Any) -> SweepRequest:
    return SweepRequest.model_validate({"base": BASE, "grid": grid} | fields)


def plan(grid: Any, **fields: Any) -> Plan:
    return request(grid, **fields).plan(1000)


def settings(cell: Cell) -> tuple[str, float]:
    estimator = cell.submission.estimator
    return estimator.name, estimator.model_dump()["tau"]


def flaws(grid: Any, **fields: Any) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(InvalidSweep) as refusal:
        plan(grid, **fields)
    assert refusal.value.cells == ()
    return {flaw.place: flaw.message for flaw in refusal.value.flaws}


class TestCells:
    def test_are_the_combinations_of_each_grid_in_order(self) -> None:
        cells = plan([HIGH, LOW]).cells
        assert [dict(cell.coordinates) for cell in cells] == [
            {"estimator": "reinmax", "estimator.tau": 1.0},
            {"estimator": "reinmax", "estimator.tau": 1.5},
            {"estimator": "gumbel_softmax", "estimator.tau": 0.5},
            {"estimator": "gumbel_softmax", "estimator.tau": 1.0},
        ]
        assert list(map(settings, cells)) == [
            ("reinmax", 1.0),
            ("reinmax", 1.5),
            ("gumbel_softmax", 0.5),
            ("gumbel_softmax", 1.0),
        ]

    def test_a_list_of_one_grid_is_that_grid(self) -> None:
        one, alone = plan([HIGH]), plan(HIGH)
        assert (one.cells, one.axes) == (alone.cells, alone.axes)

    def test_where_a_grid_lacks_an_axis_the_base_decides(self) -> None:
        cells = plan([HIGH, {"estimator": ["rloo"]}, {"optimizer.lr": [0.5]}], base=BASE | {"estimator": "exact"}).cells
        nowhere = {"estimator": None, "estimator.tau": None, "optimizer.lr": None}
        assert [dict(cell.coordinates) for cell in cells[2:]] == [
            nowhere | {"estimator": "rloo"},
            nowhere | {"optimizer.lr": 0.5},
        ]
        assert [cell.submission.estimator.name for cell in cells[2:]] == ["rloo", "exact"]

    def test_an_empty_grid_is_the_base_alone(self) -> None:
        cells = plan([{}, {"estimator.tau": [1.5]}], base=BASE | {"estimator": "reinmax"}).cells
        assert [settings(cell) for cell in cells] == [("reinmax", 1.0), ("reinmax", 1.5)]

    def test_what_several_grids_have_counts_once(self) -> None:
        cells = plan([HIGH, {"estimator.tau": [1.5, 1], "estimator": ["straight_through", "reinmax"]}]).cells
        assert sorted(map(settings, cells)) == [
            ("reinmax", 1.0),
            ("reinmax", 1.5),
            ("straight_through", 1.0),
            ("straight_through", 1.5),
        ]

    def test_are_chosen_from_along_axes_that_some_grid_has(self) -> None:
        select = plan([HIGH, LOW, {"estimator": ["rloo"]}], select={"over": ["estimator.tau"]}).select
        assert select is not None
        assert select.over == ("estimator.tau",)

    def test_what_is_written_is_read_back(self) -> None:
        written = request([HIGH, LOW]).written
        assert written["grid"] == [HIGH, LOW]
        assert SweepRequest.model_validate(written).plan().cells == plan([HIGH, LOW]).cells


class TestAxes:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([[1, 1.5], [0.1, 1.0]], [0.1, 1, 1.5]),
            ([[2.0, 1.0], [0.5]], [2.0, 1.0, 0.5]),
            ([[0.5], [{"name": "x"}, 0.25]], [0.5, {"name": "x"}, 0.25]),
            ([[False], [True, 1]], [False, True, 1]),
            ([[[1, 2]], [[1], [1, 2]]], [[1, 2], [1]]),
        ],
    )
    def test_have_the_values_of_all_grids_and_numbers_ascend(self, values: Any, expected: Any) -> None:
        grids = request([{"labels.x": one} for one in values]).grids
        (axis,), spelled = in_common(grids)
        assert list(axis.values) == expected
        assert list(map(type, axis.values)) == list(map(type, expected))
        assert all(value in axis.values for grid in spelled for own in grid.axes for value in own.values)

    def test_the_same_number_is_written_one_way(self) -> None:
        grids = [{"estimator": ["reinmax"], "tau": [1, 2]}, {"estimator": ["straight_through"], "tau": [1.0, 2.0]}]
        taus = [cell.coordinates["tau"] for cell in plan(grids).cells]
        assert list(map(repr, taus)) == ["1", "2", "1", "2"]


class TestWrongInput:
    def test_is_told_of_the_grid_that_it_is_in(self) -> None:
        assert 'unknown field "gird"' in flaws([HIGH, LOW | {"gird": [1]}])["grid", 1, "gird"]
        assert "first at 0" in flaws([HIGH, LOW | {"steps": [5, 5]}])["grid", 1, "steps", 1]
        assert "`seeds`" in flaws([HIGH, {"seed": [1]}])["grid", 1, "seed"]
        assert "same field as tau" in flaws([{"tau": [1], "estimator.tau": [2]}])["grid", 0, "estimator.tau"]

    def test_an_axis_of_some_cells_of_another_grid_alone_is_unknown(self) -> None:
        found = flaws([HIGH, {"estimator": ["rloo"], "estimator.tau": [1.0]}])
        assert "those that exist are: name, samples" in found["grid", 1, "estimator.tau"]

    def test_a_field_is_written_alike_in_all(self) -> None:
        found = flaws([HIGH, {"estimator": ["gumbel_softmax"], "tau": [0.5]}])
        assert found == {("grid", 1, "tau"): "tau is estimator.tau elsewhere in the grid; write it so, too"}

    def test_a_cell_of_two_grids_is_refused(self) -> None:
        (message,) = (found := flaws([HIGH, {"estimator": ["reinmax", "exact"]}])).values()
        assert list(found) == [("grid", 1)]
        assert "cell 2 would be the same as cell 0" in message

    def test_more_jobs_than_the_limit_are_counted_over_all_grids(self) -> None:
        steps = [{"steps": {"from": first, "to": first + 599, "step": 1}} for first in (1, 1001)]
        (message,) = flaws(steps, base=BASE | {"estimator": "reinmax"}).values()
        assert "at least 1001 cells" in message

    def test_invalid_cells_know_their_grid(self) -> None:
        with pytest.raises(InvalidSweep) as refusal:
            plan([HIGH, {"estimator": ["reinmax"], "estimator.tau": [2.0, 0.5]}])
        (cell,) = refusal.value.cells
        assert (cell.number, cell.draft.grid.place, cell.draft.places) == (3, ("grid", 1), (0, 1))


class TestPresets:
    @pytest.mark.parametrize(
        ("grid", "over", "expected"),
        [
            ({"a": [1], "b": [2]}, {"b": [3]}, {"a": [1], "b": [3]}),
            ([{"a": [1]}, {"b": [2]}], {"b": [3]}, [{"a": [1]}, {"b": [3]}]),
            ([{"a": [1]}, {"b": [2]}], {"c": [3]}, [{"a": [1], "c": [3]}, {"b": [2], "c": [3]}]),
            ({"a": [1]}, [{"b": [2]}], [{"b": [2]}]),
            ([{"a": [1]}], {}, [{"a": [1]}]),
        ],
    )
    def test_a_change_is_made_in_the_grids_that_have_the_axis(self, grid: Any, over: Any, expected: Any) -> None:
        assert changed(grid, over) == expected

    def test_a_request_changes_several_grids(self) -> None:
        whole = resolved(
            SweepRequest.model_validate({"preset": "figure-temperature", "grid": {"optimizer.lr": [1e-3]}}), presets()
        )
        of_preset = presets()["figure-temperature"].sweep
        assert whole.grid == [axes | {"optimizer.lr": [1e-3]} for axes in of_preset.grid]
        assert {cell.coordinates["optimizer.lr"] for cell in whole.plan().cells} == {1e-3}

    def test_a_changed_axis_of_several_grids_makes_no_cell_twice(self) -> None:
        written = {"preset": "figure-temperature", "grid": {"estimator.tau": [1.5]}}
        cells = resolved(SweepRequest.model_validate(written), presets()).plan().cells
        names = ["gumbel_softmax", "gapped_straight_through", "straight_through", "reinmax"]
        assert list(map(settings, cells)) == [(name, 1.5) for name in names]

    def test_a_list_takes_the_place_of_what_a_preset_varies(self) -> None:
        written = {"preset": "table-2", "grid": [{"estimator": ["reinmax"]}, {"estimator": ["exact"]}]}
        cells = resolved(SweepRequest.model_validate(written), presets()).plan().cells
        assert [dict(cell.coordinates) for cell in cells] == [{"estimator": "reinmax"}, {"estimator": "exact"}]

    def test_published_numbers_belong_to_cells_of_one_grid(self) -> None:
        preset = presets()["figure-temperature"]
        assert preset.sweep.has({"estimator": "reinmax", "estimator.tau": 1.0})
        assert preset.sweep.has({"estimator": "gapped_straight_through"})
        assert not preset.sweep.has({"estimator": "reinmax", "estimator.tau": 0.1})
