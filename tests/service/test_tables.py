"""Tables of sweeps: what they say, checked by hand and against scipy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from reinmax_core.presets import presets
from service.tables.formats import as_markdown
from service.tables.layout import Unfitting, Wishes, direction_of
from service.tables.lines import lines, unfinished
from service.tables.statistics import interval_of_mean, paired_difference, ranks, standard_deviation
from service.tables.table import Table
from service.tables.tabulation import tabulate
from tests.service.sweeps import ESTIMATORS, SIZES, by_estimator, outcomes, sweep
from worker.jobs import State
from worker.search import SearchProgress
from worker.sweep import Selection
from worker.sweep_path import merged


def cell(table: Table, row: str, column: str) -> Any:
    rows, columns = [entry.label for entry in table.rows], [entry.label for entry in table.columns]
    return table.cells[rows.index(row)][columns.index(column)]


class TestStatistics:
    def test_spread_and_interval_are_those_of_a_small_sample(self) -> None:
        values = [1.0, 2.0, 6.0]
        assert standard_deviation(values) == pytest.approx(7**0.5)
        found = interval_of_mean(values)
        expected = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem(values))
        assert found is not None
        assert (found.low, found.high) == pytest.approx(expected)

    def test_one_value_has_neither_and_says_so(self) -> None:
        assert standard_deviation([1.0]) is None
        assert interval_of_mean([1.0]) is None
        difference = paired_difference({0: 1.0, 1: 5.0}, {1: 2.0, 2: 9.0})
        assert (difference.mean, difference.low, difference.high, difference.n) == (3.0, None, None, 1)
        assert difference.note == "1 seed in common: no confidence interval"

    def test_differences_are_paired_by_seed(self) -> None:
        ours, theirs = {0: 1.0, 1: 2.0, 2: 6.0, 7: 100.0}, {2: 7.0, 1: 4.0, 0: 4.0}
        found = paired_difference(ours, theirs)
        test = stats.ttest_rel([1.0, 2.0, 6.0], [4.0, 4.0, 7.0])
        interval = test.confidence_interval(0.95)
        assert (found.mean, found.n) == (-2.0, 3)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    def test_without_a_common_seed_there_is_no_difference(self) -> None:
        assert paired_difference({0: 1.0}, {1: 2.0}).mean is None

    @pytest.mark.parametrize(("direction", "expected"), [("min", (1.0, 2.5, 2.5, 4.0)), ("max", (4.0, 2.5, 2.5, 1.0))])
    def test_ties_share_their_rank(self, direction: Any, expected: tuple[float, ...]) -> None:
        assert ranks([1.0, 2.0, 2.0, 3.0], direction) == expected


class TestTable:
    def test_estimators_are_rows_and_the_rest_columns(self) -> None:
        found = sweep({"task": SIZES, "estimator": ESTIMATORS})
        table = tabulate(found, outcomes(found, by_estimator))
        assert [row.label for row in table.rows] == ESTIMATORS
        assert [column.label for column in table.columns] == ["8x4", "4x24"]
        assert table.is_complete
        assert table.compared == "rows"

    def test_cells_have_mean_spread_and_number(self) -> None:
        found = sweep({"estimator": ESTIMATORS})
        table = tabulate(found, outcomes(found, by_estimator))
        first = cell(table, "reinmax", "expected_loss")
        assert (first.mean, first.sd, first.n, first.n_expected) == (3.0, pytest.approx(7**0.5), 3, 3)
        assert [row[0].best for row in table.cells if row[0]] == [True, False, True]  # both have a mean of 3

    def test_the_baseline_is_paired_with_each_other_cell(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": [2, 3]})
        table = tabulate(found, outcomes(found, by_estimator), wishes=Wishes(baseline="straight_through"))
        difference = cell(table, "reinmax", "p=2").difference
        assert (difference.mean, difference.n) == (-2.0, 3)
        assert difference.low < -2 < difference.high
        assert cell(table, "straight_through", "p=3").difference is None
        assert table.baseline == "straight_through"

    def test_a_column_may_be_the_baseline(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": [2, 3]})
        made = outcomes(found, lambda at, seed: {"expected_loss": at["task.p"] + float(seed)})
        table = tabulate(found, made, wishes=Wishes(baseline="p=2"))
        assert cell(table, "reinmax", "p=3").difference.mean == 1.0
        assert cell(table, "reinmax", "p=2").difference is None

    def test_ranks_are_averaged_over_the_columns_that_all_have(self) -> None:
        order = {2: (1.0, 2.0, 3.0), 3: (2.0, 1.0, 3.0), 4: (9.0, 1.0, None)}
        found = sweep({"estimator": ESTIMATORS, "task.p": list(order)}, seeds=1)

        def values(at: dict[str, Any], seed: int) -> dict[str, float] | None:
            value = order[at["task.p"]][ESTIMATORS.index(at["estimator"])]
            return None if value is None else {"expected_loss": value}

        table = tabulate(found, outcomes(found, values))
        assert [(row.average_rank, row.ranked_over) for row in table.rows] == [(1.5, 2), (1.5, 2), (3.0, 2)]

    def test_the_larger_is_better_where_the_task_says_so(self) -> None:
        found = sweep({"estimator": ESTIMATORS}, request={"base": {"task": "listops"}})
        made = outcomes(found, lambda at, seed: {"valid_accuracy": float(ESTIMATORS.index(at["estimator"]))})
        table = tabulate(found, made)
        assert [metric.direction for metric in table.metrics] == ["max"]
        assert [line[0].best for line in table.cells if line[0]] == [False, False, True]
        assert direction_of("wall_time_s", found, None) == "min"

    def test_several_metrics_are_blocks_of_rows(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": [2, 3]}, seeds=2)
        made = outcomes(found, lambda at, seed: {"loss": 1.0 + seed, "accuracy": 2.0 + seed})
        table = tabulate(found, made, wishes=Wishes(metrics=("loss", "accuracy")))
        assert [row.metric for row in table.rows] == ["loss"] * 3 + ["accuracy"] * 3
        assert {line[0].mean for line in table.cells[3:] if line[0]} == {2.5}

    def test_metrics_are_the_columns_where_no_axis_is(self) -> None:
        found = sweep({"estimator": ESTIMATORS}, seeds=2)
        made = outcomes(found, lambda at, seed: {"loss": 1.0 + seed, "accuracy": 2.0 + seed})
        table = tabulate(found, made, wishes=Wishes(metrics=("loss", "accuracy")))
        assert [column.label for column in table.columns] == ["loss", "accuracy"]

    def test_a_sweep_without_a_grid_has_one_cell(self) -> None:
        found = sweep({}, name="ten seeds")
        table = tabulate(found, outcomes(found, lambda at, seed: {"expected_loss": float(seed)}))
        assert [row.label for row in table.rows] == ["ten seeds"]
        assert cell(table, "ten seeds", "expected_loss").mean == 1.0

    def test_an_axis_that_does_not_apply_has_a_place_of_its_own(self) -> None:
        found = sweep({"estimator": ["reinforce", "reinmax"], "estimator.tau": [0.5, 1.0]}, seeds=1, cells=3)
        made = outcomes(found, lambda at, seed: {"expected_loss": 1.0})
        without = replace(made[0], coordinates={"estimator": "reinforce", "estimator.tau": None})
        table = tabulate(found, [without, *made[2:]])
        assert [column.label for column in table.columns] == ["tau=0.5", "tau=1.0", "–"]
        assert cell(table, "reinmax", "–") is None
        assert cell(table, "reinforce", "–").mean == 1.0

    def test_the_trials_of_a_search_are_rows(self) -> None:
        search = SearchProgress(metric="gap", direction="max", trials=9)
        found = sweep({"optimizer.lr": [0.0001, 0.00031622776601683794], "task.p": [2, 3]}, cells=2, search=search)
        made = outcomes(found, lambda at, seed: {"gap": at["task.p"] + seed / 10})
        table = tabulate(found, [one for one in made if one.cell in (0, 3)])
        assert [row.label for row in table.rows] == ["lr=0.0001 p=2", "lr=0.0003162 p=3"]
        assert [line[0].best for line in table.cells if line[0]] == [False, True]
        assert [metric.name for metric in table.metrics] == ["gap"]

    def test_the_cells_of_a_sparse_grid_are_rows(self) -> None:
        rates = [10.0**-power for power in range(20)]
        found = sweep({"optimizer.lr": rates, "task.p": list(range(20))}, seeds=1, cells=20)
        made = [one for one in outcomes(found, lambda at, seed: {"expected_loss": 1.0}) if one.cell % 21 == 0]
        table = tabulate(found, made)
        assert (len(table.rows), len(table.columns)) == (20, 1)


class TestSelection:
    SELECT = Selection(over=("estimator.tau",), metric="valid", direction="min")

    def table(self, **wishes: Any) -> Table:
        found = sweep({"estimator": ["reinmax", "rebar"], "estimator.tau": [0.5, 1.0, 2.0]}, select=self.SELECT)

        def values(at: dict[str, Any], seed: int) -> dict[str, float]:
            return {"valid": abs(at["estimator.tau"] - 1.0) + seed / 100, "test": 10 * at["estimator.tau"] + seed}

        return tabulate(found, outcomes(found, values), wishes=Wishes(**wishes))

    def test_the_best_cell_is_chosen_by_its_mean_and_shown_with_what_it_was_chosen_for(self) -> None:
        table = self.table(metrics=("test",))
        assert [line[0].selected for line in table.cells if line[0]] == [{"estimator.tau": 1.0}] * 2
        assert cell(table, "reinmax", "test").mean == 11.0  # of the cell that is best in `valid`
        assert "tau=1.0" in as_markdown(table)

    def test_axes_that_are_shown_are_not_chosen_from(self) -> None:
        table = self.table(columns=("estimator.tau",))
        assert [column.label for column in table.columns] == ["tau=0.5", "tau=1.0", "tau=2.0"]

    def test_a_user_may_choose_over_any_axis(self) -> None:
        table = self.table(select=("estimator", "estimator.tau"))
        assert len(table.rows) == 1

    def test_a_cell_that_lost_seeds_does_not_compete(self) -> None:
        found = sweep({"estimator": ["reinmax"], "estimator.tau": [0.1, 1.0]}, select=self.SELECT)
        made = outcomes(
            found, lambda at, seed: {"valid": at["estimator.tau"] + seed}, {(0, 1): State.FAILED, (0, 2): State.FAILED}
        )
        (line,) = tabulate(found, made).cells
        assert line[0] is not None
        assert line[0].selected == {"estimator.tau": 1.0}
        assert not line[0].is_complete


class TestIncomplete:
    def test_what_is_there_is_shown_and_marked(self) -> None:
        found = sweep({"estimator": ESTIMATORS})
        states = {(0, 2): State.RUNNING, (1, 0): State.FAILED, (1, 1): State.FAILED, (2, 0): State.CANCELLED}
        made = outcomes(found, by_estimator, states)
        table = tabulate(found, made)
        running, failed, cancelled = (line[0] for line in table.cells)
        assert running is not None
        assert failed is not None
        assert cancelled is not None
        assert (running.mean, running.n, running.n_expected) == (1.5, 2, 3)
        assert (failed.mean, failed.sd, failed.interval) == (7.0, None, None)
        assert failed.notes == ("2 of 3 jobs failed; the mean is over the others", "1 seed: no standard deviation")
        assert not table.is_complete
        assert [(job.job, job.status) for job in table.unfinished] == [
            ("job_1_0", State.FAILED), ("job_1_1", State.FAILED), ("job_2_0", State.CANCELLED),
        ]  # fmt: skip
        assert table.counts == {State.SUCCEEDED: 5, State.RUNNING: 1, State.FAILED: 2, State.CANCELLED: 1}
        assert any("5 of 9 jobs have succeeded (1 running, 2 failed, 1 cancelled)" in note for note in table.notes)
        assert "(2/3)" in as_markdown(table)

    def test_jobs_that_were_deleted_are_missing(self) -> None:
        found = sweep({"estimator": ESTIMATORS})
        made = [one for one in outcomes(found, by_estimator) if one.job_id != "job_0_2" and one.cell != 2]
        table = tabulate(found, made)
        first, second = (line[0] for line in table.cells)
        assert first is not None
        assert second is not None
        assert (first.n, first.n_expected, first.is_complete) == (2, 3, False)
        assert (second.n, second.n_expected, second.is_complete) == (3, 3, True)
        assert first.notes == ("1 of 3 jobs deleted; the mean is over the others",)
        assert not table.is_complete
        assert "Incomplete: 5 of 9 jobs have succeeded (4 deleted)." in table.notes
        assert "(2/3)" in as_markdown(table)

    def test_pruned_trials_of_a_search_are_not_missing_and_do_not_compete(self) -> None:
        search = SearchProgress(metric="gap", direction="min", trials=3)
        found = sweep({"optimizer.lr": [0.1, 0.2, 0.3]}, search=search)
        states = {(0, 1): State.CANCELLED, (0, 2): State.CANCELLED}
        made = outcomes(found, lambda at, seed: {"gap": at["optimizer.lr"]}, states)
        made = [replace(one, reason="pruned") if one.status is State.CANCELLED else one for one in made]
        table = tabulate(found, made)
        assert [line[0].best for line in table.cells if line[0]] == [False, True, False]
        assert [row.average_rank for row in table.rows] == [None, 1.0, 2.0]
        assert table.is_complete
        assert table.notes[0] == "1 of 3 trials were pruned as hopeless; they take no part in comparisons."
        assert not any(note.startswith("Incomplete") for note in table.notes)
        assert (table.pruned, table.unfinished, unfinished(table)) == (2, (), ())

    def test_a_sweep_that_has_just_begun_is_a_table_of_gaps(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task": SIZES})
        table = tabulate(found, outcomes(found, lambda at, seed: None))
        assert {one.mean for line in table.cells for one in line if one} == {None}
        assert "– (0/3)" in as_markdown(table)
        assert not any(one.best for line in table.cells for one in line if one)
        assert all(row.average_rank is None for row in table.rows)

    def test_a_single_seed_has_no_spread_and_the_table_says_so(self) -> None:
        found = sweep({"estimator": ESTIMATORS}, seeds=1)
        table = tabulate(found, outcomes(found, by_estimator))
        assert {line[0].sd for line in table.cells if line[0]} == {None}
        assert any("fewer than two seeds" in note for note in table.notes)
        assert "±" not in "".join(text.words for line in lines(table) for text in line.texts)

    def test_a_usual_metric_that_no_job_has_is_told_with_those_that_exist(self) -> None:
        found = sweep({"estimator": ["reinmax"]})
        table = tabulate(found, outcomes(found, lambda at, seed: {"gap": 1.0, "loss": 2.0}))
        assert "No job has a value of expected_loss; those that exist are: gap, loss." in table.notes

    def test_values_that_are_not_finite_do_not_count(self) -> None:
        found = sweep({"estimator": ["reinmax"]})
        made = outcomes(found, lambda at, seed: {"expected_loss": float("nan") if seed else 1.0})
        (line,) = tabulate(found, made).cells
        assert line[0] is not None
        assert (line[0].mean, line[0].n) == (1.0, 1)


class TestPublished:
    PRESET = presets()["table-2"]

    def table(self, offset: float, changed: dict[str, Any] | None = None, **axes: Any) -> Table:
        grid = {path: values for path, values in self.PRESET.sweep.axes.items() if isinstance(values, list)}
        base = merged(self.PRESET.sweep.base, changed or {})
        found = sweep(grid | axes, preset="table-2", request={"base": base})
        known = {json.dumps(one.at): one for one in self.PRESET.published if one.metric == "train_loss"}

        def values(at: dict[str, Any], seed: int) -> dict[str, float]:
            one = known[json.dumps({path: place for path, place in at.items() if path in grid})]
            return {"train_loss": one.mean + offset * (one.spread or 1.0) + 0.01 * (seed - 1), "test_loss": 100.0}

        return tabulate(found, outcomes(found, values), preset=self.PRESET)

    def test_a_short_form_is_not_held_against_the_published_values(self) -> None:
        preset = presets()["table-2-smoke"]
        grid = {path: values for path, values in preset.sweep.axes.items() if isinstance(values, list)}
        found = sweep(grid, preset=preset.name)
        table = tabulate(found, outcomes(found, lambda at, seed: {"train_loss": 1.0, "test_loss": 1.0}), preset=preset)
        cells = [cell for line in table.cells for cell in line if cell]
        assert {cell.within_published for cell in cells} == {None}
        assert any(cell.published for cell in cells)
        assert "This is the short form of table-2: its values are not those of the published runs." in table.notes

    def test_each_cell_stands_beside_its_number(self) -> None:
        table = self.table(0.5)
        reinmax = next(
            number for number, row in enumerate(table.rows) if (row.label, row.metric) == ("reinmax", "train_loss")
        )
        first = table.cells[reinmax][0]
        assert first is not None
        assert first.published is not None
        assert (first.published.mean, first.published.spread, first.published.n) == (124.66, 0.88, 10)
        assert first.published.difference == pytest.approx(0.44)
        assert table.title == self.PRESET.title

    @pytest.mark.parametrize(("offset", "expected"), [(0.0, True), (-0.99, True), (1.01, False)])
    def test_within_means_no_farther_than_the_published_spread(self, offset: float, expected: bool) -> None:
        found = [one for line in self.table(offset).cells for one in line if one and one.published]
        with_spread = [one for one in found if one.published and one.published.spread is not None]
        assert {one.within_published for one in with_spread} == {expected}
        assert {one.within_published for one in found if one not in with_spread} <= {None}

    @pytest.mark.parametrize(
        ("changed", "axes", "named"),
        [
            ({"task": {"dataset": "fashion_mnist"}}, {}, "task.dataset"),
            ({"steps": 10}, {}, "steps"),
            ({}, {"optimizer.lr": [0.1]}, "optimizer.lr"),
        ],
    )
    def test_a_changed_preset_is_not_held_against_the_published_values(
        self, changed: dict[str, Any], axes: dict[str, Any], named: str
    ) -> None:
        table = self.table(0.0, changed, **axes)
        cells = [cell for line in table.cells for cell in line if cell]
        assert {cell.within_published for cell in cells} == {None}
        assert any(cell.published for cell in cells)
        assert f"Not held against the published values: {named} changed from table-2." in table.notes

    def test_where_and_when_it_runs_is_no_change(self) -> None:
        beside = {"hardware": {"device": "cpu"}, "priority": 3, "labels": {"a": "b"}, "packing": False, "timeout_s": 9}
        assert self.table(0.0, beside) == self.table(0.0)

    @pytest.mark.parametrize("name", list(presets()))
    def test_every_preset_has_a_table(self, name: str) -> None:
        preset = presets()[name]
        grid = {path: values for path, values in preset.sweep.axes.items() if isinstance(values, list)}
        found = sweep(grid, seeds=2, preset=name)
        made = outcomes(found, lambda at, seed: dict.fromkeys(preset.layout.metrics, 1.0 + seed))
        table = tabulate(found, made, preset=preset)
        assert {metric.name for metric in table.metrics} == set(preset.layout.metrics)
        beside = sum(one.published is not None for line in table.cells for one in line if one)
        assert beside == sum(one.metric in preset.layout.metrics for one in preset.published)


class TestWrongWishes:
    @pytest.mark.parametrize(
        ("wishes", "parameter", "message"),
        [
            (Wishes(metrics=("los",)), "metric", "no metric 'los'; did you mean 'loss'? Those that exist are"),
            (Wishes(rows=("tau",)), "rows", "the sweep has no axis 'tau'; those that exist are: estimator, task.p"),
            (Wishes(columns=("task.q",)), "columns", "did you mean 'task.p'?"),
            (Wishes(select=("nothing",)), "select", "the sweep has no axis 'nothing'"),
            (Wishes(baseline="exact"), "baseline", "one of: reinmax, straight_through, gumbel_softmax, p=2, p=3"),
            (Wishes(rows=("estimator",), columns=()), "rows", "task.p has no place; add it to rows or columns"),
            (Wishes(rows=("estimator",), columns=("estimator",)), "columns", "cannot stand in rows and in columns"),
            (Wishes(rows=("estimator",), select=("estimator",)), "select", "cannot be selected over and shown"),
        ],
    )  # fmt: skip
    def test_what_does_not_exist_is_refused_with_what_does(self, wishes: Wishes, parameter: str, message: str) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": [2, 3]})
        made = outcomes(found, lambda at, seed: {"loss": 1.0, "gap": 2.0})
        with pytest.raises(Unfitting, match=re.escape(message)) as refused:
            tabulate(found, made, wishes=wishes)
        assert refused.value.parameter == parameter
